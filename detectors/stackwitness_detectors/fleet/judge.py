"""The one way in for several stations: whole days are closed one by one and judged; streaming equals batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stackwitness_detectors.codec import decode_state, encode_state
from stackwitness_detectors.config import DEFAULT, Config
from stackwitness_detectors.contract import Context, Finding, Frame, Note
from stackwitness_detectors.daily import DailyTest
from stackwitness_detectors.fleet.apart import Loosened
from stackwitness_detectors.fleet.foreign import Borrowed, SameTime
from stackwitness_detectors.fleet.kin import Kin
from stackwitness_detectors.fleet.lower import Lower
from stackwitness_detectors.fleet.table import FleetMemory

# Parts of the fleet's budget. Shortfalls get the most: there twice as many allowed find more, of copies hardly any.
_LOWER_SHARE, _LOOSENED_SHARE, _FOREIGN_SHARE = 0.625, 0.125, 0.25


@dataclass(frozen=True)
class FleetResult:
    """Give back the new state, the findings by station in the order they arose, and what could not be judged."""

    state: bytes
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def run_fleet(
    contexts: Sequence[Context],
    state: bytes | None,
    frames: Mapping[str, Frame],
    until_ms: int,
    config: Config = DEFAULT,
    only: Collection[str] | None = None,
) -> FleetResult:
    """Judge the whole days (UTC) before `until_ms` with the readings of `frames` (by station) after those in `state`.

    `until_ms` says that everything before it has come. The same readings in any chunking, days in any number
    of calls, give the same findings and the same final state, byte for byte. Stations are matched by id, channels by
    name. With `only` these stations alone are judged, the others compared with; the state then forgets what it knew of
    judging the others. Raises DetectorError only for a state that is not ours.
    """
    fleet = FleetMemory(contexts, config)
    tests = make_tests(fleet, config, only)
    if state is not None:
        tree = decode_state(state)
        fleet.load(tree["fleet"])
        for test in tests:
            if test.name in tree["tests"]:
                test.load(tree["tests"][test.name])
    findings: dict[str, list[Finding]] = {context.stn: [] for context in contexts}
    with np.errstate(all="ignore"):
        notes = fleet.take(frames)
        for day in fleet.closable(until_ms):
            fleet.close(day)
            for test in tests:
                for finding in test.day(day):
                    stn, told = _of_station(fleet, finding)
                    findings[stn].append(told)
        notes += [note for test in tests for note in test.notes()]
    tree = {"fleet": fleet.dump(), "tests": {test.name: test.dump() for test in tests}}
    told_by = {stn: tuple(told) for stn, told in findings.items() if told}
    return FleetResult(encode_state(tree), told_by, tuple(sorted(set(notes))))


def make_tests(fleet: FleetMemory, config: Config, only: Collection[str] | None = None) -> list[DailyTest]:
    """Make the tests; each station gets its part of the fleet's share of the budget, however many channels it has."""
    kin = Kin(fleet)
    share = config.parts * config.fleet_share * len(set(fleet.stn_of))
    lower = Lower(fleet, config, kin, share * _LOWER_SHARE)
    loosened = [Loosened(fleet, config, kin, share * _LOOSENED_SHARE / 2, days) for days in (2, 7)]
    loosened[0].others, loosened[1].others = [loosened[1]], [loosened[0]]
    foreign = [test(fleet, config, kin, share * _FOREIGN_SHARE / 2) for test in (SameTime, Borrowed)]
    tests: list[DailyTest] = [*foreign, lower, *loosened]
    for test in tests if only is not None else []:
        # The part of the budget of each channel stays what it is in the whole fleet.
        test.tested = [k for k in test.tested if fleet.stn_of[k] in (only or ())]
    return tests


def comparable_stations(contexts: Sequence[Context]) -> tuple[str, ...]:
    """Name the stations that measure something another one measures too, in the same unit."""
    fleet = FleetMemory(contexts, DEFAULT)
    kin = Kin(fleet)
    found = {fleet.stn_of[k] for k in fleet.targets if kin.comparable(k)}
    return tuple(context.stn for context in contexts if context.stn in found)


def _of_station(fleet: FleetMemory, finding: Finding) -> tuple[str, Finding]:
    k = fleet.names.index(finding.channels[0])
    return fleet.stn_of[k], replace(finding, channels=(fleet.channel_of[k],))
