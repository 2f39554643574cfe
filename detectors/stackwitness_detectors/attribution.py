"""Rank the forgeries that a matter may be, by all that its findings say together.

One finding names a few kinds, likeliest first. Which tests speak together tells more: a level that falls while nothing else
speaks is no generated series. P(test speaks and puts this kind first | forged kind) was counted over forgeries at the
design stations of bench/split.toml (`attribution_table.py`, written by bench/learn_kinds.py); the ranking of the finding
itself stands in for counts where there are few. A naive Bayes rule over these signs ranks the kinds. Free of numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from stackwitness_detectors import attribution_table as table

# By leaving one out at the design stations.
_PRIOR = 8.0  # trials that a finding's own ranking counts for
_BY_RANK = (0.5, 0.3, 0.2, 0.12, 0.08)
_OTHERWISE = 0.06  # chance that a test speaks so of a forgery for no reason to do with its kind
_SILENT = 0.25  # weight of what did not speak: a test may have had no channel, or too little time


class Spoken(Protocol):
    """What is asked of a finding: its test, and the kinds it ranks."""

    @property
    def detector(self) -> str:
        """Return the test's name."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds, likeliest first."""


def sign_of(spoken: Spoken) -> str:
    """Name what a finding says: its test and the kind it puts first."""
    return f"{spoken.detector}:{spoken.kinds[0] if spoken.kinds else ''}"


def rank_kinds(findings: Iterable[Spoken]) -> tuple[str, ...]:
    """Return all kinds that findings of one matter may be, likeliest first; () without findings.

    The order of the findings, and how often one speaks, do not matter. Kinds that nothing names and that were never
    counted with these signs are left out.
    """
    named: dict[str, dict[str, float]] = {}
    for spoken in findings:
        ranks = named.setdefault(sign_of(spoken), {})
        for kind, share in zip(spoken.kinds, _BY_RANK, strict=False):
            ranks[kind] = max(ranks.get(kind, 0.0), share)
    candidates = {kind for ranks in named.values() for kind in ranks}
    candidates |= {kind for sign in named for kind in table.COUNTS.get(sign, {})}
    scores = {kind: _score(kind, named) for kind in candidates}
    return tuple(sorted(scores, key=lambda kind: (-scores[kind], kind)))


def _score(kind: str, named: dict[str, dict[str, float]]) -> float:
    tried = table.TRIALS.get(kind, 0)
    counted = tried / (tried + _PRIOR)
    terms = []
    for sign, ranks in named.items():
        seen = table.COUNTS.get(sign, {}).get(kind, 0) / max(tried, 1)
        terms.append(math.log(counted * seen + (1.0 - counted) * ranks.get(kind, 0.0) + _OTHERWISE))
    for sign, counts in table.COUNTS.items():
        if sign not in named and kind in counts:
            terms.append(_SILENT * math.log(1.0 - counts[kind] / (tried + 1.0)))
    return math.fsum(terms)
