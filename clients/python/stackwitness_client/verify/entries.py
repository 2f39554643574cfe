"""Steps 4 to 6 and 8 in one pass over entries.bin: proofs, signatures, chains and tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from emdi.bundle import (
    FLAGS_HEADER,
    READINGS_HEADER,
    REVIEWS_HEADER,
    BundleReader,
    flag_text_sha256,
    flags_csv_row,
    iter_entries,
    iter_proofs,
    readings_csv_rows,
    reviews_csv_row,
)
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, Entry, parse_entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import BundleError, EmdiError, EnvelopeError, KeyFormatError, ProofError
from emdi.event import Event, parse_event
from emdi.jws import verify_signature
from emdi.keyring import KeyRing
from emdi.merkle import leaf_hash, verify_inclusion
from stackwitness_client.verify.chains import EnvelopeChain, SubjectChain
from stackwitness_client.verify.report import Report, Verdict, weigh_signature
from stackwitness_client.verify.tables import TableCheck, TableForm
from stackwitness_client.verify.trust import Trust

READINGS = TableForm("readings.csv", READINGS_HEADER, "reading", (4, 5))
FLAGS = TableForm("flags.csv", FLAGS_HEADER, "flag", (1,), 1)
REVIEWS = TableForm("reviews.csv", REVIEWS_HEADER, "review", (1,), 2)


@dataclass(slots=True)
class Contents:
    """What the pass leaves for the seal: the keys, both chains and what decisions commit to."""

    stn: str
    keyring: KeyRing = field(default_factory=KeyRing)
    envelopes: EnvelopeChain = field(default_factory=EnvelopeChain)
    subject: SubjectChain = field(default_factory=SubjectChain)
    reasons: dict[bytes, tuple[int, str, object]] = field(default_factory=dict)


class EntryWalk:
    """Hold every entry against the checkpoint, its signer, its chain and the tables."""

    def __init__(self, reader: BundleReader, trust: Trust, stn: str, report: Report) -> None:
        self.reader = reader
        self.trust = trust
        self.report = report
        self.contents = Contents(stn)
        self.proven = 0
        self.signed = 0
        self.tables = {
            form.file: TableCheck(form, reader, report.step(8)) for form in (READINGS, FLAGS, REVIEWS)
        }

    def run(self) -> Contents:
        """Walk all entries; whatever breaks the files themselves ends the walk early."""
        try:
            with self.reader.stream("entries.bin") as stream:
                for idx, data, path in self._paired(iter_entries(stream)):
                    self._check(idx, data, path)
        except BundleError as error:
            self.report.step(4).add(Verdict.MALFORMED, error.code, error.message)
        if self.contents.keyring.genesis is None:
            self.report.step(5).add(
                Verdict.INCOMPLETE, "genesis.missing", "the genesis entry (idx 0) is missing", idx=0
            )
        for table in self.tables.values():
            table.finish()
        self._finish()
        return self.contents

    def _paired(
        self, entries: Iterator[tuple[int, bytes]]
    ) -> Iterator[tuple[int, bytes, list[bytes] | None]]:
        """Bring each entry together with its line of proofs.txt."""
        step = self.report.step(4)
        lines = self.reader.lines("proofs.txt") if "proofs.txt" in self.reader.sizes else iter(())
        proofs = chain(iter_proofs(lines), [(1 << 64, [])])
        at, path = next(proofs)
        for idx, data in entries:
            while at < idx:
                step.add(
                    Verdict.INCOMPLETE, "proofs.orphan", "proofs.txt proves an entry that is missing", idx=at
                )
                at, path = next(proofs)
            if at == idx:
                yield idx, data, path
                at, path = next(proofs)
            else:
                step.add(Verdict.INCOMPLETE, "proofs.missing", "the entry has no line in proofs.txt", idx=idx)
                yield idx, data, None
        while at < 1 << 64:
            step.add(
                Verdict.INCOMPLETE, "proofs.orphan", "proofs.txt proves an entry that is missing", idx=at
            )
            at, path = next(proofs)

    def _check(self, idx: int, data: bytes, path: list[bytes] | None) -> None:
        checkpoint, proven = self.trust.checkpoint, False
        if path is not None:
            try:
                verify_inclusion(idx, checkpoint.size, leaf_hash(data), path, checkpoint.root)
                proven = True
                self.proven += 1
            except ProofError as error:
                message = f"the entry is not what the log holds at this index ({error.message})"
                self.report.step(4).add(Verdict.TAMPERED, error.code, message, idx=idx)
        try:
            entry = parse_entry(data)
            self._dispatch(idx, entry, proven)
        except EmdiError as error:
            verdict = Verdict.MALFORMED if proven else Verdict.TAMPERED
            self.report.step(5).add(
                verdict, error.code, f"the entry cannot be read: {error.message}", idx=idx
            )

    def _dispatch(self, idx: int, entry: Entry, proven: bool) -> None:
        if entry.kind == KIND_GENESIS:
            if not proven:
                raise KeyFormatError("genesis.place", "a genesis entry counts only as the proven leaf 0")
            self.contents.keyring.take_genesis(idx, entry.body, self.trust.checkpoint.origin)
        elif entry.kind == KIND_EVENT:
            self._check_event(idx, entry, proven)
        elif entry.kind == KIND_READING:
            self._check_envelope(idx, entry)
        elif entry.kind == KIND_QUARANTINED:
            self._check_quarantined(idx, entry)

    def _check_signature(self, idx: int, envelope: Envelope) -> None:
        try:
            verify_signature(envelope, self.contents.keyring.station_key(envelope.stn, envelope.kid, idx))
            self.signed += 1
        except EnvelopeError as error:
            place = (envelope.stn, envelope.ep, envelope.seq)
            verdict = weigh_signature(error)
            self.report.step(5).add(verdict, error.code, error.message, idx=idx, envelope=place)

    def _check_quarantined(self, idx: int, entry: Entry) -> None:
        """An envelope set aside accuses its station, so it must be the station's own."""
        envelope = parse_envelope(entry.body)
        self.report.counts["quarantined"] += 1
        self._check_signature(idx, envelope)
        place = f"epoch {envelope.ep}, seq {envelope.seq}"
        self.report.note(f"idx {idx}: station {envelope.stn} signed another envelope for {place}")

    def _check_envelope(self, idx: int, entry: Entry) -> None:
        envelope = parse_envelope(entry.body)
        place = (envelope.stn, envelope.ep, envelope.seq)
        self.report.counts["envelopes"] += 1
        self.report.counts["readings"] += len(envelope.records)
        self._check_signature(idx, envelope)
        if envelope.stn != self.contents.stn:
            message = f"an envelope of another station than {self.contents.stn}"
            self.report.step(6).add(Verdict.TAMPERED, "chain.station", message, idx=idx, envelope=place)
            return
        self.contents.envelopes.take(idx, envelope, self.report)
        rows = readings_csv_rows(idx, envelope.stn, envelope.ep, envelope.seq, envelope.records)
        self.tables[READINGS.file].expect(idx, rows)

    def _check_event(self, idx: int, entry: Entry, proven: bool) -> None:
        event = parse_event(entry.body)
        self.report.counts["events"] += 1
        signed = False
        try:
            verify_signature(event, self.contents.keyring.service_key(event.kid))
            self.signed += 1
            signed = True
        except EnvelopeError as error:
            message = f"event {event.subj} {event.sseq} ({event.typ}): {error.message}"
            self.report.step(5).add(weigh_signature(error), error.code, message, idx=idx)
        if event.subj != f"station:{self.contents.stn}":
            return
        self.contents.subject.take(idx, event, self.report)
        if signed and proven:
            try:
                self.contents.keyring.take_event(idx, event)
            except EmdiError as error:
                message = f"{event.typ} {event.subj} {event.sseq}: {error.message}"
                self.report.step(5).add(weigh_signature(error), error.code, message, idx=idx)
        try:
            self._expect_rows(idx, event)
        except (KeyError, TypeError, ValueError, OverflowError):
            message = f"{event.typ} {event.subj} {event.sseq} lacks what its table row needs"
            self.report.step(8).add(Verdict.MALFORMED, "table.event", message, idx=idx)

    def _expect_rows(self, idx: int, event: Event) -> None:
        data, own_id = event.data, f"{self.contents.stn}-{event.sseq}"
        if event.typ == "flag.raised":
            self.report.counts["flags"] += 1
            self._expect_id(idx, event, "flag_id", own_id)
            self.tables[FLAGS.file].expect(idx, [_flag_row(idx, data)])
        elif event.typ == "review.decision":
            self.report.counts["reviews"] += 1
            self._expect_id(idx, event, "review_id", own_id)
            row = reviews_csv_row(idx, data["review_id"], data["flag_id"], data["decision"], event.act)
            self.tables[REVIEWS.file].expect(idx, [row])
            self.contents.reasons[event.event_id] = (idx, data["review_id"], data.get("reason_sha256"))

    def _expect_id(self, idx: int, event: Event, name: str, own_id: str) -> None:
        if event.data[name] != own_id:
            message = f"{event.typ} calls itself {event.data[name]!r}, its place in the chain is {own_id}"
            self.report.step(6).add(Verdict.TAMPERED, "chain.id", message, idx=idx)

    def _finish(self) -> None:
        counts, contents = self.report.counts, self.contents
        self.report.step(4).finish(f"{self.proven} entries proven in a log of {self.trust.checkpoint.size}")
        self.report.step(5).finish(f"{self.signed} signatures hold")
        self.report.step(6).finish(f"{contents.envelopes.describe()}; {contents.subject.describe()}")
        rows = f"{counts['readings']} readings, {counts['flags']} flags, {counts['reviews']} reviews"
        self.report.step(8).finish(f"{rows} equal the signed ones")


def _flag_row(idx: int, data: dict[str, Any]) -> str:
    return flags_csv_row(
        idx,
        data["flag_id"],
        data["detector"],
        data["kind"],
        data["verdict"],
        data["from_ms"],
        data["to_ms"],
        data["channels"],
        flag_text_sha256(data["text_en"], data["text_zh"]),
    )
