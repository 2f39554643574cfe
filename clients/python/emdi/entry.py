"""Log entries: 13 bytes of prefix (magic, kind, time of receipt) and a body."""

from typing import NamedTuple

from emdi.errors import TileError

MAGIC = b"EMD\x01"
PREFIX_BYTES = 13
MAX_ENTRY_BYTES = 65535
KIND_GENESIS = 0
KIND_READING = 1
KIND_EVENT = 2
KIND_QUARANTINED = 3
KINDS = frozenset({KIND_GENESIS, KIND_READING, KIND_EVENT, KIND_QUARANTINED})


class Entry(NamedTuple):
    """One leaf of the log: `recv_ms` is the time of receipt (Unix ms), `body` a JWS or the genesis JSON."""

    kind: int
    recv_ms: int
    body: bytes


def encode_entry(kind: int, recv_ms: int, body: bytes) -> bytes:
    """Return the leaf data; raise TileError("entry.kind" | "entry.time" | "entry.size")."""
    if kind not in KINDS:
        raise TileError("entry.kind", f"unknown kind {kind}")
    if not 0 <= recv_ms < 2**63:
        raise TileError("entry.time", "time of receipt out of range")
    if not 0 < len(body) <= MAX_ENTRY_BYTES - PREFIX_BYTES:
        raise TileError("entry.size", f"body of {len(body)} bytes")
    return MAGIC + bytes([kind]) + recv_ms.to_bytes(8, "big") + body


def parse_entry(data: bytes) -> Entry:
    """Split leaf data into kind, time and body; raise TileError("entry.magic" | ...)."""
    if len(data) <= PREFIX_BYTES or not data.startswith(MAGIC):
        raise TileError("entry.magic", "not an EMDI log entry")
    if len(data) > MAX_ENTRY_BYTES:
        raise TileError("entry.size", f"entry of {len(data)} bytes")
    kind, recv_ms = data[4], int.from_bytes(data[5:PREFIX_BYTES], "big")
    if kind not in KINDS:
        raise TileError("entry.kind", f"unknown kind {kind}")
    if recv_ms >= 2**63:
        raise TileError("entry.time", "time of receipt out of range")
    return Entry(kind, recv_ms, data[PREFIX_BYTES:])
