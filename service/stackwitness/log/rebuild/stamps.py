"""Time stamps beside the tiles, where the disk was lost: each is judged before it is written, whoever serves it."""

import hashlib
from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509

from emdi.anchor import CHAIN, FOLDER, MOST_AUTHORITIES
from emdi.errors import EmdiError
from stackwitness.errors import LogUnavailable
from stackwitness.log.anchored import read_anchors
from stackwitness.log.disk import Disk
from stackwitness.log.rebuild.source import VerifiedLog
from stackwitness_client.verify.timestamps import (
    TimestampRefused,
    check_timestamp,
    open_timestamp,
    read_certificates,
)

MOST_NOTE_BYTES = 1 << 16
MOST_CHAIN_BYTES = 1 << 20
Judge = Callable[[bytes], str]  # why the bytes are not what they should be; empty where they are


def restore_anchors(
    conn: sa.Connection, source: VerifiedLog, disk: Disk, lost: list[str], roots: Path | None = None
) -> int:
    """Write the time stamps that are gone from the disk or edited there; return how many files.

    Each must be the bytes its event names. The stamps on a frozen log's end no event names: there the note must be the
    log's own, of this very checkpoint, and a response must stamp it (by the authorities of `roots`, a PEM file, where
    one is given). Beside them the certificates between, which nobody needs to trust. `lost` takes each that the
    source has not, and each that it has and that is none.
    """
    restore = _Restore(source, disk, lost)
    named = {path: sha256 for anchor in read_anchors(conn) for path, sha256 in anchor.files.items()}
    for path, sha256 in named.items():
        restore.take_named(path, sha256)
    restore.take_end(named, None if roots is None else read_certificates(roots.read_bytes()))
    return restore.written


class _Restore:
    """One run: how many files were written, and what could not be."""

    def __init__(self, source: VerifiedLog, disk: Disk, lost: list[str]) -> None:
        self._source = source
        self._disk = disk
        self._lost = lost
        self.written = 0

    def take_named(self, path: str, sha256: str) -> None:
        """Write what an event names by its SHA-256 (hex)."""
        if _sha256(self._kept(path)) == sha256:
            return
        data = self._served(path)
        if data is None:
            self._tell(path, "it does not have it")
        elif _sha256(data) != sha256:
            self._tell(path, "it has other bytes than the log names")
        else:
            self._write(path, data)

    def take_end(self, named: Container[str], roots: Sequence[x509.Certificate] | None) -> None:
        """Write the certificates between, and note and responses on the log's last checkpoint."""
        pem = self._take_judged(f"{FOLDER}/{CHAIN}", _judge_chain)
        chain = [] if pem is None else read_certificates(pem)
        end = f"{FOLDER}/{self._source.checkpoint.size}"
        note = self._take_judged(f"{end}.note", self._judge_note)
        if note is None:
            return
        for k in range(MOST_AUTHORITIES):
            if (path := f"{end}.{k}.tsr") not in named:
                self._take_judged(path, partial(_judge_response, note=note, roots=roots, chain=chain))

    def _take_judged(self, path: str, judge: Judge) -> bytes | None:
        """Return the bytes of a file that stand the judgement, written where the disk had none such; None without any."""
        kept = self._kept(path)
        if kept is not None and not judge(kept):
            return kept
        data = self._served(path)
        if data is None:
            return None
        if why := judge(data):
            self._tell(path, f"what it has is none: {why}")
            return None
        self._write(path, data)
        return data

    def _judge_note(self, note: bytes) -> str:
        if len(note) > MOST_NOTE_BYTES:
            return "it is too long"
        try:
            return "" if self._source.opens(note) == self._source.checkpoint else "it is of another tree"
        except EmdiError as error:
            return error.message

    def _kept(self, path: str) -> bytes | None:
        try:
            return self._disk.read(path)
        except OSError:
            return None

    def _served(self, path: str) -> bytes | None:
        """Return a file of the source; None where it has none, or will not give it."""
        try:
            return self._source.read(path)
        except OSError:
            return None
        except LogUnavailable as error:
            self._tell(path, error.detail)
            return None

    def _write(self, path: str, data: bytes) -> None:
        self._disk.write(path, data)
        self.written += 1

    def _tell(self, path: str, why: str) -> None:
        line = f"the time stamp {path}: {self._source.name}: {why}"
        if line not in self._lost:
            self._lost.append(line)


def _judge_chain(pem: bytes) -> str:
    if len(pem) > MOST_CHAIN_BYTES:
        return "it is too long"
    try:
        return "" if read_certificates(pem) else "no certificates"
    except TimestampRefused as error:
        return error.message


def _judge_response(
    tsr: bytes, note: bytes, roots: Sequence[x509.Certificate] | None, chain: Sequence[x509.Certificate]
) -> str:
    try:
        if roots is None:
            open_timestamp(tsr, note)
        else:
            check_timestamp(tsr, note, roots, chain)
    # A stranger's bytes, read by another's library: whatever it is, the rest goes on.
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def _sha256(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()
