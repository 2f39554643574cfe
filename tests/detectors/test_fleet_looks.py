"""A fleet of many: who is compared closely is chosen by a first look, and comparing all at once changes no score."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from stackwitness_detectors import Context, Frame
from stackwitness_detectors.config import DEFAULT
from stackwitness_detectors.copy.motif import own_course
from stackwitness_detectors.fleet.foreign import Borrowed, Foreign, SameTime
from stackwitness_detectors.fleet.kin import MOST_SOURCES, Kin
from stackwitness_detectors.fleet.table import FleetMemory
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS, wander
from tests.detectors.test_fleet import CHANNELS

DAYS = 36
LAST = START_MS // DAY_MS + DAYS - 1
REGIONS = 4


def fleet_of(count: int, *, gaps: bool = False) -> FleetMemory:
    """Remember so many posts, each in one of four regions; on the last day post 0 copies post 33, post 1 an earlier day of post 35."""
    rng, n = np.random.default_rng(3), DAYS * 24
    commons = [0.5 * wander(rng, n, 0.97) for _ in range(REGIONS)]
    rows = {
        f"s{i:02d}": np.round(60 * np.exp(commons[i % REGIONS] + 0.12 * wander(rng, n, 0.7)), 1)
        for i in range(count)
    }
    if count > 35:
        rows["s00"][-24:] = np.round(1.2 * rows["s33"][-24:], 1)
        rows["s01"][-24:] = np.round(0.8 * rows["s35"][-240:-216], 1)
    if gaps:
        for values in rows.values():
            values[rng.random(n) < 0.04] = np.nan
    at_ms = START_MS + np.arange(n, dtype=np.int64) * HOUR_MS
    fleet = FleetMemory([Context(stn, CHANNELS) for stn in rows], DEFAULT)
    fleet.take({stn: Frame(at_ms, {"pm": values}) for stn, values in rows.items()})
    for day in fleet.closable(START_MS + DAYS * DAY_MS):
        fleet.close(day)
    return fleet


@functools.cache
def many() -> tuple[FleetMemory, Kin]:
    fleet = fleet_of(40)
    return fleet, Kin(fleet)


def test_scoring_all_pairs_at_once_finds_what_one_by_one_finds() -> None:
    met = 0
    for gaps in (False, True):
        fleet = fleet_of(5, gaps=gaps)
        kin = Kin(fleet)
        for test in (SameTime(fleet, DEFAULT, kin, 1.0), Borrowed(fleet, DEFAULT, kin, 1.0)):
            for day in (LAST, LAST - 1, LAST - 20):
                for k in fleet.targets:
                    found = test.best(k, day)
                    expected = one_by_one(test, k, day)
                    assert (None if found is None else (found[0], found[1])) == expected
                    met += found is not None
    assert met > 40


def one_by_one(test: Foreign, k: int, day: int) -> object:
    """Compare every window with every other station: the definition."""
    fleet, best = test.fleet, None
    others = [*range(k + 1, len(fleet.names)), *range(k)]
    for width, back in test.windows():
        stop_h = (day + 1) * 24 - back
        own = own_course(fleet.window(k, stop_h, width), fleet.rounding[k])
        for j in others if own is not None else []:
            found = test.match(k, j, stop_h, width, own)
            if found is not None and (best is None or found[0].score > best[0].score):
                best = found
    return best


def test_up_to_a_dozen_others_all_are_compared() -> None:
    kin = Kin(fleet_of(MOST_SOURCES + 1))
    choices = kin.choices(3, LAST)
    assert choices.now == choices.then == choices.related == [*range(4, MOST_SOURCES + 1), 0, 1, 2]


def test_of_many_the_first_look_chooses_those_that_explain_it() -> None:
    fleet, kin = many()
    assert 33 in kin.choices(0, LAST).now
    assert 35 in kin.choices(1, LAST).then
    for k in fleet.targets:
        choices = kin.choices(k, LAST)
        # However many there are, the work for one channel stays the same.
        assert max(len(choices.now), len(choices.then)) <= 4
        assert len(choices.related) <= MOST_SOURCES
        assert k not in {*choices.now, *choices.then, *choices.related}
    # Related are those of the own region, and peers only they.
    for k in (2, 11, 24):
        assert {j % REGIONS for j in kin.peers(k, LAST)} == {k % REGIONS}


def test_the_forgers_among_many_are_found_as_among_few() -> None:
    fleet, kin = many()
    now, then = SameTime(fleet, DEFAULT, kin, 1.0), Borrowed(fleet, DEFAULT, kin, 1.0)
    copied, borrowed = now.best(0, LAST), then.best(1, LAST)
    assert copied is not None
    assert borrowed is not None
    assert fleet.stn_of[copied[2].source] == "s33"
    assert (fleet.stn_of[borrowed[2].source], borrowed[1]) == ("s35", 216)
    honest = [now.best(k, LAST) for k in fleet.targets if k not in (0, 33)]
    assert max(found[0].score for found in honest if found is not None) < copied[0].score / 2


def test_stations_of_another_quantity_are_never_chosen() -> None:
    other = replace(CHANNELS[0], quantity="SO2")
    contexts = [Context(f"s{i:02d}", (other,) if i % 2 else CHANNELS) for i in range(30)]
    fleet = FleetMemory(contexts, DEFAULT)
    kin = Kin(fleet)
    assert all(kin.comparable(k) for k in fleet.targets)
    assert {j % 2 for group in kin.alike.values() for j in group if group[0] == 0} == {0}
    # Nothing is remembered yet: nobody is looked at, nobody compared.
    assert kin.choices(0, LAST).now == []
