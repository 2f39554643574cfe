"""What one pass over the entries leaves for the checks after it."""

from dataclasses import dataclass, field

from emdi.errors import EmdiError, HeadError
from emdi.event import Event
from emdi.keyring import KeyRing
from emdi.officers import Officers
from emdi.scope import COMMON_SUBJECTS, Scope, officers_of
from emdi.shard import FREEZE, Freeze, read_freeze
from emdi.tables import SALTED, take_sha256
from stackwitness_client.verify.chains import EnvelopeChain, Period, SubjectChain
from stackwitness_client.verify.judged import Judged

MAX_SALTED = 1_000_000


@dataclass(frozen=True, slots=True)
class HeadEvent:
    """A signed and proven head.daily: where it stands, and what it commits to."""

    idx: int
    ts_ms: int
    as_of: int
    lines: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Salted:
    """A member of an event that is a salted hash of a text."""

    idx: int
    called: str
    name: str
    digest: bytes


@dataclass(slots=True)
class Contents:
    """The keys, the chains, the heads of the log, and what events commit to without saying it."""

    stns: tuple[str, ...]
    period: Period
    heads_wanted: tuple[int, ...]
    stations: dict[str, EnvelopeChain]
    keyring: KeyRing = field(default_factory=KeyRing)
    officers: Officers = field(default_factory=Officers)
    subjects: dict[str, SubjectChain] = field(default_factory=dict)
    heads: dict[int, HeadEvent] = field(default_factory=dict)
    salted: dict[bytes, list[Salted]] = field(default_factory=dict)
    late: list[tuple[int, Event]] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    began_ms: int | None = None
    freeze: Freeze | None = None
    aside: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    judged: Judged = field(init=False)

    def __post_init__(self) -> None:
        self.judged = Judged(self.stns)

    @classmethod
    def of(cls, scope: Scope | None, stns: tuple[str, ...]) -> "Contents":
        """Return the empty contents of a bundle of this scope; without one, of the stations of its seal."""
        period = Period(scope)
        if scope is None:
            return cls(stns, period, (), {stn: EnvelopeChain(stn, None, period, ()) for stn in stns})
        stations = {
            station.stn: EnvelopeChain(station.stn, station, period, scope.heads)
            for station in scope.stations
        }
        return cls(scope.stns, period, scope.heads, stations)

    def subject(self, subj: str) -> SubjectChain:
        """Return the chain of a subject."""
        if subj not in self.subjects:
            self.subjects[subj] = SubjectChain(subj, self.heads_wanted)
        return self.subjects[subj]

    def required_subjects(self) -> set[str]:
        """Return the subjects whose chains must be whole: the stations', the common ones, the officers'."""
        officers = {f"account:{name}" for name in self.named}
        return {f"station:{stn}" for stn in self.stns} | set(COMMON_SUBJECTS) | officers

    def take_event(self, idx: int, event: Event, recv_ms: int) -> None:
        """Learn from a signed and proven event; raise HeadError (head.event, head.freeze) for a head or an end that
        is none, OfficerError for an act of somebody who could not.
        """
        self._take_salted(idx, event)
        self.named |= officers_of(event)
        self.judged.take_event(idx, event)
        if event.typ == "late.arrival":
            self.late.append((idx, event))
        elif event.typ == "head.daily" and event.subj == "log":
            self._take_head(idx, event)
        elif event.typ == FREEZE and event.subj == "log" and self.freeze is None:
            self.freeze = read_freeze(idx, event)
        self.officers.take_event(idx, event, recv_ms)

    def describe(self) -> str:
        """Return the ranges covered, for the report."""
        parts = [station.describe() for station in self.stations.values()]
        parts += [self.subjects[subj].describe() for subj in sorted(self.subjects)]
        return "; ".join(parts[:20]) + (f"; and {len(parts) - 20} more" if len(parts) > 20 else "")

    def _take_head(self, idx: int, event: Event) -> None:
        data = event.data
        try:
            head = HeadEvent(idx, event.ts_ms, data["as_of"], data["lines"], take_sha256(data["root_b64u"]))
        except (KeyError, EmdiError):
            raise HeadError("head.event", "a head.daily lacks as_of, lines or root_b64u") from None
        if type(head.as_of) is not int or type(head.lines) is not int or not head.lines <= head.as_of <= idx:
            raise HeadError("head.event", "a head.daily speaks of entries after itself, or of none")
        known = self.heads.setdefault(head.as_of, head)
        if known.root != head.root:
            raise HeadError(
                "head.event", f"two heads at size {head.as_of} differ (idx {known.idx} and {idx})"
            )

    def _take_salted(self, idx: int, event: Event) -> None:
        for name in SALTED:
            if isinstance(event.data.get(name), str) and len(self.salted) < MAX_SALTED:
                called = f"{event.typ.partition('.')[0]} {event.subj.partition(':')[2]}-{event.sseq}"
                salted = Salted(idx, called, name, take_sha256(event.data[name]))
                self.salted.setdefault(event.event_id, []).append(salted)
