"""Decide a group of submissions against the stations' standings: pure, in order of arrival."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from emdi.chain import StationHead, check_next
from emdi.envelope import Envelope
from emdi.errors import ChainError
from stackwitness.errors import Conflict, Forbidden, LogFrozen, StackwitnessError
from stackwitness.ingest.domain import Checked, Failure, Kept, Roster, Standing, Verdict

HOUR_MS = 3_600_000
Position = tuple[str, int, int]


@dataclass
class Plan:
    """What the transaction is going to write: chain order within each station."""

    accepted: list[Checked] = field(default_factory=list)
    equivocations: list[tuple[Envelope, Kept]] = field(default_factory=list)
    heads: dict[str, tuple[StationHead, int]] = field(default_factory=dict)
    closed: set[str] = field(
        default_factory=set
    )  # stations whose clock passed a full hour, or that admit a gap
    epochs: list[tuple[Envelope, int]] = field(default_factory=list)  # first of a new epoch, the epoch before


class Judge:
    """Hold what is known of the stations of a group and grow the plan, submission by submission."""

    def __init__(
        self,
        standings: Mapping[str, Standing],
        rosters: Mapping[str, Roster],
        kept: Mapping[Position, Kept],
        frozen: LogFrozen | None = None,
    ) -> None:
        """With `frozen` whatever is not known is refused with it."""
        self.plan = Plan()
        self._frozen = frozen
        self._rosters = rosters
        self._kept = dict(kept)
        self._heads = {stn: standing.head for stn, standing in standings.items()}
        self._last_ms = {stn: standing.last_ms for stn, standing in standings.items()}

    def judge(self, submission: Iterable[Checked]) -> Verdict:
        """Return the verdict on one submission: all of it, or what stands before the first refusal."""
        stored: list[Kept] = []
        known: list[Kept] = []
        failure: Failure | None = None
        for line, checked in enumerate(submission, start=1):
            envelope = checked.envelope
            here = self._kept.get((envelope.stn, envelope.ep, envelope.seq))
            # Known comes before everything: a station that lost our answer must get it again, whatever
            # changed since.
            if here is not None and here.env_id == envelope.env_id:
                known.append(here)
                continue
            error = self._refusal(envelope, here)
            if error is not None:
                failure = Failure(line, error)
                break
            stored.append(self._accept(checked))
        return Verdict(tuple(stored), tuple(known), failure)

    def _refusal(self, envelope: Envelope, here: Kept | None) -> StackwitnessError | None:
        if self._frozen is not None:
            return self._frozen
        roster = self._rosters.get(envelope.stn)
        key = None if roster is None else roster.keys.get(envelope.kid)
        if key is None:
            return Forbidden("key.station", "The station has no such key")
        if key.revoked:
            return Forbidden("key.revoked", "The key is revoked")
        if here is not None:
            self.plan.equivocations.append((envelope, here))
            return Conflict(
                "chain.equivocation",
                "Another envelope stands at this place",
                detail=f"({envelope.ep}, {envelope.seq}) holds {here.env_id.hex()}; yours is evidence",
                env_id=here.env_id.hex(),
            )
        head = self._heads.get(envelope.stn)
        try:
            check_next(head, envelope)
        except ChainError as error:
            return Conflict(
                error.code,
                "The envelope does not follow the station's head",
                detail=error.message,
                head=head_json(head),
            )
        return None

    def _accept(self, checked: Checked) -> Kept:
        envelope, plan = checked.envelope, self.plan
        stn = envelope.stn
        kept = Kept(envelope.env_id, envelope.ep, envelope.seq, len(checked.rows))
        head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
        before = self._heads[stn]
        if before is not None and before.ep != envelope.ep:
            plan.epochs.append((envelope, before.ep))
        if envelope.skip is not None:
            plan.closed.add(stn)
        before_ms = self._last_ms[stn]
        last_ms = checked.last_ms if before_ms is None else max(before_ms, checked.last_ms)
        if last_ms // HOUR_MS > (checked.first_ms if before_ms is None else before_ms) // HOUR_MS:
            plan.closed.add(stn)
        self._kept[stn, envelope.ep, envelope.seq] = kept
        self._heads[stn], self._last_ms[stn] = head, last_ms
        plan.heads[stn] = (head, last_ms)
        plan.accepted.append(checked)
        return kept


def head_json(head: StationHead | None) -> dict[str, object] | None:
    """Return a head as answers carry it; None for a station without envelopes."""
    return None if head is None else {"ep": head.ep, "seq": head.seq, "env_id": head.env_id.hex()}
