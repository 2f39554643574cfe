"""One deterministic encoding of detector state: canonical JSON for the tree, raw arrays, zlib."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.config import VERSION
from stackwitness_detectors.contract import DetectorError

MAGIC = b"SWDS"
STATE_VERSION = 5
# What must be the same for findings to come out the same: the rules and the form of the state.
CODE_VERSION = f"{VERSION}.{STATE_VERSION}"
_KINDS = ("<f8", "<f4", "<i8", "<i4", "|u1", "|b1")
_MAX_BYTES = 256 * 1024 * 1024


def encode_state(tree: dict[str, Any]) -> bytes:
    """Encode a tree of dicts, lists, numbers, strings and numpy arrays; equal trees give equal bytes."""
    arrays: list[NDArray[Any]] = []
    head = json.dumps(_lift(tree, arrays), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    body = b"".join([len(head).to_bytes(8, "little"), head, *(a.tobytes() for a in arrays)])
    return MAGIC + bytes([STATE_VERSION]) + zlib.compress(body, 1)


def decode_state(state: bytes) -> dict[str, Any]:
    """Decode what `encode_state` wrote; raise DetectorError state.version or state.damaged."""
    body = _open(state)
    try:
        size = int.from_bytes(body[:8], "little")
        cursor = 8 + size
        tree, _ = _lower(json.loads(body[8:cursor]), body, cursor)
    except (ValueError, KeyError, IndexError, TypeError) as wrong:
        raise DetectorError("state.damaged", "the stored state cannot be read") from wrong
    if not isinstance(tree, dict):
        raise DetectorError("state.damaged", "the stored state is not a tree")
    return tree


def state_hash(state: bytes) -> str:
    """Hash the content of a state (SHA-256, lowercase hex), whatever the compressor's version."""
    return hashlib.sha256(MAGIC + bytes([STATE_VERSION]) + _open(state)).hexdigest()


def _open(state: bytes) -> bytes:
    if state[:4] != MAGIC or len(state) < 6 or state[4] != STATE_VERSION:
        raise DetectorError("state.version", "this is not a state of this version of the detectors")
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(state[5:], _MAX_BYTES)
    except zlib.error as wrong:
        raise DetectorError("state.damaged", "the stored state cannot be unpacked") from wrong
    if not unpacker.eof:
        raise DetectorError("state.damaged", "the stored state is cut off or too large")
    return body


def _lift(node: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(node, dict):
        # Sorted here too, since the arrays are stored in the order in which the tree is walked.
        return {key: _lift(node[key], arrays) for key in sorted(node)}
    if isinstance(node, list | tuple):
        return [_lift(item, arrays) for item in node]
    if isinstance(node, np.ndarray):
        plain = np.ascontiguousarray(node)
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
        arrays.append(plain)
        return {"#": [_KINDS.index(plain.dtype.str), *plain.shape]}
    if isinstance(node, np.generic):
        return node.item()
    return node


def _lower(node: Any, body: bytes, cursor: int) -> tuple[Any, int]:
    if isinstance(node, dict):
        if "#" in node:
            kind, *shape = node["#"]
            dtype = np.dtype(_KINDS[kind])
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(body, dtype, count, cursor).reshape(shape).copy()
            return array, cursor + count * dtype.itemsize
        lowered = {}
        for key in sorted(node):
            lowered[key], cursor = _lower(node[key], body, cursor)
        return lowered, cursor
    if isinstance(node, list):
        items = []
        for item in node:
            value, cursor = _lower(item, body, cursor)
            items.append(value)
        return items, cursor
    return node, cursor
