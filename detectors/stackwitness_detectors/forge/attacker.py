"""Attack adaptively: know the detectors, stay legal, hide a given mass, and be as little suspicious as possible.

The attacker composes what single kinds do (selective lowering, noise, replayed structure, smoothing, work in
segments, a slow start, a clamp under the limit) and searches the composition that a score likes best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.contract import Context, Frame, Values
from stackwitness_detectors.engine import run
from stackwitness_detectors.forge.copies import long_before
from stackwitness_detectors.forge.evolve import evolve
from stackwitness_detectors.forge.mass import hidden_mass
from stackwitness_detectors.forge.window import DAY_MS, HOUR_MS, ForgeError, Window, open_window, put_back

Score = Callable[[Frame], float]

STYLE = ("selective", "noise", "borrowed", "smooth", "segment", "duty", "ramp", "margin")
_PLAIN = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])  # plain scaling, in the order of STYLE
_ILLEGAL = 1e9  # illegal or too timid attacks rank behind every legal one, by how far they are off
_MOST_LOWERED = 0.95


@dataclass(frozen=True)
class Attack:
    """Tell the best attack found: its style (each 0..1), its score, what it hides, whether it is legal."""

    frame: Frame
    style: dict[str, float]
    lowered: float
    score: float
    hidden_percent: float
    legal: bool
    evaluations: int


@dataclass(frozen=True)
class Frontier:
    """Tell for each target of hidden mass (%) the share of places where even the best attack was detected.

    `hidden_at_half` is the mass really hidden at detection probability 50 %, interpolated; None means that
    more than the largest target can be hidden. `attacks` holds them by target, then place.
    """

    targets_percent: tuple[float, ...]
    detected: tuple[float, ...]
    hidden_at_half: float | None
    attacks: tuple[tuple[Attack, ...], ...]


def attack(
    frame: Frame,
    context: Context,
    channel: str,
    from_ms: int,
    to_ms: int,
    score: Score,
    hide_percent: float,
    budget: int = 60,
    seed: int = 0,
    enough: float = -np.inf,
) -> Attack:
    """Hide at least `hide_percent` of the channel's mass in the interval at the least score found.

    `score` is larger for a more suspicious frame (the largest e-value; 1 / p for p-values) and is asked at
    most `budget` times, of legal frames only: every clock hour's mean at most the limit. For every style the
    slope that hides the target is solved for, and a style that cannot hide it is made plainer. A score of at
    most `enough` ends the search. Raises ForgeError as `open_window` does, and
    forge.needs for a target outside (0, 95).
    """
    if not 0.0 < hide_percent < 100.0 * _MOST_LOWERED:
        raise ForgeError("forge.needs", f"needs a target between 0 and 95 %, not {hide_percent}")
    window = open_window(frame, context, channel, from_ms, to_ms, 1.0, seed)
    asked = 0

    course = _course(window)

    def make(place: Values) -> tuple[dict[str, float], float, Values, float]:
        for towards in (0.0, 0.5, 1.0):  # a style too timid for the target becomes plainer
            style = dict(zip(STYLE, (place + towards * (_PLAIN - place)).tolist(), strict=True))
            lowered, series = _solve(window, course, style, hide_percent)
            off = max(0.0, hide_percent - _hidden(window, series) - 0.5) + 100.0 * _excess(window, series)
            if off == 0.0:
                break
        return style, lowered, series, off

    def cost(place: Values) -> float:
        nonlocal asked
        _, _, series, off = make(place)
        if off > 0.0:
            return _ILLEGAL + off
        asked += 1
        return float(score(put_back(frame, window, series, window.letters)))

    with np.errstate(all="ignore"):
        best, least = evolve(cost, len(STYLE), budget, seed, enough)
        style, lowered, series, off = make(best)
    forged = put_back(frame, window, series, window.letters)
    hidden = _weighed(frame, forged, context, channel, from_ms, to_ms)
    told = {name: round(value, 6) for name, value in style.items()}
    return Attack(forged, told, lowered, least if off == 0.0 else np.inf, hidden, off == 0.0, asked)


def frontier(
    frame: Frame,
    context: Context,
    channel: str,
    places: Sequence[tuple[int, int]],
    score_at: Callable[[int, int], Score],
    threshold: float,
    targets_percent: Sequence[float] = (2.0, 5.0, 10.0, 20.0, 40.0),
    budget: int = 60,
    seed: int = 0,
) -> Frontier:
    """Find how much an adaptive attacker hides at detection probability 50 %.

    `places` are [from, to) intervals in ms; `score_at(from, to)` gives the score of frames forged there; an
    attack is detected when its score reaches `threshold`. An impossible attack counts as detected.
    """
    scores = [score_at(from_ms, to_ms) for from_ms, to_ms in places]
    targets = tuple(sorted(targets_percent))
    below = float(np.nextafter(threshold, -np.inf))  # undetected is enough
    attacks = tuple(
        tuple(
            attack(frame, context, channel, *place, scores[i], target, budget, seed + i, below)
            for i, place in enumerate(places)
        )
        for target in targets
    )
    detected = tuple(sum(a.score >= threshold for a in row) / max(len(row), 1) for row in attacks)
    hidden = [
        float(np.mean([a.hidden_percent if a.legal else target for a in row]))
        for target, row in zip(targets, attacks, strict=True)
    ]
    return Frontier(targets, detected, half_hidden(hidden, detected), attacks)


def score_by_run(
    context: Context, frame: Frame, from_ms: int, to_ms: int, config: Config = DEFAULT, after_days: int = 2
) -> Score:
    """Score frames by today's detectors: the largest log10 e-value found from `from_ms` on, 0 without any.

    The state before the interval is made once; each call judges the interval and `after_days` more.
    """
    lo, hi = (int(i) for i in np.searchsorted(frame.at_ms, [from_ms, to_ms + after_days * DAY_MS]))
    state = run(context, None, _rows(frame, 0, lo), config).state if lo else None

    def score(forged: Frame) -> float:
        findings = run(context, state, _rows(forged, lo, hi), config).findings
        return max(
            (float(np.log10(max(f.e_value, 1.0))) for f in findings if f.to_ms >= from_ms), default=0.0
        )

    return score


def _rows(frame: Frame, lo: int, hi: int) -> Frame:
    return Frame(
        frame.at_ms[lo:hi],
        {name: values[lo:hi] for name, values in frame.values.items()},
        {name: letters[lo:hi] for name, letters in frame.status.items()},
    )


@dataclass(frozen=True)
class _Course:
    """Hold what all styles are made of: the rank of each reading in the past, an old stretch, noise, draws."""

    rank: Values
    earlier: Values
    noise: Values
    draws: Values


def _course(w: Window) -> _Course:
    rng = np.random.default_rng([w.seed, 2])
    rank = np.searchsorted(np.sort(w.history), w.inside) / max(w.history.size, 1)
    earlier = long_before(w)
    return _Course(
        rank,
        np.where(np.isfinite(earlier), earlier, w.analogue),
        rng.standard_normal(rank.size),
        rng.random(rank.size),
    )


def _solve(w: Window, course: _Course, style: dict[str, float], target: float) -> tuple[float, Values]:
    """Return the least lowering of the style that hides the target, and its series (or the utmost one)."""
    base, weight = _shaped(w, course, style)

    def series(lowered: float) -> Values:
        shown = w.rounded(w.zero + base * (1.0 - lowered * weight))
        forged = np.where(w.usable & (lowered * weight > 1e-3), shown, w.inside)
        return _clamped(w, forged, style["margin"], np.abs(course.noise))

    low, high = 0.0, _MOST_LOWERED
    for _ in range(12):
        middle = 0.5 * (low + high)
        if _hidden(w, series(middle)) >= target:
            high = middle
        else:
            low = middle
    return high, series(high)


def _shaped(w: Window, course: _Course, style: dict[str, float]) -> tuple[Values, Values]:
    """Return the series before it is lowered (above zero), and how much each reading is to be lowered (0..1).

    The first half of "borrowed" and "smooth" and the first fifth of "noise" mean none at all, so that the
    search meets plain styles as well.
    """
    weight = course.rank ** (4.0 * style["selective"]) * _duty(w, style, course.draws)
    weight *= np.minimum(1.0, np.linspace(0.0, 1.0, weight.size) / max(style["ramp"], 1e-6))
    share = max(0.0, 2.0 * style["borrowed"] - 1.0)
    series = (1.0 - share) * w.analogue + share * course.earlier - w.zero
    hours = 6.0 * max(0.0, 2.0 * style["smooth"] - 1.0)
    series = _averaged(w, series, int(hours * HOUR_MS / w.step_ms))
    return series * (1.0 + 0.05 * max(0.0, style["noise"] - 0.2) * course.noise), weight


def _duty(w: Window, style: dict[str, float], draws: Values) -> Values:
    """Return 1 where the forger works and 0 where he rests, in segments of 6 h to the whole interval."""
    steps = max(1, 6 * HOUR_MS // w.step_ms)
    length = max(1, int(steps * (max(w.inside.size / steps, 1.0) ** style["segment"])))
    drawn = draws[: w.inside.size // length + 1]
    working = drawn <= max(0.3 + 0.7 * style["duty"], float(drawn.min()))
    return np.repeat(working.astype(np.float64), length)[: w.inside.size]


def _averaged(w: Window, series: Values, width: int) -> Values:
    if width < 2:
        return series
    kernel = np.ones(min(width, series.size))
    total = np.convolve(np.where(w.usable, series, 0.0), kernel, "same")
    count = np.convolve(w.usable.astype(np.float64), kernel, "same")
    return np.where(count > 0, total / np.maximum(count, 1.0), series)


def _clamped(w: Window, series: Values, margin: float, jitter: Values) -> Values:
    """Bring every clock hour whose mean exceeds the limit below it."""
    over = _hourly_over(w, series) > 0.0
    room = w.limit - w.zero
    under = w.limit - room * (0.002 + 0.1 * margin) * (0.3 + 0.7 * np.minimum(jitter, 2.0))
    return np.where(over & w.usable, np.minimum(w.rounded(under), series), series)


def _hourly_over(w: Window, series: Values) -> Values:
    """Return by how much the mean of each reading's clock hour exceeds the limit (0 without a limit)."""
    if w.info.limit is None:
        return np.zeros(series.size)
    hour = (w.times // HOUR_MS - w.times[0] // HOUR_MS).astype(np.int64)
    total = np.bincount(hour, np.where(w.usable, series, 0.0))
    count = np.bincount(hour, w.usable.astype(np.float64))
    mean = total / np.maximum(count, 1.0)
    over: Values = np.maximum(mean - w.info.limit, 0.0)[hour]
    return over


def _excess(w: Window, series: Values) -> float:
    return float(_hourly_over(w, series).max(initial=0.0)) / max(abs(w.limit), 1e-12)


def _hidden(w: Window, series: Values) -> float:
    """Return the share of the channel's own sum inside that is gone (%), without regard to flow."""
    before = float((w.inside - w.zero)[w.usable].sum())
    after = float((series - w.zero)[w.usable].sum())
    return 100.0 * (before - after) / before if before > 0.0 else 0.0


def _weighed(before: Frame, after: Frame, context: Context, channel: str, from_ms: int, to_ms: int) -> float:
    masses = hidden_mass(before, after, context, from_ms, to_ms)
    return masses[channel].percent if channel in masses else 0.0


def half_hidden(hidden: Sequence[float], detected: Sequence[float]) -> float | None:
    """Interpolate the hidden mass where the detection probability first reaches one half; more hidden is never safer."""
    x = np.maximum.accumulate(np.concatenate([[0.0], hidden]))
    y = np.maximum.accumulate(np.concatenate([[0.0], detected]))
    if y[-1] < 0.5:
        return None
    i = int(np.argmax(y >= 0.5))
    return float(x[i - 1] + (x[i] - x[i - 1]) * (0.5 - y[i - 1]) / (y[i] - y[i - 1]))
