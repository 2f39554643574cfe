"""What detection signed, without running it: each station's runs, late arrivals and lapses, and the numbers in force.

Whoever holds the service's key can sign a run, an arrival or a lapse that never was. What does not follow from the
station's own events is named here; whether the findings are right only the detectors can tell.
"""

from typing import Any

from emdi.errors import RunError
from emdi.event import Event
from emdi.runs import RUN, Ends, Fault, RunChain, Span, parse_run
from emdi.standing import Lapses

CONFIG = "detector.config"
# Something is left out, against something that is not so.
MISSING = frozenset({"run.hole", "late.unlogged", "lapse.missing"})
About = tuple[Event, Fault]


class Judging:
    """Follow one station: `take` its envelopes and events in the order of the log; the rest as RunChain has it."""

    def __init__(self, *, complete: bool, whole: bool = False, ends: Ends | None = None) -> None:
        self.chain = RunChain(complete=complete, whole=whole, ends=ends)
        self.lapses = Lapses()

    def members(self) -> dict[str, Any]:
        """Return what is remembered, but for the ends, as JSON-able members; for one that is not `complete`."""
        return {"chain": self.chain.members(), "lapses": self.lapses.members()}

    def restore(self, members: dict[str, Any]) -> None:
        """Go on from what `members` gave."""
        self.chain.restore(members["chain"])
        self.lapses.restore(members["lapses"])

    def take_envelope(self, span: Span) -> None:
        """Take one accepted envelope."""
        self.chain.take_envelope(span)

    def take_event(self, event: Event) -> list[About]:
        """Take one event of the station's subject; return what does not hold, and of which event."""
        return [*((event, fault) for fault in self.chain.take_event(event)), *self.lapses.take_event(event)]


class Configs:
    """Follow the detectors' numbers: `take_event` every event of the log, or all detector.config and all runs.

    A version of the detectors has one configuration: whoever would have laxer numbers must sign them.
    """

    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known: dict[str, str] = {} if known is None else known

    def take_event(self, event: Event) -> list[Fault]:
        """Take one event and return what does not hold."""
        if event.typ == CONFIG:
            version, given = str(event.data.get("version")), str(event.data.get("config_hash"))
            first = self.known.setdefault(version, given)
            if first != given:
                text = f"version {version} of the detectors has other numbers ({given[:16]}) than it had ({first[:16]})"
                return [Fault("config.second", text)]
        if event.typ == RUN:
            try:
                run = parse_run(event)
            except RunError:  # the chain of runs says so
                return []
            if self.known.get(run.version) != run.config_hash:
                text = f"a run of version {run.version} names numbers ({run.config_hash[:16]}) that the log does not give it"
                return [Fault("config.unknown", text)]
        return []
