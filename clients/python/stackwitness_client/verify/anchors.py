"""Step 12: time stamps say that the log held these entries by then, whatever clock the server had."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509

from emdi.bundle import BundleReader, iter_entries
from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import b64_decode
from emdi.entry import parse_entry
from emdi.errors import BundleError, EmdiError
from emdi.layout import anchors_in
from emdi.merkle import verify_consistency
from emdi.note import parse_note
from stackwitness_client.verify.report import Report, Step, Verdict
from stackwitness_client.verify.timestamps import (
    Timestamp,
    TimestampRefused,
    check_timestamp,
    have_library,
    read_certificates,
)

CHAIN = "anchors/tsa-chain.pem"
# Clocks of server and authority may differ by this before an entry counts as dated after its own time stamp.
CLOCKS_MS = 60_000


@dataclass(slots=True)
class _Anchored:
    """One anchored checkpoint: the log's size there, the note's bytes, and the stamps that hold."""

    size: int
    note: bytes
    stamps: list[Timestamp] = field(default_factory=list)

    @property
    def first_ms(self) -> int:
        """The earliest time an authority saw it."""
        return min(stamp.gen_time_ms for stamp in self.stamps)


def check_anchors(
    reader: BundleReader, checkpoint: Checkpoint, tsa_roots: bytes | None, report: Report
) -> None:
    """Check the anchors of a bundle: `tsa_roots` are PEM certificates of authorities the verifier trusts.

    Each anchored note must be a prefix of the tree of `checkpoint`, so nothing depends on who signed the note.
    """
    step = report.step(12)
    sizes = anchors_in(reader.sizes)
    if not sizes:
        return
    anchored = [note for size in sizes if (note := _open_note(reader, size, checkpoint, step)) is not None]
    if tsa_roots is None or not have_library():
        why = "give --tsa-root" if tsa_roots is None else "rfc3161-client is not installed"
        step.skip(f"{len(sizes)} checkpoints are time-stamped, the stamps are not checked: {why}")
        return
    try:
        roots, chain = read_certificates(tsa_roots), _read_chain(reader)
    except TimestampRefused as error:
        step.add(Verdict.POLICY, error.code, error.message, file=CHAIN)
        return
    for item in anchored:
        _check_stamps(reader, item, sizes[item.size], roots, chain, step, report)
    held = [item for item in anchored if item.stamps]
    _check_times(reader, held, step)
    step.finish("; ".join(_say(item) for item in held) or "none holds")
    if held:
        last = max(item.size for item in held)
        report.note(f"entries from idx {last} on are under no time stamp of this bundle")


def _open_note(reader: BundleReader, size: int, checkpoint: Checkpoint, step: Step) -> _Anchored | None:
    name = f"anchors/{size}.note"
    try:
        note = reader.read(name)
        anchored = parse_checkpoint(parse_note(note).text)
        lines = reader.text(f"anchors/{size}.proof").splitlines()
        proof = [b64_decode(line) for line in lines]
        if (anchored.origin, anchored.size) != (checkpoint.origin, size):
            raise BundleError("anchor.note", f"it is of {anchored.origin}, size {anchored.size}")
        if not 0 < size <= checkpoint.size:
            raise BundleError("anchor.note", f"it is larger than the checkpoint ({checkpoint.size})")
        verify_consistency(size, checkpoint.size, anchored.root, checkpoint.root, proof)
    except KeyError as error:
        step.add(Verdict.INCOMPLETE, "anchor.missing", f"{error.args[0]} is missing", file=name)
        return None
    except EmdiError as error:
        verdict = Verdict.TAMPERED if error.code.startswith(("proof.", "anchor.")) else Verdict.MALFORMED
        text = f"{name} is no prefix of the checkpoint's log: {error.message}"
        step.add(verdict, error.code, text, file=name)
        return None
    return _Anchored(size, note)


def _read_chain(reader: BundleReader) -> list[x509.Certificate]:
    return read_certificates(reader.read(CHAIN)) if CHAIN in reader.sizes else []


def _check_stamps(
    reader: BundleReader,
    item: _Anchored,
    names: Sequence[str],
    roots: Sequence[x509.Certificate],
    chain: Sequence[x509.Certificate],
    step: Step,
    report: Report,
) -> None:
    """Check every stamp on one note; one that leads to a root is enough, the others are then only noted."""
    strangers: list[str] = []
    for name in names:
        try:
            item.stamps.append(check_timestamp(reader.read(name), item.note, roots, chain))
        except BundleError as error:
            step.add(Verdict.MALFORMED, error.code, error.message, file=name)
        except TimestampRefused as error:
            if error.code == "anchor.untrusted":
                strangers.append(f"{name} holds under none of your --tsa-root certificates: {error.message}")
            else:
                verdict = Verdict.TAMPERED if error.code == "anchor.imprint" else Verdict.MALFORMED
                step.add(verdict, error.code, f"{name}: {error.message}", file=name)
    for text in strangers:
        if item.stamps:
            report.note(text)
        else:
            step.add(Verdict.POLICY, "anchor.untrusted", text, file=f"anchors/{item.size}.note")
    if not names:
        step.add(Verdict.INCOMPLETE, "anchor.missing", f"anchors/{item.size}.note has no time stamp")


def _check_times(reader: BundleReader, held: Sequence[_Anchored], step: Step) -> None:
    """Refuse an entry that claims to have been received after a time stamp that covers it."""
    if not held or "entries.bin" not in reader.sizes:
        return
    limits = sorted((item.size, item.first_ms) for item in held)
    try:
        with reader.stream("entries.bin") as stream:
            for idx, data in iter_entries(stream):
                covering = [first_ms for size, first_ms in limits if idx < size]
                if not covering:
                    return
                recv_ms = parse_entry(data).recv_ms
                if recv_ms > min(covering) + CLOCKS_MS:
                    text = f"received {_utc(recv_ms)} by the server's clock, yet time-stamped {_utc(min(covering))}"
                    step.add(Verdict.TAMPERED, "anchor.later", text, idx=idx)
    except EmdiError:  # entries.bin is damaged: step 4 says so
        return


def _say(item: _Anchored) -> str:
    who = ", ".join(sorted({stamp.authority for stamp in item.stamps}))
    return f"{item.size} entries were there by {_utc(item.first_ms)} ({who})"


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
