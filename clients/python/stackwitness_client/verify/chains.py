"""Step 6: the stations' envelopes and the subjects' events follow each other without a hole."""

import itertools
from contextlib import suppress
from dataclasses import dataclass, field

from emdi.chain import StationHead, check_next, check_subject
from emdi.envelope import Envelope
from emdi.errors import ChainError
from emdi.event import Event
from emdi.scope import Scope, StationScope
from stackwitness_client.verify.report import Report, Verdict


@dataclass(frozen=True, slots=True)
class Edge:
    """An envelope where a run of envelopes starts or ends; `within`: it concerns the period itself."""

    idx: int
    head: StationHead
    recv_ms: int
    within: bool


class Period:
    """The period asked for, by the readings' times or by the time of receipt, and within part of the log."""

    def __init__(self, scope: Scope | None) -> None:
        self.from_ms, self.to_ms = (0, 1 << 63) if scope is None else (scope.from_ms, scope.to_ms)
        self.entries = None if scope is None else scope.entries

    def holds(self, idx: int, recv_ms: int, first_ms: int, last_ms: int) -> bool:
        """Tell whether an envelope belongs: its readings span first..last, or it came, within the period."""
        if self.entries is not None and not self.entries[0] <= idx < self.entries[1]:
            return False
        return (first_ms < self.to_ms and last_ms >= self.from_ms) or self.from_ms <= recv_ms < self.to_ms


class EnvelopeChain:
    """Follow (ep, seq, prev) of one station through the runs that the exporter declares.

    `before` is the last envelope of the shard before this one; `continues` once the first one here follows it.
    """

    def __init__(
        self, stn: str, declared: StationScope | None, period: Period, heads: tuple[int, ...]
    ) -> None:
        self.stn = stn
        self.runs: list[tuple[Edge, Edge]] = []
        self.below: dict[int, StationHead] = {}
        self.before: StationHead | None = None
        self.continues = False
        self._period = period
        self._heads = heads
        runs = () if declared is None else declared.runs
        self._jumps = {(one[2:], two[:2]) for one, two in itertools.pairwise(runs)}

    @property
    def last(self) -> StationHead | None:
        """Return the last envelope taken."""
        return self.runs[-1][1].head if self.runs else None

    def take(
        self, idx: int, envelope: Envelope, recv_ms: int, span_ms: tuple[int, int], report: Report
    ) -> None:
        """Check one envelope, its readings' times from first to last, against the one before it; go on from it."""
        head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
        last = self.last
        if last is None and self.before is not None:
            self._follow_on(self.before, envelope)
        if last is None or (last[:2], head[:2]) in self._jumps:
            self._go_on(idx, head, recv_ms, span_ms, opens=True)
            return
        try:
            check_next(last, envelope)
        except ChainError as error:
            verdict, message = Verdict.TAMPERED, error.message
            if error.code in ("chain.gap", "chain.epoch"):
                verdict, message = Verdict.INCOMPLETE, self._missing(last, envelope)
            place = (envelope.stn, envelope.ep, envelope.seq)
            report.step(6).add(verdict, error.code, message, idx=idx, envelope=place)
            if head[:2] <= last[:2]:
                return
        self._note(idx, envelope, last, report)
        self._go_on(idx, head, recv_ms, span_ms, opens=False)

    def _follow_on(self, before: StationHead, envelope: Envelope) -> None:
        with suppress(ChainError):  # else it is from further on in the shard, or the hole shows at its edge
            check_next(before, envelope)
            self.continues = True

    def describe(self) -> str:
        """Return the range covered, for the report."""
        if not self.runs:
            return f"{self.stn}: no envelopes"
        spans = (
            f"ep {one.head.ep} seq {one.head.seq} to ep {two.head.ep} seq {two.head.seq}"
            for one, two in self.runs
        )
        return f"{self.stn}: envelopes {', '.join(spans)}"

    def _go_on(
        self, idx: int, head: StationHead, recv_ms: int, span_ms: tuple[int, int], *, opens: bool
    ) -> None:
        edge = Edge(idx, head, recv_ms, self._period.holds(idx, recv_ms, *span_ms))
        if opens:
            self.runs.append((edge, edge))
        else:
            self.runs[-1] = (self.runs[-1][0], edge)
        for as_of in self._heads:
            if idx < as_of:
                self.below[as_of] = head

    def _note(self, idx: int, envelope: Envelope, last: StationHead, report: Report) -> None:
        if envelope.skip is not None:
            lost = f"seq {envelope.skip.first} to {envelope.skip.last}"
            report.note(f"the station admits that it lost {lost} of epoch {envelope.ep}: {envelope.skip.why}")
        if envelope.ep != last.ep:
            report.note(
                f"epoch {envelope.ep} starts at idx {idx}; no chain shows if epoch {last.ep} went on"
                f" after seq {last.seq}"
            )

    def _missing(self, last: StationHead, envelope: Envelope) -> str:
        if last.ep == envelope.ep:
            first, end = last.seq + 1, envelope.seq - 1
            span = f"envelope seq {first} is" if first == end else f"envelopes seq {first} to {end} are"
            return f"{span} missing (station {envelope.stn}, epoch {envelope.ep})"
        return (
            f"envelopes before seq {envelope.seq} of epoch {envelope.ep} are missing (station {envelope.stn})"
        )


@dataclass(slots=True)
class SubjectChain:
    """Follow (sseq, sprev) of one subject from 0."""

    subj: str
    heads: tuple[int, ...]
    last: tuple[int, bytes] | None = None
    below: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def take(self, idx: int, event: Event, report: Report) -> None:
        """Check one event against the one before it and go on from it."""
        try:
            check_subject(self.last, event)
        except ChainError as error:
            expected = 0 if self.last is None else self.last[0] + 1
            if event.sseq < expected:
                message = f"event {event.subj} {event.sseq} stands twice or out of order"
                report.step(6).add(Verdict.TAMPERED, "chain.replayed", message, idx=idx)
                return
            verdict, message = Verdict.TAMPERED, error.message
            if error.code == "chain.gap":
                verdict, message = Verdict.INCOMPLETE, missing_events(self.subj, expected, event.sseq - 1)
            report.step(6).add(verdict, error.code, message, idx=idx)
        self.last = (event.sseq, event.event_id)
        for as_of in self.heads:
            if idx < as_of:
                self.below[as_of] = self.last

    def follow(self, event: Event, report: Report) -> None:
        """Check that the event that seals the export comes after what is exported."""
        expected = 0 if self.last is None else self.last[0] + 1
        if event.sseq < expected:
            message = f"export.made is event {event.subj} {event.sseq}, before the last one exported"
            report.step(6).add(Verdict.TAMPERED, "chain.replayed", message)
        elif event.sseq == expected and self.last is not None and event.sprev != self.last[1]:
            message = f"sprev of {event.subj} {event.sseq} is not the event before it"
            report.step(6).add(Verdict.TAMPERED, "chain.prev", message)
        elif event.sseq > expected:
            span = f"{expected} to {event.sseq - 1}"
            report.note(f"events {event.subj} {span} came between the exported part of the log and its seal")

    def describe(self) -> str:
        """Return the range covered, for the report."""
        return f"{self.subj}: no events" if self.last is None else f"{self.subj}: events 0 to {self.last[0]}"


def missing_events(subj: str, first: int, last: int) -> str:
    """Return the sentence that names missing events of a subject."""
    stn = subj.partition(":")[2]
    hint = f" (if a flag or review: {stn}-<number>)" if subj.startswith("station:") else ""
    if first == last:
        return f"event {subj} {first} is missing" + hint.replace("<number>", str(first))
    return f"events {subj} {first} to {last} are missing" + hint
