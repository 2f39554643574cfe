"""The names that may stand in an export bundle."""

import re
from collections.abc import Iterable

MEMBERS = frozenset(
    {
        "MANIFEST",
        "README.txt",
        "bundle.note",
        "checkpoint",
        "consistency.txt",
        "custody.csv",
        "disclosures.jsonl",
        "entries.bin",
        "export.jws",
        "export.tlog-proof",
        "flags.csv",
        "policy.txt",
        "proofs.txt",
        "readings.csv",
        "reviews.csv",
        "scope.json",
    }
)
OPTIONAL = frozenset(
    {
        "anchors/tsa-chain.pem",
        "flags.parquet",
        "previous/head",
        "readings.parquet",
        "report.json",
        "report.pdf",
    }
)
# What seals the manifest, or proves the sealing, cannot stand in it.
UNLISTED = frozenset({"MANIFEST", "bundle.note", "consistency.txt", "export.jws", "export.tlog-proof"})
# Absent together from a bundle of a frozen log, which takes no event that could seal it.
LOGGED = frozenset({"consistency.txt", "export.jws", "export.tlog-proof"})
_SIZE = "(0|[1-9][0-9]{0,18})"
_HEAD = re.compile(rf"heads/{_SIZE}(\.proof)?")
_STATE = re.compile(r"detector-state/[A-Za-z0-9._-]{1,64}\.bin")
_ANCHOR = re.compile(rf"anchors/{_SIZE}(?:\.(?:note|proof)|\.[0-9]\.tsr)")


def is_member(name: str) -> bool:
    """Tell whether a member of this name belongs to the format."""
    if name in MEMBERS or name in OPTIONAL:
        return True
    return name.isascii() and any(form.fullmatch(name) for form in (_HEAD, _ANCHOR, _STATE))


def head_names(as_of: int) -> tuple[str, str]:
    """Return the names of the lines of the head at log size `as_of` and of their proofs."""
    return f"heads/{as_of}", f"heads/{as_of}.proof"


def heads_in(names: list[str]) -> list[int]:
    """Return the log sizes of the heads among these member names, ascending."""
    matches = [_HEAD.fullmatch(name) for name in names]
    return sorted({int(match[1]) for match in matches if match is not None})


def anchors_in(names: Iterable[str]) -> dict[int, list[str]]:
    """Return the log sizes of the anchors among these member names, ascending, each with its time stamps."""
    found = [(int(match[1]), name) for name in names if (match := _ANCHOR.fullmatch(name)) is not None]
    sizes: dict[int, list[str]] = {size: [] for size, _ in sorted(found)}
    for size, name in sorted(found):
        if name.endswith(".tsr"):
            sizes[size].append(name)
    return sizes
