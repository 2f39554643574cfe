"""Ranking the forgeries by all findings of a matter."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackwitness_detectors import attribution_table as table
from stackwitness_detectors.attribution import rank_kinds
from stackwitness_detectors.forge import KINDS


@dataclass(frozen=True)
class Said:
    detector: str
    kinds: tuple[str, ...]


LEVEL = Said("level", ("scale", "offset", "drift"))
SMOOTH = Said("smooth_7d", ("smoothed", "backfill"))
some = st.lists(
    st.builds(
        Said,
        st.sampled_from(["level", "hold", "copy", "never_seen"]),
        st.lists(st.sampled_from(sorted(KINDS)), max_size=4, unique=True).map(tuple),
    ),
    max_size=5,
)


@given(some)
def test_neither_order_nor_repetition_of_findings_matters(said: list[Said]) -> None:
    ranked = rank_kinds(said)
    assert rank_kinds([*reversed(said), *said]) == ranked
    assert len(set(ranked)) == len(ranked)
    assert {kind for one in said for kind in one.kinds} <= set(ranked)


def test_without_counts_a_finding_alone_keeps_its_own_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TRIALS", {})
    monkeypatch.setattr(table, "COUNTS", {})
    assert rank_kinds([LEVEL]) == LEVEL.kinds
    assert rank_kinds([]) == ()


def test_what_was_counted_together_outweighs_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"level:scale": {"scale": 30, "smoothed": 10}, "smooth_7d:smoothed": {"smoothed": 38}}
    monkeypatch.setattr(table, "TRIALS", {"scale": 40, "smoothed": 40})
    monkeypatch.setattr(table, "COUNTS", counts)
    assert rank_kinds([LEVEL])[0] == "scale"
    assert rank_kinds([LEVEL, SMOOTH])[0] == "smoothed"


def test_the_table_names_kinds_of_the_forge() -> None:
    assert set(table.TRIALS) <= set(KINDS)
    for counts in table.COUNTS.values():
        assert all(0 < n <= table.TRIALS[kind] for kind, n in counts.items())
