"""Step 6: the station's envelopes and the subject's events follow each other without a hole."""

from emdi.chain import StationHead, check_next, check_subject
from emdi.envelope import Envelope
from emdi.errors import ChainError
from emdi.event import Event
from stackwitness_client.verify.report import Report, Verdict


class EnvelopeChain:
    """Follow (ep, seq, prev); the first envelope of the export opens the chain wherever it stands."""

    def __init__(self) -> None:
        self.first: StationHead | None = None
        self.last: StationHead | None = None

    def take(self, idx: int, envelope: Envelope, report: Report) -> None:
        """Check one envelope against the one before it and go on from it."""
        head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
        place = (envelope.stn, envelope.ep, envelope.seq)
        if self.last is None:
            self.first = self.last = head
            return
        try:
            check_next(self.last, envelope)
        except ChainError as error:
            verdict, message = Verdict.TAMPERED, error.message
            if error.code in ("chain.gap", "chain.epoch"):
                verdict, message = Verdict.INCOMPLETE, self._missing(envelope)
            report.step(6).add(verdict, error.code, message, idx=idx, envelope=place)
            if (envelope.ep, envelope.seq) <= (self.last.ep, self.last.seq):
                return
        if envelope.skip is not None:
            lost = f"seq {envelope.skip.first} to {envelope.skip.last}"
            report.note(f"the station admits that it lost {lost} of epoch {envelope.ep}: {envelope.skip.why}")
        if envelope.ep != self.last.ep:
            report.note(
                f"epoch {envelope.ep} starts at idx {idx}; no chain shows if epoch {self.last.ep} went on"
                f" after seq {self.last.seq}"
            )
        self.last = head

    def describe(self) -> str:
        """Return the range covered, for the report."""
        if self.first is None or self.last is None:
            return "no envelopes"
        return f"envelopes ep {self.first.ep} seq {self.first.seq} to ep {self.last.ep} seq {self.last.seq}"

    def _missing(self, envelope: Envelope) -> str:
        last = self.last
        if last is not None and last.ep == envelope.ep:
            first, end = last.seq + 1, envelope.seq - 1
            span = f"envelope seq {first} is" if first == end else f"envelopes seq {first} to {end} are"
            return f"{span} missing (station {envelope.stn}, epoch {envelope.ep})"
        return (
            f"envelopes before seq {envelope.seq} of epoch {envelope.ep} are missing (station {envelope.stn})"
        )


class SubjectChain:
    """Follow (sseq, sprev) of `station:<stn>` from 0."""

    def __init__(self) -> None:
        self.last: tuple[int, bytes] | None = None
        self.subj = ""

    def take(self, idx: int | None, event: Event, report: Report) -> None:
        """Check one event against the one before it and go on from it."""
        self.subj = event.subj
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
                verdict, message = Verdict.INCOMPLETE, self._missing(expected, event)
            report.step(6).add(verdict, error.code, message, idx=idx)
        self.last = (event.sseq, event.event_id)

    def describe(self) -> str:
        """Return the range covered, for the report."""
        return "no events" if self.last is None else f"events {self.subj} 0 to {self.last[0]}"

    def _missing(self, expected: int, event: Event) -> str:
        stn = event.subj.partition(":")[2]
        if expected == event.sseq - 1:
            return f"event {event.subj} {expected} is missing (if a flag or review: {stn}-{expected})"
        span = f"events {event.subj} {expected} to {event.sseq - 1}"
        return f"{span} are missing (if flags or reviews: {stn}-<number>)"
