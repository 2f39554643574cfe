"""Forge readings as real forgers did: pure, seeded, one channel and one interval at a time.

Detectors are measured with these forgeries and demos are run with them. Nothing outside the interval is ever
touched, and readings that are not normal (calibration, maintenance, missing) stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stackwitness_detectors.contract import Context, DetectorError, Frame, Letters, Values
from stackwitness_detectors.forge import copies, levels, marks
from stackwitness_detectors.forge.window import Window, open_window, put_back

__all__ = ["KINDS", "Forgery", "forge"]


@dataclass(frozen=True)
class Forgery:
    """Describe one kind: `change` makes it, `strength` is its usual strength, `case` the real case it copies.

    What the strength means stands in the docstring of `change`.
    """

    kind: str
    change: Callable[[Window], Values | tuple[Values, Letters]]
    strength: float
    case: str


_FORGERIES = (
    Forgery("freeze", copies.freeze, 1.0, "Debao: constants sent through an industrial PC"),
    Forgery("near_freeze", copies.near_freeze, 0.003, "Laibin, Shenyang: far too quiet for months"),
    Forgery(
        "replay_exact", copies.replay_exact, 1.0, "simulated-data software: a stored week again and again"
    ),
    Forgery("replay_disguised", copies.replay_disguised, 0.02, "the same with noise and a factor on top"),
    Forgery("scale", levels.scale, 0.3, "Yeosu 2015-2019: 4,253 records, 33.6 % lower; slope 1.0 to 0.6"),
    Forgery("offset", levels.offset, 0.05, "Berkshire Power 2008-2011: analyser lowered by about 0.5 ppm"),
    Forgery("drift", levels.drift, 0.2, "parameters turned a little every few days"),
    Forgery("clip", levels.clip, 0.01, "clamp at the limit (China, 20 typical cases of 2022-2023)"),
    Forgery("bunch", levels.bunch, 0.15, "Gujarat audits: reports just below the standard (QJE 2013)"),
    Forgery(
        "typed_digits", marks.typed_digits, 1.0, "hand-typed records; last-digit tests of Dumas and Devine"
    ),
    Forgery("rounded", marks.rounded, 10.0, "values read off a display and typed in"),
    Forgery("smoothed", copies.smoothed, 12.0, "averages sent instead of readings"),
    Forgery("generated", copies.generated, 1.0, "Yeosu: 8,843 records issued without measuring"),
    Forgery(
        "missing_when_high",
        marks.missing_when_high,
        1.0,
        "Jersey City and 14 others: monitors rest on bad days",
    ),
    Forgery(
        "status_abuse", marks.status_abuse, 1.0, "Formosa No. 6: 25,000 readings relabelled in 11 months"
    ),
    Forgery("calibration_gas", levels.calibration_gas, 6.0, "sampling pipe moved to clean air at night"),
)
KINDS: dict[str, Forgery] = {forgery.kind: forgery for forgery in _FORGERIES}


def forge(
    kind: str,
    frame: Frame,
    context: Context,
    channel: str,
    from_ms: int,
    to_ms: int,
    strength: float | None = None,
    seed: int = 0,
) -> Frame:
    """Return the frame with `channel` forged in [from_ms, to_ms); the same arguments give the same frame.

    `strength` None takes the usual one of the kind. Raises DetectorError: forge.kind, forge.channel,
    forge.interval, forge.history (a replay finds nothing to copy).
    """
    forgery = KINDS.get(kind)
    if forgery is None:
        raise DetectorError("forge.kind", f"{kind!r} is none of {', '.join(KINDS)}")
    force = forgery.strength if strength is None else strength
    window = open_window(frame, context, channel, from_ms, to_ms, force, seed)
    changed = forgery.change(window)
    inside, letters = changed if isinstance(changed, tuple) else (changed, window.letters)
    return put_back(frame, window, inside, letters)
