"""Place the forgeries of a benchmark: apart from gaps, marks and each other, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from stackwitness_detectors.contract import Context, Frame, Times, Values
from stackwitness_detectors.forge.kinds import KINDS
from stackwitness_detectors.forge.making import forge
from stackwitness_detectors.forge.registry import DURATIONS, LEVELS, Forgery
from stackwitness_detectors.forge.window import (
    DAY_MS,
    HISTORY_MIN,
    HOUR_MS,
    NORMAL,
    ForgeError,
    Surroundings,
    forgeable_channels,
)

_COVERED = 0.8  # share of the interval that must hold normal readings
_TRIES = 200
_MISSES = 30  # so many unfit places in a row at the outset: there is none
_EXCEEDING = 8  # readings above the limit that a kind about the limit should meet
_SPAN_SHARE = 0.4  # the longest interval is at most this share of the data
_VISIT_DAYS = 45  # an inspector comes about this often
_INNER = 3  # of the levels, the least one that must have an effect at a place: "strong"

Interval = tuple[int, int]


@dataclass(frozen=True)
class Injection:
    """Name one forgery to make: what, where, how strong; `honest_ms` are the audits it respects."""

    kind: str
    channel: str
    level: str
    strength: float
    duration: str
    from_ms: int
    to_ms: int
    seed: int
    honest_ms: tuple[Interval, ...] = ()


def plan(
    kind: str,
    context: Context,
    frame: Frame,
    strengths: Sequence[str] = LEVELS,
    durations: Sequence[str] = DURATIONS,
    starts: int = 5,
    seed: int = 0,
    *,
    channel: str | None = None,
    around: Surroundings | None = None,
    within: Interval | None = None,
    avoid: Iterable[Interval] = (),
) -> tuple[Injection, ...]:
    """Place `starts` injections of a kind for each named strength and duration, as far as there is room.

    Within one duration the places do not overlap, and all strengths share them (power curves are paired), so
    one level and duration fit into one frame. Durations shrink in proportion where the data are short.
    `channel` None takes the first that can be forged; `within` is the test period ([from, to) in ms), `avoid`
    known episodes. Kinds that need audits get seeded ones unless `around` names them. Raises ForgeError:
    forge.kind, forge.channel, forge.needs, forge.strength, and forge.room where no place at all is fit.
    """
    forgery = _known(kind, strengths, durations)
    name = channel or next(iter(forgeable_channels(context, frame)), None)
    if name is None or name not in frame.values:
        raise ForgeError("forge.channel", f"{context.stn} has no channel {channel or 'to forge'}")
    site = _Site(
        forgery, frame, context, name, around, tuple(strengths), within or _span(frame), tuple(avoid)
    )
    return _place(site, kind, durations, starts, seed)


@dataclass(frozen=True)
class _Site:
    """Hold what all places of one plan have in common."""

    forgery: Forgery
    frame: Frame
    context: Context
    name: str
    around: Surroundings | None
    strengths: tuple[str, ...]
    span: Interval
    avoid: tuple[Interval, ...]


def _place(site: _Site, kind: str, durations: Sequence[str], starts: int, seed: int) -> tuple[Injection, ...]:
    """Return the injections of all durations; raise ForgeError forge.needs | forge.room when there are none."""
    stn, name = site.context.stn, site.name
    placed: list[Injection] = []
    refused: ForgeError | None = None
    for duration in durations:
        rng = np.random.default_rng([seed, crc32(f"{kind} {stn} {name} {duration}".encode())])
        found, refused = _fill(site, duration, starts, rng)
        placed += found
    if not placed:
        if refused is not None and refused.code == "forge.needs":
            raise refused
        raise ForgeError("forge.room", f"no place in {stn} {name} is fit for {kind}: {refused or 'gaps'}")
    return tuple(placed)


def _fill(
    site: _Site, duration: str, starts: int, rng: np.random.Generator
) -> tuple[list[Injection], ForgeError | None]:
    """Return the injections of one duration, and why the last unfit place was refused."""
    length = _length_ms(site.forgery, duration, site.span[1] - site.span[0])
    candidates = _candidates(site.frame, site.name, *site.span, length, site.avoid)
    if "a limit" in site.forgery.needs:
        candidates = _exceeding(site.frame, site.context, site.name, candidates, length)
    placed: list[Injection] = []
    taken: list[Interval] = []
    refused: ForgeError | None = None
    misses = 0
    for from_ms in rng.permutation(candidates)[:_TRIES].tolist():
        interval = (from_ms, from_ms + length)
        if len(taken) >= starts or (not taken and misses >= _MISSES):
            break
        if any(from_ms < end and begin < interval[1] for begin, end in taken):
            continue
        honest = _visits(site.forgery, interval, site.around, rng)
        seed = int(rng.integers(2**31))
        made = Injection(site.forgery.kind, site.name, "", 0.0, duration, *interval, seed, honest)
        try:
            placed += _effective(site, made)
        except ForgeError as error:
            refused, misses = error, misses + 1
        else:
            taken.append(interval)
    return placed, refused


def assume_limits(context: Context, frame: Frame, exceeded: float = 0.1) -> Context:
    """Return the context with a limit for every channel to forge that has none: data sets seldom name one.

    It is the level that the share `exceeded` of the readings lies above, to two digits, so that forgeries
    and detectors speak of the same limit.
    """
    names = forgeable_channels(context, frame)
    channels = tuple(
        replace(c, limit=_assumed(np.asarray(frame.values[c.name], np.float64), exceeded))
        if c.limit is None and c.name in names
        else c
        for c in context.channels
    )
    return replace(context, channels=channels)


def _assumed(values: Values, exceeded: float) -> float | None:
    finite = values[np.isfinite(values)]
    level = float(np.quantile(finite, 1.0 - exceeded)) if finite.size else 0.0
    return float(f"{level:.2g}") if level > 0.0 else None


def inject(frame: Frame, context: Context, injection: Injection, around: Surroundings | None = None) -> Frame:
    """Make one planned forgery. Raises ForgeError as `forge` does."""
    there = replace(around or Surroundings(), honest_ms=injection.honest_ms)
    return forge(
        injection.kind,
        frame,
        context,
        injection.channel,
        injection.from_ms,
        injection.to_ms,
        injection.strength,
        injection.seed,
        there,
    )


def _known(kind: str, strengths: Sequence[str], durations: Sequence[str]) -> Forgery:
    if kind not in KINDS:
        raise ForgeError("forge.kind", f"{kind!r} is none of {', '.join(KINDS)}")
    for given, names in ((strengths, LEVELS), (durations, DURATIONS)):
        for name in given:
            if name not in names:
                raise ForgeError("forge.strength", f"{name!r} is none of {', '.join(names)}")
    return KINDS[kind]


def _span(frame: Frame) -> Interval:
    if frame.at_ms.size < 2 * HISTORY_MIN or not (np.diff(frame.at_ms) > 0).all():
        raise ForgeError("forge.room", f"needs {2 * HISTORY_MIN} readings at increasing times")
    return int(frame.at_ms[0]), int(frame.at_ms[-1])


def _length_ms(forgery: Forgery, duration: str, span_ms: int) -> int:
    shrink = min(1.0, _SPAN_SHARE * span_ms / (forgery.durations_h[-1] * HOUR_MS))
    return max(1, int(forgery.durations_h[DURATIONS.index(duration)] * HOUR_MS * shrink))


def _candidates(
    frame: Frame, name: str, first: int, last: int, length: int, avoid: tuple[Interval, ...]
) -> Times:
    """Return the times where an interval may start: enough history before, enough normal readings inside."""
    at_ms, letters = frame.at_ms, frame.status.get(name)
    if at_ms.size < 2 * HISTORY_MIN or not (np.diff(at_ms) > 0).all():
        raise ForgeError("forge.room", f"needs {2 * HISTORY_MIN} readings at increasing times")
    normal = np.isfinite(np.asarray(frame.values[name], np.float64))
    if letters is not None:
        normal &= (letters == NORMAL) | (letters == 0)
    count = np.concatenate([[0], np.cumsum(normal)])
    ends = np.searchsorted(at_ms, at_ms + length)
    step = float(np.median(np.diff(at_ms)))
    days = -(-length // DAY_MS) * DAY_MS if length >= DAY_MS // 4 else length
    early = min(days, (int(at_ms[-1]) - int(at_ms[0])) // 3)
    fit = count[ends] - count[:-1] >= max(2.0, _COVERED * length / step)
    fit &= (at_ms >= max(first, int(at_ms[0]) + early)) & (at_ms + length <= last)
    fit &= count[:-1] >= HISTORY_MIN
    for begin, end in avoid:
        fit &= (at_ms + length <= begin) | (at_ms >= end)
    starts: Times = at_ms[fit]
    return starts


def _exceeding(frame: Frame, context: Context, name: str, starts: Times, length: int) -> Times:
    """Return the places with enough readings above the limit, or, of a clean station, those with any."""
    values = np.asarray(frame.values[name], np.float64)
    finite = values[np.isfinite(values)]
    limit = next((c.limit for c in context.channels if c.name == name), None)
    if limit is None:
        limit = float(np.quantile(finite, 0.8)) if finite.size else 0.0
    letters = frame.status.get(name)
    above = values > limit
    if letters is not None:
        above &= (letters == NORMAL) | (letters == 0)
    count = np.concatenate([[0], np.cumsum(above)])
    met = count[np.searchsorted(frame.at_ms, starts + length)] - count[np.searchsorted(frame.at_ms, starts)]
    fit: Times = starts[met >= _EXCEEDING] if (met >= _EXCEEDING).any() else starts[met > 0]
    return fit


def _visits(
    forgery: Forgery, interval: Interval, around: Surroundings | None, rng: np.random.Generator
) -> tuple[Interval, ...]:
    """Return the audits given, or draw some days (of short intervals, tenths) for a kind that needs them."""
    if around is not None and around.honest_ms:
        return around.honest_ms
    if "audits" not in forgery.needs:
        return ()
    length = interval[1] - interval[0]
    stay = max(1, min(DAY_MS, length // 10))
    count = max(2, round(length / (_VISIT_DAYS * DAY_MS)))
    starts = interval[0] + np.sort(rng.integers(0, max(1, length - stay), count))
    return tuple((int(start), int(start) + stay) for start in starts)


def _effective(site: _Site, made: Injection) -> list[Injection]:
    """Return the injection at each level that changes something. Raises what the "strong" level raises."""
    forgery = site.forgery
    levels = [replace(made, level=level, strength=forgery.strength_of(level)) for level in site.strengths]
    inject(site.frame, site.context, replace(made, strength=forgery.strengths[_INNER - 1]), site.around)
    if "a limit" not in forgery.needs:
        return levels
    kept = []
    for injection in levels:
        try:
            inject(site.frame, site.context, injection, site.around)
        except ForgeError as error:
            if error.code != "forge.nothing":
                raise
        else:
            kept.append(injection)
    return kept
