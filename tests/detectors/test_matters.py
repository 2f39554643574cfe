"""One forgery is one matter: whatever the order in which its findings come, and never across stations."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackwitness_detectors.matters import NEAR_MS, VERDICTS, Matter, Member, group, join, touch
from stackwitness_detectors.severity import Hidden, hidden_of, largest_of, severity
from tests.detectors.plants import DAY_MS, HOUR_MS


def member(
    number: int, from_h: float, hours: float, channels: tuple[str, ...] = ("nox",), **given: str
) -> Member:
    """Give a finding from an hour on."""
    from_ms = int(from_h * HOUR_MS)
    to_ms = from_ms + int(hours * HOUR_MS)
    found = Member(f"s-{number}", "s", "hold", "unusual", from_ms, to_ms, channels, 10.0, number)
    return replace(found, **given)  # type: ignore[arg-type]


MEMBERS = st.lists(
    st.builds(
        Member,
        key=st.just(""),
        stn=st.sampled_from(["a", "b"]),
        kind=st.sampled_from(["hold", "copy"]),
        verdict=st.sampled_from(VERDICTS),
        from_ms=st.integers(0, 300).map(lambda h: h * HOUR_MS),
        to_ms=st.just(0),
        channels=st.sets(st.sampled_from(["nox", "so2", "co"]), min_size=1).map(lambda c: tuple(sorted(c))),
        e_value=st.floats(1, 1e6),
        order=st.just(0),
    ),
    max_size=14,
).flatmap(
    lambda found: st.lists(st.integers(1, 60), min_size=len(found), max_size=len(found)).map(
        lambda hours: [
            replace(one, key=f"f{i}", order=i, to_ms=one.from_ms + h * HOUR_MS)
            for i, (one, h) in enumerate(zip(found, hours, strict=True))
        ]
    )
)


@given(MEMBERS, st.randoms(use_true_random=False))
def test_any_order_and_one_by_one_give_the_same_matters(found: list[Member], chance: random.Random) -> None:
    whole = group(found)
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert group(shuffled) == whole
    matters: tuple[Matter, ...] = ()
    for one in shuffled:
        # First as it was at its crossing, then as it stands now.
        matters = join(matters, replace(one, to_ms=(one.from_ms + one.to_ms) // 2))
        matters = join(matters, one)
    assert matters == whole
    assert sorted(one.key for matter in whole for one in matter.members) == sorted(one.key for one in found)
    for matter in whole:
        assert len({one.stn for one in matter.members}) == 1
    apart = [(one, other) for a in whole for b in whole if a != b for one in a.members for other in b.members]
    assert not any(touch(one, other) for one, other in apart)


def test_a_forgery_told_by_many_tests_is_one_matter_led_by_the_strongest() -> None:
    told = [
        member(1, 0, 48, kind="ceiling"),
        member(2, 24, 200, kind="level_low", verdict="very unlikely"),
        member(3, 60, 9, kind="hold", verdict="cannot be"),
    ]
    (matter,) = group(told)
    assert (matter.lead.key, matter.matter_id) == ("s-3", "s-1")
    assert (matter.from_ms, matter.to_ms, matter.channels) == (0, 224 * HOUR_MS, ("nox",))


@pytest.mark.parametrize(
    ("other", "one"),
    [
        (member(2, 10 + NEAR_MS / HOUR_MS, 5), True),
        (member(2, 11 + NEAR_MS / HOUR_MS, 5), False),
        (member(2, 5, 5, ("so2",)), True),
        (member(2, 11, 5, ("so2",)), False),
        (member(2, 5, 5, ("so2",), kind="copy"), False),
        (member(2, 5, 5, ("so2", "nox"), kind="copy"), True),
        (member(2, 5, 5, stn="t"), False),
    ],
)
def test_what_touches(other: Member, one: bool) -> None:
    assert (len(group([member(1, 0, 10), other])) == 1) is one


def test_a_bridge_makes_two_matters_one_and_keeps_the_older_name() -> None:
    first, second = member(1, 0, 10), member(2, 100, 10)
    apart = group([first, second])
    assert [matter.matter_id for matter in apart] == ["s-1", "s-2"]
    (one,) = join(apart, member(3, 5, 100))
    assert one.matter_id == "s-1"


def test_severity_is_words_times_hidden_mass_with_its_interval() -> None:
    numbers = {
        "reported": 70.0, "expected": 100.0, "largest_before": 0.05, "direction": "below", "shift_percent": -30.0,
    }  # fmt: skip
    hidden = hidden_of("nox", 0, 15 * DAY_MS, numbers, {})
    assert hidden is not None
    assert (hidden.share, hidden.missing, hidden.hours) == pytest.approx((0.3, 30.0, 360.0))
    assert (hidden.low, hidden.high) == pytest.approx((1 - 0.7 * math.exp(0.05), 1 - 0.7 * math.exp(-0.05)))
    assert severity("very unlikely", hidden, 0, 15 * DAY_MS) == pytest.approx(30 * 0.15)
    assert severity("cannot be", hidden, 0, 1) > severity("very unlikely", hidden, 0, 1)
    # More time, unknown mass: as a tenth of it.
    assert severity("unusual", None, 0, 15 * DAY_MS) == pytest.approx(0.05)


def test_a_picture_with_a_band_tells_the_hidden_mass_too() -> None:
    at_ms = [h * HOUR_MS for h in range(48)]
    band = {"t": at_ms, "lo": [90.0] * 48, "mid": [100.0] * 48, "hi": [110.0] * 48}
    plot = {"series": [{"channel": "nox", "t": at_ms, "v": [80.0] * 48}], "band": band}
    hidden = hidden_of("nox", 0, 48 * HOUR_MS, {}, plot)
    assert hidden is not None
    assert hidden.share == pytest.approx(0.2)
    assert hidden.high - hidden.share == pytest.approx(0.1 / math.sqrt(2))
    assert hidden_of("so2", 0, 48 * HOUR_MS, {}, plot) is None
    assert hidden_of("nox", 0, 1, {"direction": "below"}, {}) is None


def test_only_what_is_sure_to_hide_something_counts() -> None:
    unsure = Hidden("nox", 0.5, -0.1, 0.9, 50.0, 100.0)
    sure = Hidden("so2", 0.1, 0.05, 0.2, 3.0, 100.0)
    assert largest_of([unsure, sure, None]) == sure
    assert largest_of([unsure, None]) is None
