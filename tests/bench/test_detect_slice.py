"""The detectors do not get worse: a small seeded bench on simulated plants against the figures kept beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.slice import BUDGET, FLOOR, KINDS, measure


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure(tmp_path_factory.mktemp("slice"))


def test_no_kind_is_found_less_often_than_before(told: dict[str, Any]) -> None:
    floor = json.loads(FLOOR.read_text())
    worse = {
        kind: (share, told["recall_by_kind"].get(kind))
        for kind, share in floor["recall_by_kind"].items()
        if told["recall_by_kind"].get(kind, 0.0) < share
    }
    assert not worse


def test_honest_readings_raise_no_more_alarms_than_before(told: dict[str, Any]) -> None:
    floor = json.loads(FLOOR.read_text())
    assert told["station_months"] == floor["station_months"]
    assert told["false_alarms"] <= floor["false_alarms"]
    assert told["alarmed_share"] <= floor["alarmed_share"]


def test_the_floor_itself_is_worth_something() -> None:
    floor = json.loads(FLOOR.read_text())
    assert set(floor["recall_by_kind"]) <= set(KINDS)
    assert sum(floor["recall_by_kind"].values()) >= 0.6 * len(KINDS)
    assert floor["alarmed_share"] <= 0.05
    assert floor["false_alarms"] <= max(1.0, 2 * BUDGET * floor["station_months"])
