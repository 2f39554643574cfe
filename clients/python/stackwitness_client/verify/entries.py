"""Steps 4 to 6 and 8 in one pass over entries.bin: proofs, signatures, chains and tables."""

from collections.abc import Iterator
from itertools import chain

from emdi.bundle import BundleReader, iter_entries, iter_proofs
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, Entry, parse_entry
from emdi.envelope import parse_columns, parse_envelope
from emdi.errors import BundleError, EmdiError, KeyFormatError, ProofError
from emdi.event import Event, parse_event
from emdi.event_form import check_form
from emdi.merkle import leaf_hash, verify_inclusion
from emdi.policy import read_change
from emdi.runs import Span
from emdi.tables import readings_csv_columns
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.known import KnownPrefix
from stackwitness_client.verify.previous import take_previous
from stackwitness_client.verify.report import Report, Verdict, weigh_signature
from stackwitness_client.verify.rows import EventRows
from stackwitness_client.verify.signatures import SignatureCheck
from stackwitness_client.verify.tables import READINGS, TableCheck
from stackwitness_client.verify.trust import Trust

_END = 1 << 64


class EntryWalk:
    """Hold every entry against the checkpoint, its signer, its chain and the tables."""

    def __init__(self, reader: BundleReader, trust: Trust, contents: Contents, report: Report) -> None:
        self.reader = reader
        self.trust = trust
        self.report = report
        self.contents = contents
        self.signatures = SignatureCheck(self.contents.keyring, report)
        self.rows = EventRows(reader, self.contents, report)
        self.readings = TableCheck(READINGS, reader, report.step(8))
        self.known = KnownPrefix(trust)
        self.proven = 0

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
        self.readings.finish()
        self.rows.finish()
        self.known.finish(self.report)
        self.contents.judged.report(self.report)
        self.signatures.note_suspects()
        self._finish()
        return self.contents

    def _paired(
        self, entries: Iterator[tuple[int, bytes]]
    ) -> Iterator[tuple[int, bytes, list[bytes] | None]]:
        """Bring each entry together with its line of proofs.txt."""
        lines = self.reader.lines("proofs.txt") if "proofs.txt" in self.reader.sizes else iter(())
        proofs = chain(iter_proofs(lines), [(_END, [])])
        at, path = next(proofs)
        for idx, data in chain(entries, [(_END, b"")]):
            while at < idx:
                self._lack("proofs.orphan", "proofs.txt proves an entry that is missing", at)
                at, path = next(proofs)
            if idx == _END:
                return
            if at == idx:
                yield idx, data, path
                at, path = next(proofs)
            else:
                self._lack("proofs.missing", "the entry has no line in proofs.txt", idx)
                yield idx, data, None

    def _lack(self, code: str, message: str, idx: int) -> None:
        self.report.step(4).add(Verdict.INCOMPLETE, code, message, idx=idx)

    def _check(self, idx: int, data: bytes, path: list[bytes] | None) -> None:
        checkpoint, proven = self.trust.checkpoint, False
        if path is not None:
            try:
                verify_inclusion(idx, checkpoint.size, leaf_hash(data), path, checkpoint.root)
                proven = True
                self.proven += 1
                self.known.take(idx, data, path)
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
            self.contents.began_ms = entry.recv_ms
            members = self.contents.keyring.take_genesis(idx, entry.body, self.trust.checkpoint.origin)
            take_previous(self.reader, members.get("previous"), self.contents, self.report)
        elif entry.kind == KIND_EVENT:
            self._check_event(idx, entry, proven)
        elif entry.kind == KIND_READING:
            self._check_envelope(idx, entry)
        elif entry.kind == KIND_QUARANTINED:
            self._check_quarantined(idx, entry)

    def _check_quarantined(self, idx: int, entry: Entry) -> None:
        """An envelope set aside accuses its station, so it must be the station's own."""
        envelope = parse_envelope(entry.body)
        self.report.counts["quarantined"] += 1
        if self.signatures.check_envelope(idx, envelope):
            place = (envelope.stn, envelope.ep, envelope.seq)
            self.contents.aside.setdefault(place, []).append(idx)

    def _check_envelope(self, idx: int, entry: Entry) -> None:
        envelope, readings = parse_columns(entry.body)
        place = (envelope.stn, envelope.ep, envelope.seq)
        self.report.counts["envelopes"] += 1
        self.report.counts["readings"] += len(readings.at_ms)
        self.signatures.check_envelope(idx, envelope)
        station = self.contents.stations.get(envelope.stn)
        if station is None:
            message = f"an envelope of station {envelope.stn}, which is not in scope"
            self.report.step(6).add(Verdict.TAMPERED, "chain.station", message, idx=idx, envelope=place)
            return
        span = Span(place[1:], min(readings.at_ms), max(readings.at_ms))
        station.take(idx, envelope, entry.recv_ms, (span.first_ms, span.last_ms), self.report)
        self.contents.judged.take_envelope(envelope.stn, span)
        self.readings.expect(idx, readings_csv_columns(idx, *place, readings))

    def _check_event(self, idx: int, entry: Entry, proven: bool) -> None:
        event = parse_event(entry.body)
        self.report.counts["events"] += 1
        signed = self.signatures.check_event(idx, event)
        self.contents.subject(event.subj).take(idx, event, self.report)
        if signed and proven:
            self._learn(idx, event, entry.recv_ms)
            self._note_senseless(idx, event)
        self.rows.take(idx, event)

    def _learn(self, idx: int, event: Event, recv_ms: int) -> None:
        try:
            self.contents.keyring.take_event(idx, event)
            self.contents.take_event(idx, event, recv_ms)
        except EmdiError as error:
            message = f"{event.typ} {event.subj} {event.sseq}: {error.message}"
            self.report.step(5).add(weigh_signature(error), error.code, message, idx=idx)

    def _note_senseless(self, idx: int, event: Event) -> None:
        """What changes nothing, because nobody can take what it says, takes nothing from the evidence: it is told.

        A policy nobody can use is one of these: evidence is judged by the verifier's own.
        """
        try:
            check_form(event)
            if event.typ == "policy.change":
                read_change(event.data, self.trust.checkpoint.origin)
        except EmdiError as error:
            self.report.note(
                f"idx {idx}: {event.typ} {event.subj} {event.sseq} changes nothing: {error.message}"
            )

    def _finish(self) -> None:
        contents = self.contents
        self.report.step(4).finish(f"{self.proven} entries proven in a log of {self.trust.checkpoint.size}")
        self.report.step(5).finish(f"{self.signatures.held} signatures hold")
        self.report.step(6).finish(contents.describe())
