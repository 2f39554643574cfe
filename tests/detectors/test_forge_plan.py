"""Plans: places apart from gaps, marks, episodes and each other; the same for the same seed; paired by level."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from stackwitness_detectors import ChannelInfo, Context, Frame
from stackwitness_detectors.forge import (
    DURATIONS,
    KINDS,
    LEVELS,
    ForgeError,
    Injection,
    Surroundings,
    assume_limits,
    hidden_mass,
    inject,
    plan,
)
from tests.detectors.gasworks import AROUND, CONTEXT, FRAME, works
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS

NEIGHBOURS = Surroundings(neighbours=AROUND.neighbours)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_planned_and_made(kind: str) -> None:
    planned = plan(kind, CONTEXT, FRAME, starts=2, seed=4, around=NEIGHBOURS)
    assert planned == plan(kind, CONTEXT, FRAME, starts=2, seed=4, around=NEIGHBOURS)
    assert {i.duration for i in planned} == set(DURATIONS)
    assert len({i.level for i in planned}) >= 3  # the faintest may have nothing to lower
    by_cell: dict[tuple[str, str], list[Injection]] = defaultdict(list)
    for injection in planned:
        by_cell[injection.duration, injection.level].append(injection)
        assert injection.strength == KINDS[kind].strength_of(injection.level)
    for cell in by_cell.values():
        spans = sorted((i.from_ms, i.to_ms) for i in cell)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    for injection in (planned[0], planned[-1]):
        forged = inject(FRAME, CONTEXT, injection, NEIGHBOURS)
        assert set(hidden_mass(FRAME, forged, CONTEXT)) == {"nox", "so2"}
    if "audits" in KINDS[kind].needs:
        assert all(len(i.honest_ms) >= 2 for i in planned)


def test_levels_share_their_places_and_seeds_their_own() -> None:
    planned = plan("scale", CONTEXT, FRAME, starts=3, seed=1)
    places = {level: {(i.from_ms, i.to_ms, i.seed) for i in planned if i.level == level} for level in LEVELS}
    assert len({frozenset(p) for p in places.values()}) == 1
    assert {i.from_ms for i in planned} != {
        i.from_ms for i in plan("scale", CONTEXT, FRAME, starts=3, seed=2)
    }


def test_places_keep_away_from_gaps_marks_and_episodes() -> None:
    gap = (FRAME.at_ms < START_MS + 30 * DAY_MS) | (FRAME.at_ms >= START_MS + 45 * DAY_MS)
    broken = Frame(
        FRAME.at_ms[gap],
        {n: v[gap] for n, v in FRAME.values.items()},
        {n: s[gap] for n, s in FRAME.status.items()},
    )
    episode = (START_MS + 60 * DAY_MS, START_MS + 65 * DAY_MS)
    within = (START_MS + 10 * DAY_MS, START_MS + 75 * DAY_MS)
    planned = plan("freeze", CONTEXT, broken, starts=6, seed=3, within=within, avoid=[episode])
    assert len(planned) >= 12
    for i in planned:
        assert within[0] <= i.from_ms < i.to_ms <= within[1]
        assert i.to_ms <= episode[0] or i.from_ms >= episode[1]
        assert not (i.from_ms < START_MS + 44 * DAY_MS and i.to_ms > START_MS + 31 * DAY_MS)
        marked = (START_MS + 20 * DAY_MS, START_MS + 21 * DAY_MS)
        covered = max(0, min(i.to_ms, marked[1]) - max(i.from_ms, marked[0]))
        assert covered <= 0.2 * (i.to_ms - i.from_ms)


def test_short_fast_data_get_shorter_intervals() -> None:
    fast = works(days=2, step_ms=60_000)
    planned = plan("scale", CONTEXT, fast, starts=1)
    assert max(i.to_ms - i.from_ms for i in planned) <= 0.4 * 2 * DAY_MS
    assert len({i.to_ms - i.from_ms for i in planned}) == 3


@pytest.mark.parametrize(
    ("kind", "roles", "code"),
    [
        ("sorcery", ("pollutant",), "forge.kind"),
        ("dilution", ("pollutant",), "forge.needs"),
        ("neighbour_copied", ("pollutant",), "forge.needs"),
        ("joint_scale", ("pollutant",), "forge.needs"),
        ("scale", ("ambient",), "forge.channel"),
        ("freeze", ("pollutant",), "forge.room"),  # constant: nothing to freeze
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_reason(
    kind: str, roles: tuple[str, ...], code: str
) -> None:
    at_ms = START_MS + HOUR_MS * np.arange(600, dtype=np.int64)
    infos = tuple(ChannelInfo(f"c{i}", "SO2", "mg/m3", role) for i, role in enumerate(roles))
    frame = Frame(at_ms, {info.name: np.full(600, 5.0) for info in infos})
    with pytest.raises(ForgeError) as caught:
        plan(kind, Context("s", infos), frame, starts=1)
    assert caught.value.code == code


def test_too_little_data_and_unordered_times_are_refused() -> None:
    for frame in (
        works(days=3),
        replace(FRAME, at_ms=FRAME.at_ms[::-1]),
        Frame(np.empty(0, np.int64), {"nox": np.empty(0)}),
    ):
        with pytest.raises(ForgeError) as caught:
            plan("scale", CONTEXT, frame, channel="nox")
        assert caught.value.code == "forge.room"


def test_a_limit_is_assumed_where_the_data_name_none() -> None:
    limits = {c.name: c.limit for c in assume_limits(CONTEXT, FRAME, 0.2).channels}
    assert limits["nox"] == 80.0
    assert limits["load"] is None
    so2 = FRAME.values["so2"]
    assert limits["so2"] == pytest.approx(np.nanquantile(so2, 0.8), rel=0.05)
    assert assume_limits(CONTEXT, Frame(FRAME.at_ms, {"nox": so2}), 0.2) == CONTEXT
