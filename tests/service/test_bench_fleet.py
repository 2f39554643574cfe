"""The bench judges stations together: clean alarms once, a forged station among its clean neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stackwitness.bench import detect_fleet
from stackwitness.bench.detect_data import open_place, save_station
from stackwitness_detectors import ChannelInfo, Context, Frame
from stackwitness_detectors.bench.trials import make, plan_trials
from stackwitness_detectors.memory import DAY_MS
from tests.detectors.plants import HOUR_MS, START_MS, wander

HOURS = 140 * 24
BUDGET = 0.25


def save_two(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(7)
    at_ms = START_MS + np.arange(HOURS, dtype=np.int64) * HOUR_MS
    for stn, other in (("a", "b"), ("b", "a")):
        load = np.round(300 + 60 * wander(rng, HOURS, 0.9), 1)
        values = {"load": load, "so2": np.round(load / 5 * np.exp(0.05 * wander(rng, HOURS, 0.6)), 1)}
        channels = (
            ChannelInfo("load", "load", "MW", "load", None, 0.1),
            ChannelInfo("so2", "SO2", "mg/m3", "pollutant", None, 0.1),
        )
        letters = {name: np.full(HOURS, ord("N"), np.uint8) for name in values}
        save_station(
            folder / f"{stn}.npz", Context(stn, channels), Frame(at_ms, values, letters), (0.4, 0.6), other
        )
    return {stn: folder / f"{stn}.npz" for stn in ("a", "b")}


def test_a_copied_neighbour_is_found_by_the_fleet_of_the_bench(tmp_path: Path) -> None:
    places = {stn: open_place(path) for stn, path in save_two(tmp_path).items()}
    assert detect_fleet.stations_of(places) == ("a", "b")
    trials, _, _ = plan_trials(places, ["neighbour_copied"], 2, 1, ("gross",), ("medium",))
    days = {trial.from_ms // DAY_MS for trial in trials}
    assert detect_fleet.clean(tmp_path, ("a", "b"), days, BUDGET, (), False) == {"alarms": 0}
    assert detect_fleet.clean_alarms(tmp_path, "a", BUDGET) == []
    for trial in trials:
        forged = make(places[trial.stn], trial)
        alarms = detect_fleet.forged(tmp_path, trial, forged, BUDGET, (), False)
        assert alarms
        assert alarms[0].kinds[0] == "neighbour_copied"
        assert alarms[0].at_ms >= alarms[0].to_ms


def test_without_a_fleet_nothing_is_added(tmp_path: Path) -> None:
    places = {stn: open_place(path) for stn, path in save_two(tmp_path).items()}
    assert detect_fleet.stations_of({"a": places["a"]}) == ()
    trials, _, _ = plan_trials(places, ["neighbour_copied"], 1, 1, ("gross",), ("medium",))
    forged = make(places[trials[0].stn], trials[0])
    assert detect_fleet.forged(tmp_path, trials[0], forged, BUDGET, (), False) == []
