"""Peers are measured as we are: thresholds from the calibration part, no credit where they speak anyway."""

from __future__ import annotations

import numpy as np
import pytest

from stackwitness.bench.detect_data import open_place, read_station, save_station
from stackwitness.bench.detect_peers import _Station
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors.bench.budgets import count_events
from stackwitness_detectors.bench.trials import Place, Trial, plan_trials
from stackwitness_detectors.memory import DAY_MS, HOUR_MS
from tests.support.dataset import write_plant


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("peers")
    manifest, _ = write_plant(folder, days=60)
    source = load_manifest(manifest).stations[0]
    save_station(folder / "p.npz", *read_station(source, folder), (0.5, 0.75), None)
    return open_place(folder / "p.npz")


@pytest.fixture(scope="module")
def trial(place: Place) -> Trial:
    return plan_trials({"mill-1": place}, ["freeze"], 1, 5, ["gross"], ["short"])[0][0]


def station(place: Place, trial: Trial, clean_at: list[int], forged_at: list[int]) -> _Station:
    """Give a peer that scores 1 at these hours after the calibration part's start or the forgery's, else near 0."""
    rows = int((place.frame.at_ms >= place.split.calibration_ms).sum())
    channels = len(place.targets())
    clean = np.tile(np.random.default_rng(1).uniform(0, 1e-3, rows), (channels, 1))
    for hour in clean_at:
        clean[:, hour] = 1.0 + hour / 1e4
    lo, end = np.searchsorted(place.frame.at_ms, [trial.from_ms, trial.to_ms + DAY_MS])
    told = np.zeros(end - lo)
    told[forged_at] = 1.5
    return _Station(place, [trial], clean, told, rules=False)


def test_the_calibration_part_sets_the_threshold(place: Place, trial: Trial) -> None:
    peer = station(place, trial, [10, 90, 91, 200], [])
    months = (place.split.test_ms - place.split.calibration_ms) / HOUR_MS / 720
    for allowed, passing in ((3, {10, 90, 91, 200}), (2, {90, 91, 200}), (1, {200})):
        level = peer.threshold((allowed + 0.4) / months)
        told = np.flatnonzero((peer.highest >= level) & (peer.at_ms < place.split.test_ms))
        assert passing <= set(told.tolist())
        assert _days_apart(told) == allowed


def _days_apart(hours: np.ndarray) -> int:
    return count_events(((int(h), int(h)) for h in hours), 24)


def test_a_flag_in_the_forgery_counts_from_its_hour(place: Place, trial: Trial) -> None:
    peer = station(place, trial, [10], [5])
    alarm = peer.detection(trial, peer.threshold(2.5))
    assert alarm is not None
    assert (alarm.at_ms - trial.from_ms) // HOUR_MS == 5
    assert station(place, trial, [10], []).detection(trial, peer.threshold(2.5)) is None


def test_a_flag_that_is_there_anyway_does_not(place: Place, trial: Trial) -> None:
    there = int(np.searchsorted(place.frame.at_ms, trial.from_ms)) + 2
    hour = there - int(np.searchsorted(place.frame.at_ms, place.split.calibration_ms))
    peer = station(place, trial, [10, hour], [5])
    assert peer.detection(trial, peer.threshold(2.5)) is None
    assert peer.quiet(peer.threshold(2.5)).events == 1
