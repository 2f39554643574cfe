"""Plan forgeries: kind x strength x duration x start over stations, seeded, each one really changing something."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.bench.splits import Split
from stackwitness_detectors.contract import Context, DetectorError, Frame
from stackwitness_detectors.forge import (
    DURATIONS,
    KINDS,
    LEVELS,
    Injection,
    Surroundings,
    forgeable_channels,
    hidden_mass,
    inject,
    plan,
)
from stackwitness_detectors.memory import HOUR_MS

LEAST_CHANGED = 8  # changed readings: with fewer exceedances clipping or bunching is no forgery to speak of
_STARTS = 4  # places to choose from


@dataclass(frozen=True)
class Trial:
    """Name one forgery to be made, and where."""

    id: str
    stn: str
    made: Injection
    seed: int = 0

    @property
    def kind(self) -> str:
        """Return the kind of forgery."""
        return self.made.kind

    @property
    def channel(self) -> str:
        """Return the channel that is forged."""
        return self.made.channel

    @property
    def from_ms(self) -> int:
        """Return where the forged interval begins."""
        return self.made.from_ms

    @property
    def to_ms(self) -> int:
        """Return where it ends (exclusive)."""
        return self.made.to_ms

    def tree(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return asdict(self)


def trial_of(tree: dict[str, Any]) -> Trial:
    """Read a trial back."""
    made = {**tree["made"], "honest_ms": tuple((int(a), int(b)) for a, b in tree["made"]["honest_ms"])}
    return Trial(tree["id"], tree["stn"], Injection(**made), tree.get("seed", 0))


@dataclass(frozen=True)
class Place:
    """Hold one station to forge in: its readings, its parts of time, its operating hours, a like neighbour."""

    context: Context
    frame: Frame
    split: Split
    hours: NDArray[np.int64]
    neighbours: tuple[tuple[Context, Frame], ...] = ()

    def targets(self) -> list[str]:
        """Name the channels a forger would forge."""
        return list(forgeable_channels(self.context, self.frame))


def plan_trials(
    places: Mapping[str, Place],
    kinds: Sequence[str],
    per_kind: int,
    seed: int,
    levels: Sequence[str] = LEVELS,
    durations: Sequence[str] = DURATIONS,
    first: int = 0,
) -> tuple[list[Trial], dict[str, int], dict[str, str]]:
    """Plan `per_kind` trials of each kind, round robin over stations, strengths and durations, from the `first` number on.

    Also gives, per kind, how many could not be made, and the last reason (no oxygen, nothing to copy, nothing
    above the limit, too short a test part). Raises DetectorError forge.kind.
    """
    trials: list[Trial] = []
    skipped: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise DetectorError("forge.kind", f"{kind!r} is none of {', '.join(KINDS)}")
        order = _rng(seed, kind, -1).permutation(len(places))
        for number in range(first, first + per_kind):
            stn = list(places)[int(order[number % len(order)])]
            level = levels[number % len(levels)]
            duration = durations[(number // len(levels)) % len(durations)]
            try:
                made = _place(places[stn], kind, level, duration, _rng(seed, kind, number))
                trials.append(Trial(f"{kind}.{number}.{stn}", stn, made, seed))
            except DetectorError as wrong:
                skipped[kind] = skipped.get(kind, 0) + 1
                reasons[kind] = str(wrong)
    return trials, skipped, reasons


def make(place: Place, trial: Trial) -> Frame:
    """Return the station's readings with the forgery in them."""
    return inject(place.frame, place.context, trial.made, Surroundings(place.neighbours))


def changed_rows(clean: Frame, forged: Frame) -> NDArray[np.bool_]:
    """Tell for each row whether any value or mark differs."""
    differs = np.zeros(len(clean.at_ms), np.bool_)
    for name, values in clean.values.items():
        other = forged.values[name]
        differs |= (values != other) & ~(np.isnan(values) & np.isnan(other))
        if name in forged.status:
            before = clean.status.get(name)
            differs |= forged.status[name] != (ord("N") if before is None else before)
    return differs


def _rng(seed: int, kind: str, number: int) -> np.random.Generator:
    text = f"{seed}:{kind}:{number}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))


def _place(place: Place, kind: str, level: str, duration: str, rng: np.random.Generator) -> Injection:
    names = place.targets()
    if not names:
        raise DetectorError("forge.channel", "the station has no channel to forge")
    channel = names[int(rng.integers(len(names)))]
    found = plan(
        kind,
        place.context,
        place.frame,
        (level,),
        (duration,),
        _STARTS,
        int(rng.integers(2**31)),
        channel=channel,
        around=Surroundings(place.neighbours),
        within=(place.split.test_ms, place.split.end_ms),
    )
    for made in found:
        if _worth(place, Trial("", place.context.stn, made)):
            return made
    raise DetectorError("forge.room", "the unit stands still or too little would change")


def _worth(place: Place, trial: Trial) -> bool:
    """Tell whether the unit runs for half of the interval and the forgery changes enough of what it reports."""
    lo, hi = np.searchsorted(place.hours, [trial.from_ms // HOUR_MS, trial.to_ms // HOUR_MS])
    if 2 * (hi - lo) < (trial.to_ms - trial.from_ms) // HOUR_MS:
        return False
    first, last = np.searchsorted(place.frame.at_ms, [trial.from_ms, trial.to_ms])
    changed = int(changed_rows(place.frame, make(place, trial))[first:last].sum())
    return changed >= min(LEAST_CHANGED, int(last - first) // 4 + 1)


def hidden_share(place: Place, trial: Trial, forged: Frame, until_ms: int) -> float:
    """Return what was hidden from the start until `until_ms`, as a share of an average month of the channel."""
    end_ms = min(until_ms, trial.to_ms)
    if end_ms <= trial.from_ms:
        return 0.0
    part = hidden_mass(place.frame, forged, place.context, trial.from_ms, end_ms)[trial.channel]
    whole = hidden_mass(place.frame, place.frame, place.context)[trial.channel].before
    span_h = max((int(place.frame.at_ms[-1]) - int(place.frame.at_ms[0])) / HOUR_MS, 1.0)
    month = whole * 720.0 / span_h
    return float((part.before - part.after) / month) if month > 0 else 0.0
