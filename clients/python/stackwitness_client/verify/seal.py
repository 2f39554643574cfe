"""Step 7: the export itself is an event of the log, so no second bundle can pass under its id; or the log is frozen."""

import hashlib
from typing import Any

from emdi.bundle import BundleReader, bundle_note_text, take_sha256
from emdi.chain import StationHead
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_decode
from emdi.entry import KIND_EVENT, parse_entry
from emdi.errors import EmdiError, NoteError, ProofError
from emdi.event import Event, parse_event
from emdi.jws import verify_signature
from emdi.merkle import leaf_hash, verify_consistency, verify_inclusion
from emdi.note import verify_note
from emdi.receipt import Receipt, parse_receipt
from emdi.scope import Run, Scope, StationScope, bounds_of, parse_head
from stackwitness_client.verify.chains import EnvelopeChain
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.frozen import FrozenCheck
from stackwitness_client.verify.report import Report, Verdict, weigh_signature
from stackwitness_client.verify.trust import Trust, compare_known, open_trusted

_BOUNDS = ("ep_first", "seq_first", "ep_last", "seq_last")


class SealCheck:
    """Check export.made, its receipt, the consistency of both checkpoints, scope, note and disclosures."""

    def __init__(self, reader: BundleReader, trust: Trust, contents: Contents, report: Report) -> None:
        self.reader = reader
        self.trust = trust
        self.contents = contents
        self.report = report
        self.step = report.step(7)

    def run(self, scope: Scope | None) -> None:
        """Check all that the bundle has of the seal; what is absent was reported with the container."""
        event = self._open_event() if "export.jws" in self.reader.sizes else None
        if event is not None:
            self._guard("export.tlog-proof", self._check_receipt, event)
            self._guard("export.jws", self._check_event, event, scope)
        if scope is not None:
            self._check_scope(scope)
        self._guard("bundle.note", self._check_note, event, scope)
        frozen = FrozenCheck(self.reader, self.trust, self.contents, self.step)
        frozen.run(scope)
        if frozen.logged:
            self.step.finish("export.made is in the log" if event is not None else "no export event")

    def _guard(self, name: str, check: Any, *arguments: Any) -> None:
        """Run one check on one member; whatever it cannot read is a finding, not a crash."""
        if name not in self.reader.sizes:
            return
        try:
            check(*arguments)
        except (EmdiError, KeyError, TypeError, AttributeError) as error:
            self.step.add(Verdict.MALFORMED, "seal.form", f"{name} cannot be used: {error}", file=name)

    def _open_event(self) -> Event | None:
        try:
            event = parse_event(self.reader.read("export.jws").removesuffix(b"\n"))
            verify_signature(event, self.contents.keyring.service_key(event.kid, self.trust.checkpoint.size))
        except EmdiError as error:
            message = f"export.jws is no event of the service: {error.message}"
            self.step.add(weigh_signature(error), error.code, message, file="export.jws")
            return None
        sealed_on = f"station:{self.contents.stns[0]}" if self.contents.stns else ""
        if event.typ != "export.made" or event.subj != sealed_on:
            self.step.add(Verdict.TAMPERED, "seal.event", "export.jws is not the export.made of this scope")
            return None
        self.report.counts["events"] += 1
        self.contents.subject(event.subj).follow(event, self.report)
        return event

    def _check_receipt(self, event: Event) -> None:
        receipt = parse_receipt(self.reader.read("export.tlog-proof"))
        name = "export.tlog-proof"
        later = open_trusted(receipt.checkpoint, self.trust.policy, self.step, name)
        if later is None:
            return
        self._check_place(receipt, event, later)
        here = self.trust.checkpoint
        if later.origin != here.origin or later.size < here.size:
            message = "the receipt's checkpoint is of another log, or older than `checkpoint`"
            self.step.add(Verdict.TAMPERED, "seal.checkpoint", message, file=name)
            return
        if self.trust.known is not None:
            compare_known(self.trust.known, later, self.step, name)
        self._guard("consistency.txt", self._check_consistency, here, later)

    def _check_place(self, receipt: Receipt, event: Event, later: Checkpoint) -> None:
        data = receipt.extra + event.jws
        try:
            verify_inclusion(receipt.index, later.size, leaf_hash(data), receipt.path, later.root)
        except ProofError as error:
            message = f"export.made is not in the log: {error.message}"
            self.step.add(Verdict.TAMPERED, error.code, message, idx=receipt.index, file="export.tlog-proof")
        if parse_entry(data).kind != KIND_EVENT or receipt.index < self.trust.checkpoint.size:
            message = "export.made is not an event after the exported part of the log"
            self.step.add(Verdict.TAMPERED, "seal.place", message, idx=receipt.index)

    def _check_consistency(self, here: Checkpoint, later: Checkpoint) -> None:
        try:
            path = [b64_decode(line) for line in self.reader.lines("consistency.txt")]
            verify_consistency(here.size, later.size, here.root, later.root, path)
        except ProofError as error:
            message = (
                f"the log of size {later.size} does not continue the log of size {here.size}: {error.message}"
            )
            self.step.add(Verdict.TAMPERED, error.code, message, file="consistency.txt")

    def _check_event(self, event: Event, scope: Scope | None) -> None:
        data = event.data
        manifest = hashlib.sha256(self.reader.read("MANIFEST")).digest()
        if take_sha256(data["manifest_sha256"]) != manifest:
            message = "MANIFEST is not the one the log's export.made names"
            self.step.add(Verdict.SEAL, "seal.manifest", message, file="MANIFEST")
        if data["size"] != self.trust.checkpoint.size:
            self.step.add(Verdict.TAMPERED, "seal.size", f"export.made is of log size {data['size']}")
        if scope is not None and _sealed(data) != _asked(scope):
            message = "scope.json speaks of another export, period, head or station than export.made"
            self.step.add(Verdict.TAMPERED, "seal.scope", message, file="scope.json")
        if self.contents.stns:
            chain = self.contents.stations[self.contents.stns[0]]
            self._check_bounds("export.made", chain, {name: data[name] for name in _BOUNDS})
            self._check_head("export.made", chain, parse_head(data["head"]))

    def _check_scope(self, scope: Scope) -> None:
        for station in scope.stations:
            chain = self.contents.stations[station.stn]
            self._check_bounds("scope.json", chain, bounds_of(station))
            self._check_runs(station, chain)
            self._check_head("scope.json", chain, station.head)
        if scope.size != self.trust.checkpoint.size:
            self.step.add(Verdict.TAMPERED, "scope.size", f"scope.json speaks of log size {scope.size}")
        for name in ("envelopes", "readings", "flags", "reviews"):
            said, found = getattr(scope, name), self.report.counts[name]
            if said != found:
                verdict = Verdict.INCOMPLETE if found < said else Verdict.TAMPERED
                message = f"scope.json promises {said} {name}, entries.bin holds {found}"
                self.step.add(verdict, "scope.count", message, file="scope.json")

    def _check_bounds(self, source: str, chain: EnvelopeChain, said: dict[str, int | None]) -> None:
        first = None if said["ep_first"] is None else (said["ep_first"], said["seq_first"])
        last = None if said["ep_last"] is None else (said["ep_last"], said["seq_last"])
        found = (chain.runs[0][0].head[:2], chain.runs[-1][1].head[:2]) if chain.runs else (None, None)
        for name, promised, here in (("first", first, found[0]), ("last", last, found[1])):
            if promised != here:
                message = (
                    f"{source} says the {name} envelope of {chain.stn} (ep, seq) is {promised},"
                    f" entries.bin has {here}"
                )
                self.step.add(Verdict.INCOMPLETE, f"seal.{name}", message)

    def _check_runs(self, station: StationScope, chain: EnvelopeChain) -> None:
        found = tuple(Run(*one.head[:2], *two.head[:2]) for one, two in chain.runs)
        if found != station.runs and not self.report.step(6).findings:
            message = f"the runs of envelopes of {station.stn} are {list(map(tuple, found))}, not those of scope.json"
            self.step.add(Verdict.INCOMPLETE, "seal.runs", message, file="scope.json")

    def _check_head(self, source: str, chain: EnvelopeChain, head: StationHead | None) -> None:
        last = chain.last
        if last is None:
            return
        if head is None or head[:2] < last[:2]:
            message = f"the head of {chain.stn} in {source} is before the last envelope exported"
            self.step.add(Verdict.TAMPERED, "seal.head", message)
        elif head[:2] == last[:2] and head.env_id != last.env_id:
            message = f"the head of {chain.stn} in {source} is another envelope than the last one exported"
            self.step.add(Verdict.TAMPERED, "seal.head", message, envelope=(chain.stn, last.ep, last.seq))

    def _check_note(self, event: Event | None, scope: Scope | None) -> None:
        key = self.contents.keyring.export_key
        if key is None:
            return
        try:
            note = verify_note(self.reader.read("bundle.note"), [key])
        except NoteError as error:
            message = f"bundle.note is not signed by the export key: {error.message}"
            self.step.add(Verdict.TAMPERED, error.code, message, file="bundle.note")
            return
        export_id = event.data["export_id"] if event else scope.export_id if scope else ""
        here = self.trust.checkpoint
        if note.text != bundle_note_text(export_id, self.reader.read("MANIFEST"), here.origin, here.size):
            message = "bundle.note seals another export, MANIFEST or log"
            self.step.add(Verdict.SEAL, "seal.note", message, file="bundle.note")


def _sealed(data: dict[str, Any]) -> tuple[Any, ...]:
    names = ("export_id", "from_ms", "to_ms", "head_as_of", "redacted", "stns", "entries")
    return tuple(data[name] for name in names)


def _asked(scope: Scope) -> tuple[Any, ...]:
    entries = None if scope.entries is None else list(scope.entries)
    period = (scope.from_ms, scope.to_ms)
    return (scope.export_id, *period, scope.head_as_of, scope.redacted, list(scope.stns), entries)
