"""What can be seen at a station and what cannot be judged, in an inspector's words: one place for both languages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from stackwitness.console import words
from stackwitness.console.locale import Tongue
from stackwitness.console.locale import mark as _
from stackwitness.console.views import ChannelView
from stackwitness.detection import queries
from stackwitness.detection.domain import Judgement, Seen, Unjudged

# The codes of `stackwitness_detectors.contract.Cannot`.
_WHY = {
    "history": _("too little past to compare with"),
    "unexplained": _("no other channel explains it"),
    "constant": _("it never moved"),
    "companion": _("a channel it would be compared with is not measured here"),
    "no_limit": _("no limit is registered"),
    "no_visits": _("no dates of inspections or audits are known"),
    "digits": _("its digits are too coarse, or have no steps to read"),
    "calibrations": _("no calibrations with values are sent"),
    "silent": _("no measured reading"),
    "few_hours": _("most hours of the last 14 days were not sent, carried a mark or had no load"),
    "refused": _("values that cannot be were taken as missing"),
    "neighbours": _("too few related neighbours"),
    "nothing": _("neither pollutants nor flows nor a process are reported"),
}
# Detector, without the length of its window -> the kind its flags have.
_KIND_OF = {
    "conditional": "level_low",
    "level": "level_low",
    "exceedances": "exceedances_missing",
    "visits": "honest_at_visits",
    "dependence": "dependence_lost",
    "still": "near_hold",
    "steps": "too_smooth",
    "smooth": "too_smooth",
    "rough": "too_rough",
    "response": "response_lost",
    "loose": "too_rough",
    "coarse_grid": "digits",
    "heaped_digits": "digits",
    "limit_density": "below_limit",
    "ceiling_1": "ceiling",
    "ceiling_5": "ceiling",
    "implied": "parameter_moved",
    "range": "range_changed",
    "common_mode": "common_fall",
    "saturation": "above_saturation",
    "challenge": "odd_challenge",
    "convenient": "calibrated_high",
    "ecod": "odd_features",
}
_WINDOW = re.compile(r"_\d+[dh]$")
_ALL = "engine"
LEVELLED = ("pollutant", "flow", "diluent", "load")


@dataclass(frozen=True)
class Reason:
    """Say why some kinds of finding cannot be made; no `kinds`: none can."""

    why: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class ChannelSight:
    """A channel, the smallest lasting bias that would be found (None: its level is not judged), and what cannot be judged."""

    channel: str
    seen: Seen | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Sight:
    """What can be seen at a station, judged up to `upto_ms`; `reasons` concern all of it."""

    upto_ms: int
    channels: tuple[ChannelSight, ...]
    reasons: tuple[Reason, ...]


def read_sight(conn: Connection, t: Tongue, stn: str, channels: Sequence[ChannelView]) -> Sight | None:
    """Return what can be seen at a station; None while nothing is judged."""
    judgement = queries.find_judgement(conn, stn)
    if judgement is None:
        return None
    shown = [_sight(t, judgement, channel) for channel in channels]
    return Sight(
        round(judgement.upto.timestamp() * 1000),
        tuple(one for one in shown if one is not None),
        word_reasons(t, judgement.unjudged("")),
    )


def _sight(t: Tongue, judgement: Judgement, channel: ChannelView) -> ChannelSight | None:
    seen, notes = judgement.seen(channel.name), judgement.unjudged(channel.name)
    if not notes and seen is None and channel.role not in LEVELLED:
        return None
    return ChannelSight(channel.name, seen, word_reasons(t, notes))


def word_reasons(t: Tongue, notes: Iterable[Unjudged]) -> tuple[Reason, ...]:
    """Gather notes by reason, in the order in which the reasons come."""
    by_code: dict[str, list[Unjudged]] = {}
    for note in notes:
        by_code.setdefault(note.code, []).append(note)
    return tuple(_word(t, code, own) for code, own in by_code.items())


def _word(t: Tongue, code: str, notes: Sequence[Unjudged]) -> Reason:
    why = t.say(_WHY[code]) if code in _WHY else code.replace("_", " ")
    waits = [n.numbers["need"] - n.numbers.get("have", 0) for n in notes if "need" in n.numbers]
    if code == "history" and waits:
        why = t.say("%(why)s (up to %(days)s more days with readings)") % {
            "why": why,
            "days": round(max(waits)),
        }
    elif code == "few_hours":
        why = t.say("%(why)s: %(have)s of %(of)s can be judged") % {"why": why, **notes[0].numbers}
    elif code == "silent":
        hours = max(n.numbers.get("have", 0) for n in notes)
        why = t.say("%(why)s for %(length)s") % {"why": why, "length": t.duration(hours * 3_600_000)}
    kinds = () if any(n.detector == _ALL for n in notes) else tuple(word_test(t, n.detector) for n in notes)
    return Reason(why, tuple(dict.fromkeys(kinds)))


def word_test(t: Tongue, detector: str) -> str:
    """Name what a detector looks for, as its flags are named."""
    name = detector if detector in _KIND_OF else _WINDOW.sub("", detector)
    return words.kind(t, _KIND_OF.get(name, name))


def why_codes() -> frozenset[str]:
    """Return the reasons that have words."""
    return frozenset(_WHY)
