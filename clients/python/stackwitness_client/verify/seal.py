"""Step 7: the export itself is an event of the log, so no second bundle can pass under its id."""

import hashlib
from typing import Any

from emdi.bundle import BundleReader, bundle_note_text, parse_disclosure, take_sha256
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
from emdi.scope import Scope, parse_head
from stackwitness_client.verify.entries import Contents
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
        self._guard("disclosures.jsonl", self._check_disclosures)
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
            verify_signature(event, self.contents.keyring.service_key(event.kid))
        except EmdiError as error:
            message = f"export.jws is no event of the service: {error.message}"
            self.step.add(weigh_signature(error), error.code, message, file="export.jws")
            return None
        if event.typ != "export.made" or event.subj != f"station:{self.contents.stn}":
            self.step.add(Verdict.TAMPERED, "seal.event", "export.jws is not this station's export.made")
            return None
        self.report.counts["events"] += 1
        self.contents.subject.take(None, event, self.report)
        self.report.step(6).finish(
            f"{self.contents.envelopes.describe()}; {self.contents.subject.describe()}"
        )
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
            compare_known(self.trust.known, later, self.step, self.report, name)
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
        self._check_bounds("export.made", {name: data[name] for name in _BOUNDS})
        self._check_head("export.made", parse_head(data["head"]))
        if scope is not None and (data["export_id"], data["from_ms"], data["to_ms"]) != (
            scope.export_id,
            scope.from_ms,
            scope.to_ms,
        ):
            message = "scope.json speaks of another export or period than export.made"
            self.step.add(Verdict.TAMPERED, "seal.scope", message, file="scope.json")

    def _check_scope(self, scope: Scope) -> None:
        self._check_bounds("scope.json", {name: getattr(scope, name) for name in _BOUNDS})
        self._check_head("scope.json", scope.head)
        if scope.size != self.trust.checkpoint.size:
            self.step.add(Verdict.TAMPERED, "scope.size", f"scope.json speaks of log size {scope.size}")
        for name in ("envelopes", "readings", "flags", "reviews"):
            said, found = getattr(scope, name), self.report.counts[name]
            if said != found:
                verdict = Verdict.INCOMPLETE if found < said else Verdict.TAMPERED
                message = f"scope.json promises {said} {name}, entries.bin holds {found}"
                self.step.add(verdict, "scope.count", message, file="scope.json")

    def _check_bounds(self, source: str, said: dict[str, int | None]) -> None:
        chain = self.contents.envelopes
        first = None if said["ep_first"] is None else (said["ep_first"], said["seq_first"])
        last = None if said["ep_last"] is None else (said["ep_last"], said["seq_last"])
        for name, promised, head in (("first", first, chain.first), ("last", last, chain.last)):
            found = None if head is None else head[:2]
            if promised != found:
                message = (
                    f"{source} says the {name} envelope (ep, seq) is {promised}, entries.bin has {found}"
                )
                self.step.add(Verdict.INCOMPLETE, f"seal.{name}", message)

    def _check_head(self, source: str, head: StationHead | None) -> None:
        last = self.contents.envelopes.last
        if last is None:
            return
        if head is None or head[:2] < last[:2]:
            message = f"the station's head in {source} is before the last envelope exported"
            self.step.add(Verdict.TAMPERED, "seal.head", message)
        elif head[:2] == last[:2] and head.env_id != last.env_id:
            message = f"the station's head in {source} is another envelope than the last one exported"
            place = (self.contents.stn, last.ep, last.seq)
            self.step.add(Verdict.TAMPERED, "seal.head", message, envelope=place)
        elif head[:2] != last[:2]:
            note = f"the station's chain goes on after this export, to ep {head.ep} seq {head.seq}"
            self.report.note(note)

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

    def _check_disclosures(self) -> None:
        disclosed = set()
        for row, line in enumerate(self.reader.lines("disclosures.jsonl"), 1):
            disclosure = parse_disclosure(line)
            idx, review_id, digest = self.contents.reasons.get(disclosure.event_id, (None, "", None))
            disclosed.add(disclosure.event_id)
            if idx is None:
                message = "a disclosed text belongs to a decision that is not in this bundle"
                self.step.add(
                    Verdict.INCOMPLETE, "disclosure.event", message, file="disclosures.jsonl", row=row
                )
            elif take_sha256(digest) != disclosure.digest:
                message = f"the disclosed reason of review {review_id} is not the one decided on"
                place = {"idx": idx, "file": "disclosures.jsonl", "row": row}
                self.step.add(Verdict.TAMPERED, "disclosure.text", message, **place)
        hidden = len(self.contents.reasons.keys() - disclosed)
        if hidden:
            self.report.note(f"the reasons of {hidden} decisions are not disclosed in this bundle")
