"""Proof files: the self-contained evidence behind an alarm, one JSON text that needs nothing but a policy.

A file holds signed checkpoints, leaves with their inclusion paths, at most one statement about a shorter prefix
of the log, and what its maker observed elsewhere (an answer of a server, a clock). `emdi.proof_check` holds all
of it against a policy and separates what is proven from what is only said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emdi.encoding import MAX_UINT, b64_decode, b64_encode, load_json
from emdi.errors import EncodingError, ProofFileError
from emdi.merkle import HASH_BYTES

VERSION = 1
MAX_FILE_BYTES = 16 << 20
MAX_NOTES = 4
MAX_LEAVES = 16
MAX_PATH = 63

# What an alarm says, and the exit code of a program that found it (0 ok, 1 tampered, 2 incomplete or stale,
# 3 malformed, 4 the policy is not met).
EXIT_CODES: Mapping[str, int] = {
    "fork": 1,
    "gossip": 1,
    "rollback": 1,
    "value": 1,
    "unsigned": 1,
    "flag": 1,
    "missing-flag": 1,
    "catalog": 1,
    "head": 1,
    "signature": 1,
    "chain": 1,
    "equivocation": 1,
    "back-dated": 1,
    "iat": 1,
    "entry": 1,
    "tiles": 1,
    "malformed": 3,
    "stale": 2,
    "missing": 2,
    "policy": 4,
}
_MEMBERS = {"v", "type", "says", "made_ms", "notes", "leaves", "prefix", "observed"}


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """Entry `entry` at `idx`, with its inclusion path in the tree of notes[`note`]."""

    idx: int
    entry: bytes
    path: tuple[bytes, ...]
    note: int = 0


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `size` leaves of the tree of notes[`note`] have root `root`, by this consistency path."""

    size: int
    root: bytes
    path: tuple[bytes, ...]
    note: int = 0


@dataclass(frozen=True, slots=True)
class ProofFile:
    """The content of a proof file; nothing is checked yet. `made_ms` is its maker's clock (Unix ms)."""

    type: str
    says: str
    made_ms: int
    notes: tuple[bytes, ...] = ()
    leaves: tuple[ProvenLeaf, ...] = ()
    prefix: Prefix | None = None
    observed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Return the exit code its type stands for."""
        return EXIT_CODES[self.type]


def format_proof(proof: ProofFile) -> bytes:
    """Return the file: indented JSON, hashes and entries in base64, notes as their text."""
    members = {
        "v": VERSION,
        "type": proof.type,
        "says": proof.says,
        "made_ms": proof.made_ms,
        "notes": [note.decode("utf-8") for note in proof.notes],
        "leaves": [
            {"idx": leaf.idx, "entry": b64_encode(leaf.entry), "path": _texts(leaf.path), "note": leaf.note}
            for leaf in proof.leaves
        ],
        "prefix": None if proof.prefix is None else _prefix_members(proof.prefix),
        "observed": proof.observed,
    }
    return (json.dumps(members, ensure_ascii=False, indent=1, default=float) + "\n").encode()


def parse_proof(data: bytes) -> ProofFile:
    """Read a proof file strictly; raise ProofFileError (proof_file.size, proof_file.form, proof_file.type)."""
    if len(data) > MAX_FILE_BYTES:
        raise ProofFileError("proof_file.size", f"{len(data)} bytes, at most {MAX_FILE_BYTES} allowed")
    try:
        members = load_json(data)
        if type(members) is not dict or members.keys() != _MEMBERS or members["v"] != VERSION:
            raise ProofFileError(
                "proof_file.form", f"members are exactly {' '.join(sorted(_MEMBERS))}; v is 1"
            )
        return _take(members)
    except (EncodingError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProofFileError("proof_file.form", str(error)) from None


def _take(members: Mapping[str, Any]) -> ProofFile:
    kind, notes, leaves = members["type"], members["notes"], members["leaves"]
    if type(kind) is not str or kind not in EXIT_CODES:
        raise ProofFileError("proof_file.type", f"unknown type {kind!r}")
    if type(notes) is not list or len(notes) > MAX_NOTES:
        raise ProofFileError("proof_file.form", f"notes is a list of at most {MAX_NOTES}")
    if type(leaves) is not list or len(leaves) > MAX_LEAVES:
        raise ProofFileError("proof_file.form", f"leaves is a list of at most {MAX_LEAVES}")
    if type(members["says"]) is not str or type(members["observed"]) is not dict:
        raise ProofFileError("proof_file.form", "says is a string, observed an object")
    prefix = members["prefix"]
    return ProofFile(
        type=kind,
        says=members["says"],
        made_ms=_take_uint(members["made_ms"]),
        notes=tuple(note.encode("utf-8") for note in notes),
        leaves=tuple(
            ProvenLeaf(
                _take_uint(item["idx"]),
                b64_decode(item["entry"]),
                _take_path(item["path"]),
                _take_place(item["note"], len(notes)),
            )
            for item in leaves
        ),
        prefix=None
        if prefix is None
        else Prefix(
            _take_uint(prefix["size"]),
            _take_hash(prefix["root"]),
            _take_path(prefix["path"]),
            _take_place(prefix["note"], len(notes)),
        ),
        observed=members["observed"],
    )


def _prefix_members(prefix: Prefix) -> dict[str, Any]:
    return {
        "size": prefix.size,
        "root": b64_encode(prefix.root),
        "path": _texts(prefix.path),
        "note": prefix.note,
    }


def _texts(path: tuple[bytes, ...]) -> list[str]:
    return [b64_encode(item) for item in path]


def _take_uint(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_UINT:
        raise ProofFileError("proof_file.form", f"{value!r} is not an integer >= 0")
    return value


def _take_place(value: object, count: int) -> int:
    place = _take_uint(value)
    if place >= count:
        raise ProofFileError("proof_file.form", f"there is no note {place}")
    return place


def _take_path(value: object) -> tuple[bytes, ...]:
    if type(value) is not list or len(value) > MAX_PATH + 1:
        raise ProofFileError("proof_file.form", "a path is a list of at most 64 hashes")
    return tuple(_take_hash(item) for item in value)


def _take_hash(value: object) -> bytes:
    data = b64_decode(value) if type(value) is str else b""
    if len(data) != HASH_BYTES:
        raise ProofFileError("proof_file.form", "a hash is 32 bytes in base64")
    return data
