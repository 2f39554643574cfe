"""Step 9: the heads of the log show that no envelope, flag or decision of the period was left out.

A head.daily event commits to the last envelope of every station and the last event of every subject among the
first `as_of` entries. Chains without a hole up to these lines leave nothing out before them.
"""

import itertools
from typing import Literal

from emdi.bundle import BundleReader
from emdi.errors import EmdiError, HeadError
from emdi.head import HeadLine
from emdi.layout import head_names
from emdi.scope import Scope
from emdi.units import format_at
from stackwitness_client.verify.chains import Edge, EnvelopeChain, SubjectChain, missing_events
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.heads import ProvenHead, prove_head
from stackwitness_client.verify.report import Report, Verdict


class CompletenessCheck:
    """Hold chains and runs against the heads."""

    def __init__(self, reader: BundleReader, contents: Contents, report: Report) -> None:
        self.reader = reader
        self.contents = contents
        self.report = report
        self.step = report.step(9)
        self.newest: dict[str, bytes | None] = {}

    def run(self, scope: Scope | None) -> None:
        """Check every head of scope.json, then the edges of every run."""
        if scope is None:
            self.step.add(Verdict.INCOMPLETE, "head.scope", "without scope.json no head can be looked up")
            return
        self._check_files(scope)
        for as_of in scope.heads:
            head = self._open(as_of)
            if head is not None:
                self._check_head(head, final=as_of == scope.head_as_of)
                if as_of == scope.head_as_of:
                    self._check_edges(head)
        self._check_late(scope)
        self.step.finish(self._describe(scope))

    def _check_files(self, scope: Scope) -> None:
        wanted = {name for as_of in scope.heads for name in head_names(as_of)}
        for name in sorted(name for name in self.reader.sizes if name.startswith("heads/")):
            if name not in wanted:
                self.step.add(Verdict.TAMPERED, "head.undeclared", f"{name} is not in scope.json", file=name)

    def _open(self, as_of: int) -> ProvenHead | None:
        file, proofs = head_names(as_of)
        event = self.contents.heads.get(as_of)
        missing = [name for name in (file, proofs) if name not in self.reader.sizes]
        if event is None or missing:
            what = missing[0] if missing else "its event head.daily"
            message = f"the head at size {as_of} cannot be used: {what} is missing"
            self.step.add(Verdict.INCOMPLETE, "head.missing", message, file=what if missing else None)
            return None
        try:
            return prove_head(self.reader, event)
        except EmdiError as error:
            message = f"{file} is not what head.daily at idx {event.idx} commits to: {error.message}"
            self.step.add(Verdict.TAMPERED, error.code, message, idx=event.idx, file=file)
            return None

    def _check_head(self, head: ProvenHead, *, final: bool) -> None:
        for stn, chain in self.contents.stations.items():
            self._check_station(head, chain)
            if not final:
                self._check_subject(head, self.contents.subject(f"station:{stn}"))
        if final:
            for subj in sorted(self.contents.required_subjects()):
                self._check_subject(head, self.contents.subject(subj))

    def _find(self, head: ProvenHead, kind: str, name: str) -> HeadLine | Literal[False] | None:
        """Return a line, None when its absence is proven, False when neither is (which is a finding)."""
        try:
            return head.find(kind, name)
        except HeadError as error:
            self.step.add(Verdict.INCOMPLETE, error.code, error.message, idx=head.event.idx)
            return False

    def _check_subject(self, head: ProvenHead, chain: SubjectChain) -> None:
        line = self._find(head, "subject", chain.subj)
        if line is False:
            return
        here = chain.below.get(head.event.as_of)
        said = None if line is None else (line.seq, line.entry_id)
        if said == here:
            return
        if said is not None and (here is None or here[0] < said[0]):
            message = missing_events(chain.subj, 0 if here is None else here[0] + 1, said[0])
            self.step.add(Verdict.INCOMPLETE, "complete.event", message + self._by(head), idx=None)
        else:
            message = (
                f"the log holds event {chain.subj} {here[0] if here else ''}, another than this head says"
            )
            self.step.add(Verdict.TAMPERED, "head.false", message + self._by(head), idx=head.event.idx)

    def _check_station(self, head: ProvenHead, chain: EnvelopeChain) -> None:
        line = self._find(head, "station", chain.stn)
        here = chain.below.get(head.event.as_of)
        if here is None or line is False:
            return
        place = (chain.stn, here.ep, here.seq)
        if line is None or (line.ep or 0, line.seq) < here[:2]:
            message = "the log holds an envelope that this head of the log leaves out"
            self.step.add(
                Verdict.TAMPERED, "head.false", message + self._by(head), idx=head.event.idx, envelope=place
            )
        elif (line.ep, line.seq) == here[:2] and line.entry_id != here.env_id:
            message = "the envelope is another than the one this head of the log names"
            self.step.add(
                Verdict.TAMPERED, "head.false", message + self._by(head), idx=head.event.idx, envelope=place
            )

    def _check_edges(self, head: ProvenHead) -> None:
        for chain in self.contents.stations.values():
            try:
                line = head.find("station", chain.stn)
            except HeadError:
                continue
            newest = self.newest[chain.stn] = None if line is None else line.entry_id
            if line is not None and not chain.runs and self._spans_all(head):
                message = f"every envelope of {chain.stn} is missing, up to epoch {line.ep}, seq {line.seq}"
                self.step.add(Verdict.INCOMPLETE, "complete.absent", message, idx=head.event.idx)
            for first, last in chain.runs:
                begins = chain.continues and first is chain.runs[0][0]
                if first.within and first.head.seq > 0 and not begins:
                    self._lack(chain, first, "before", "the envelope before it is not in this bundle")
                if last.within and last.head.env_id != newest:
                    self._lack(chain, last, "after", "envelopes after it are not in this bundle")

    def _spans_all(self, head: ProvenHead) -> bool:
        """Tell whether the period holds the log's whole life: then every envelope was received in it."""
        period, began_ms = self.contents.period, self.contents.began_ms
        if began_ms is None or period.entries is not None:
            return False
        return period.from_ms <= began_ms and head.event.ts_ms < period.to_ms

    def _lack(self, chain: EnvelopeChain, edge: Edge, side: str, what: str) -> None:
        message = f"a run of envelopes ends inside the period: {what}, and nothing shows that they do not belong to it"
        place = (chain.stn, edge.head.ep, edge.head.seq)
        self.step.add(Verdict.INCOMPLETE, f"complete.{side}", message, idx=edge.idx, envelope=place)

    def _check_late(self, scope: Scope) -> None:
        for idx, event in self.contents.late:
            stn, data = event.subj.partition(":")[2], event.data
            station = next((item for item in scope.stations if item.stn == stn), None)
            try:
                place = (data["ep"], data["seq"])
                concerns = data["from_ms"] < scope.to_ms and data["to_ms"] >= scope.from_ms
                there = station is None or any(run[:2] <= place <= run[2:] for run in station.runs)
            except (KeyError, TypeError):
                self.step.add(Verdict.MALFORMED, "late.form", "a late.arrival lacks its members", idx=idx)
                continue
            if concerns and not there and scope.entries is None:
                message = "an envelope that came late, with readings of the period, is not in this bundle"
                self.step.add(Verdict.INCOMPLETE, "complete.late", message, idx=idx, envelope=(stn, *place))

    def _describe(self, scope: Scope) -> str:
        head = self.contents.heads.get(scope.head_as_of)
        until = "" if head is None else f" (signed {format_at(head.ts_ms)})"
        # A head may be older than the period's end: it says nothing of what came after it.
        ended = head is not None and head.ts_ms >= scope.to_ms
        proven = 0
        for chain in self.contents.stations.values():
            proven += self._is_whole(chain)
            self._say(chain)
        subjects = len(self.contents.required_subjects())
        return (
            f"every event of {subjects} subjects up to log size {scope.head_as_of}{until}; every envelope received"
            f" in the period{'' if ended else ' and below that size'}, of {proven} of {len(scope.stations)} stations"
        )

    def _is_whole(self, chain: EnvelopeChain) -> bool:
        """Tell whether the log's order shows that whatever is left out was received before or after the period."""
        period, runs = self.contents.period, chain.runs
        if not runs or period.entries is not None:
            return False
        opening, closing = runs[0][0], runs[-1][1]
        begins = opening.head[:2] == (0, 0) or chain.continues
        starts = begins or opening.recv_ms < period.from_ms
        ends = closing.recv_ms >= period.to_ms or self.newest.get(chain.stn) == closing.head.env_id
        between = (
            two.recv_ms < period.from_ms or one.recv_ms >= period.to_ms
            for (_, one), (two, _) in itertools.pairwise(runs)
        )
        return starts and ends and all(between)

    def _say(self, chain: EnvelopeChain) -> None:
        if not chain.runs:
            if self.newest.get(chain.stn) is not None:
                self.report.note(
                    f"{chain.stn}: that none of its envelopes belongs to the period is the exporter's statement"
                )
        elif not self._is_whole(chain):
            self.report.note(
                f"{chain.stn}: envelopes outside the exported runs may have been received in the period; that they"
                " hold no reading of it is the exporter's statement"
            )

    def _by(self, head: ProvenHead) -> str:
        return f" (head.daily at idx {head.event.idx}, log size {head.event.as_of})"
