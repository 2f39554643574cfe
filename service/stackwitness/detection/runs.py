"""What a run of the detectors says about itself: enough to run it again and compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stackwitness_detectors.contract import Finding


def digest_of(findings: Iterable[Finding]) -> str:
    """Return SHA-256 (lowercase hex) over the sorted lines `<episode> <kind> <verdict> <from_ms> <to_ms>`."""
    lines = sorted(
        f"{one.episode} {one.kind} {one.verdict} {int(one.from_ms)} {int(one.to_ms)}\n" for one in findings
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def input_of(first: tuple[int, int], last: tuple[int, int], count: int) -> dict[str, Any]:
    """Name the envelopes, first and last (ep, seq), whose readings reach into a run, and how many it judged."""
    return {
        "ep_first": first[0],
        "seq_first": first[1],
        "ep_last": last[0],
        "seq_last": last[1],
        "count": count,
    }
