"""Step 6, runs of the detectors: late arrivals, runs that go back, flags that lapse, and the numbers in force.

Made from the events alone, so that it needs no detectors; whether the findings are right is step 13.
"""

from dataclasses import dataclass, field

from emdi.event import Event
from emdi.judging import MISSING, Configs, Judging
from emdi.runs import Fault, Span
from stackwitness_client.verify.report import Report, Verdict

MAX_NAMED = 1000


@dataclass(slots=True)
class Judged:
    """Take what detection signed about the stations of a bundle, in the order of the log."""

    stns: tuple[str, ...]
    configs: Configs = field(default_factory=Configs)
    _by_stn: dict[str, Judging] = field(default_factory=dict)
    _places: dict[bytes, int] = field(default_factory=dict)
    _faults: list[tuple[int | None, Event, Fault]] = field(default_factory=list)

    def take_envelope(self, stn: str, span: Span) -> None:
        """Take an accepted envelope."""
        self._of(stn).take_envelope(span)

    def take_event(self, idx: int, event: Event) -> None:
        """Take a signed and proven event."""
        for fault in self.configs.take_event(event):
            self._faults.append((idx, event, fault))
        kind, _, stn = event.subj.partition(":")
        if kind != "station" or stn not in self.stns:
            return
        if event.typ == "flag.lapsed":
            self._places[event.event_id] = idx
        for about, fault in self._of(stn).take_event(event):
            self._faults.append((self._places.get(about.event_id, idx), about, fault))

    def report(self, report: Report) -> None:
        """Name what does not hold."""
        for idx, event, fault in self._faults[:MAX_NAMED]:
            verdict = Verdict.INCOMPLETE if fault.code in MISSING else Verdict.TAMPERED
            message = f"{event.typ} {event.subj} {event.sseq}: {fault.text}"
            report.step(6).add(verdict, fault.code, message, idx=idx)
        if len(self._faults) > MAX_NAMED:
            report.note(f"{len(self._faults) - MAX_NAMED} more runs, late arrivals and lapses do not hold")

    def _of(self, stn: str) -> Judging:
        return self._by_stn.setdefault(stn, Judging(complete=False))
