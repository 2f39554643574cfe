"""What the database says could not be judged, against what the detectors say when they run again."""

from __future__ import annotations

from collections.abc import Iterable

from stackwitness.detection.domain import Judgement, Unjudged
from stackwitness.evidence.differences import Difference, RerunReport
from stackwitness_detectors import Note


def compare_notes(
    report: RerunReport, kept: Judgement | None, notes: Iterable[Note], upto_ms: int | None
) -> None:
    """Name it when the notes kept are not those of the last run; without a run that was compared nothing is said."""
    if kept is None or upto_ms is None:
        return
    if round(kept.upto.timestamp() * 1000) != upto_ms:
        text = "what is said to be beyond judging is not of the last run"
        report.differences.append(Difference("judgement.stale", None, text))
        return
    wanted = {_plain(Unjudged(n.detector, n.channel, n.code, n.reason, dict(n.numbers))) for n in notes}
    differing = wanted ^ {_plain(note) for note in kept.notes}
    if differing:
        detector, channel, code, *_ = min(differing)
        text = f"{len(differing)} notes of what cannot be judged are not those of the last run, first {detector} {channel} {code}"
        report.differences.append(Difference("judgement.edited", None, text))


def _plain(note: Unjudged) -> tuple[str, str, str, str, tuple[tuple[str, float], ...]]:
    return note.detector, note.channel, note.code, note.reason, tuple(sorted(note.numbers.items()))
