"""A log as plain files behind a plain HTTP server: whatever a dishonest log could serve, a test can put there."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from emdi.checkpoint import Checkpoint
from emdi.merkle import leaf_hash, root_of
from emdi.note import KIND_COSIGNATURE, NoteSigner, format_note
from emdi.tiles import encode_bundle, entries_path, tile_path
from tests.emdi.making import Log, honest_log

WITNESS = NoteSigner(
    "witness.example/1", hashlib.sha256(b"only for tests: witness").digest(), KIND_COSIGNATURE
)


def whole_log() -> Log:
    """Return an honest log in which the new epoch has its event, as ingest stores the two together."""
    log = honest_log()
    opened = next(item for item in log.envelopes if item.ep == 1)
    log.event("epoch.open", {"ep": 1, "prev_ep": 0, "env_id": opened.env_id.hex()})
    return log


@dataclass
class StaticLog:
    """Files below `folder`/log; `publish` signs and cosigns whatever entries it is given."""

    folder: Path
    signer: NoteSigner
    url: str = ""
    notes: list[bytes] = field(default_factory=list)

    @property
    def policy(self) -> str:
        """The policy that asks for the witness."""
        return f"log {self.signer.vkey}\nwitness w1 {WITNESS.vkey}\ngroup g 1 w1\nquorum g\n"

    def note(self, entries: Sequence[bytes], at_ms: int | None) -> bytes:
        """Return the checkpoint of these entries, cosigned at this time (None: not at all)."""
        leaves = [leaf_hash(entry) for entry in entries]
        text = Checkpoint(self.signer.verifier.name, len(leaves), root_of(leaves)).text()
        lines = [self.signer.sign(text)] + ([] if at_ms is None else [WITNESS.cosign(text, at_ms // 1000)])
        return format_note(text, lines)

    def publish(self, entries: Sequence[bytes], at_ms: int | None) -> bytes:
        """Write tiles, bundles and checkpoint of these entries, in place of what was there."""
        shutil.rmtree(self.folder / "log" / "tile", ignore_errors=True)
        self.write_tiles(entries)
        note = self.note(entries, at_ms)
        self.write("checkpoint", note)
        self.notes.append(note)
        return note

    def write_tiles(self, entries: Sequence[bytes]) -> None:
        """Write tiles and bundles."""
        for n in range(0, len(entries), 256):
            bundle = entries[n : n + 256]
            self.write(entries_path(n // 256, len(bundle)), encode_bundle(list(bundle)))
        level, hashes = 0, [leaf_hash(entry) for entry in entries]
        while hashes:
            for n in range(0, len(hashes), 256):
                tile = hashes[n : n + 256]
                self.write(tile_path(level, n // 256, len(tile)), b"".join(tile))
            full = len(hashes) // 256 * 256
            level, hashes = level + 1, [root_of(hashes[n : n + 256]) for n in range(0, full, 256)]

    def write(self, path: str, data: bytes) -> None:
        """Put a file below /log."""
        target = self.folder / "log" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def static_log(folder: Path, signer: NoteSigner) -> Iterator[StaticLog]:
    """Serve a folder on a free loopback port until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield StaticLog(folder, signer, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
