"""Probes of the two Merkle proofs: 98 of inclusion, 98 of consistency, on logs whose leaf i is the byte i."""

from collections.abc import Callable
from typing import Any

from emdi import merkle

Case = dict[str, Any]
LEAVES = [merkle.leaf_hash(bytes([value])) for value in range(130)]
ROOTS = [merkle.root_of(LEAVES[:size]) for size in range(131)]
INCLUSION = [(0, 8), (5, 8), (6, 7), (1, 5), (0, 3), (64, 130), (129, 130)]
CONSISTENCY = [(3, 7), (6, 8), (1, 5), (5, 7), (64, 130), (129, 130), (7, 130)]


def flip(data: bytes, bit: int = 0) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def inclusion_probes() -> list[Case]:
    """Return seven honest proofs, each as it is and spoilt in thirteen ways."""
    cases = []
    for index, size in INCLUSION:
        honest = {
            "index": index,
            "size": size,
            "leaf": LEAVES[index],
            "path": merkle.inclusion_path(LEAVES[:size], index),
            "root": ROOTS[size],
        }
        for name, change in SPOIL_INCLUSION.items():
            cases.append(_written(f"{index} in {size}: {name}", {**honest, **change(honest)}, name))
    return cases


def consistency_probes() -> list[Case]:
    """Return seven honest proofs, each as it is and spoilt in thirteen ways."""
    cases = []
    for old, new in CONSISTENCY:
        honest = {
            "old": old,
            "new": new,
            "old_root": ROOTS[old],
            "new_root": ROOTS[new],
            "path": merkle.consistency_path(LEAVES[:new], old),
        }
        for name, change in SPOIL_CONSISTENCY.items():
            cases.append(_written(f"{old} to {new}: {name}", {**honest, **change(honest)}, name))
    return cases


def _path(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Case], Case]:
    return lambda case: {"path": change(case["path"])}


SPOIL_PATH: dict[str, Callable[[Case], Case]] = {
    "first hash changed": _path(lambda path: [flip(path[0]), *path[1:]]),
    "last hash changed": _path(lambda path: [*path[:-1], flip(path[-1], 255)]),
    "a hash too many": _path(lambda path: [*path, bytes(32)]),
    "a hash in front": _path(lambda path: [bytes(32), *path]),
    "last hash missing": _path(lambda path: path[:-1]),
    "a short hash": _path(lambda path: [path[0][:31], *path[1:]]),
    "no path": _path(lambda path: []),
}
SPOIL_INCLUSION: dict[str, Callable[[Case], Case]] = {
    "honest": lambda case: {},
    **SPOIL_PATH,
    "leaf changed": lambda case: {"leaf": flip(case["leaf"], 9)},
    "root changed": lambda case: {"root": flip(case["root"], 100)},
    "root of nothing": lambda case: {"root": ROOTS[0]},
    "the neighbour's index": lambda case: {"index": case["index"] ^ 1 if case["index"] + 1 < case["size"] else 0},
    "index = size": lambda case: {"index": case["size"]},
    "size 0": lambda case: {"size": 0},
}  # fmt: skip
SPOIL_CONSISTENCY: dict[str, Callable[[Case], Case]] = {
    "honest": lambda case: {},
    **SPOIL_PATH,
    "old root changed": lambda case: {"old_root": flip(case["old_root"], 9)},
    "new root changed": lambda case: {"new_root": flip(case["new_root"], 100)},
    "roots exchanged": lambda case: {"old_root": case["new_root"], "new_root": case["old_root"]},
    "old size 0": lambda case: {"old": 0},
    "sizes exchanged": lambda case: {"old": case["new"], "new": case["old"]},
    "equal sizes": lambda case: {"old": case["new"]},
}


def _written(name: str, case: Case, spoilt: str) -> Case:
    """Return a case with its hashes in hex; every spoilt one must be refused, whatever the code."""
    texts = {key: value.hex() if isinstance(value, bytes) else value for key, value in case.items()}
    texts["path"] = [item.hex() for item in case["path"]]
    return {"name": name, **texts, "holds": spoilt == "honest"}
