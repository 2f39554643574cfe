"""Every kind, level and length: seeded, inside its interval, on the instrument's steps, doing what it claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackwitness_detectors import ChannelInfo, Context, Frame
from stackwitness_detectors.forge import KINDS, LEVELS, ForgeError, forge, hidden_mass
from tests.detectors.gasworks import AROUND, CONTEXT, FRAME, FROM_MS, TO_MS
from tests.detectors.plants import DAY_MS, HOUR_MS, START_MS

INSIDE = (FRAME.at_ms >= FROM_MS) & (FRAME.at_ms < TO_MS)
STATION_WIDE = {"record_freeze", "joint_replay"}
COMPANIONS = {
    "dilution": {"nox", "so2", "co2", "o2"},
    "dilution_forged_o2": {"nox", "so2", "co2"},
    "o2_low": {"o2"},
    "joint_scale": {"nox", "load", "flow"},
}


def made(kind: str, strength: float | str | None = None, seed: int = 1) -> Frame:
    return forge(kind, FRAME, CONTEXT, "nox", FROM_MS, TO_MS, strength, seed, AROUND)


def same(one: Frame, two: Frame, name: str) -> np.ndarray:
    values = np.isclose(one.values[name], two.values[name], rtol=0.0, atol=0.0, equal_nan=True)
    return values & (one.status[name] == two.status[name])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_changes_its_channels_inside_only_and_only_what_is_normal(kind: str) -> None:
    forged = made(kind)
    changed = {name for name in FRAME.values if not same(FRAME, forged, name).all()}
    expected = set(FRAME.values) if kind in STATION_WIDE else COMPANIONS.get(kind, {"nox"})
    assert changed == expected
    for info in CONTEXT.channels:
        alike = same(FRAME, forged, info.name)
        normal = (FRAME.status[info.name] == ord("N")) & np.isfinite(FRAME.values[info.name])
        assert alike[~INSIDE].all()
        assert kind == "backfill" or alike[~normal].all()
        moved = forged.values[info.name][~alike]
        moved = moved[np.isfinite(moved)]
        steps = moved / (info.resolution or 1.0)
        assert np.allclose(steps, np.round(steps), atol=1e-6)
        assert info.role == "ambient" or (moved >= 0.0).all()
        assert info.name != "o2" or (moved <= 20.9).all()
    assert set(np.unique(forged.status["nox"]).tolist()) <= set(b"NCMDB")
    lost = np.isnan(forged.values["nox"]) & ~np.isnan(FRAME.values["nox"])
    assert (forged.status["nox"][lost] == ord("B")).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_is_seeded(kind: str) -> None:
    one, two = made(kind, seed=5), made(kind, seed=5)
    assert all(one.values[n].tobytes() == two.values[n].tobytes() for n in FRAME.values)
    assert all(one.status[n].tobytes() == two.status[n].tobytes() for n in FRAME.status)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_hides_what_it_claims_and_a_higher_level_more(kind: str) -> None:
    forgery = KINDS[kind]
    grown = []
    for level in LEVELS:
        forged = made(kind, level)
        weight = hidden_mass(FRAME, forged, CONTEXT, FROM_MS, TO_MS)["nox"]
        assert not forgery.lowers_mass or weight.percent > 0.0
        if forgery.hides == "corrected value":
            assert weight.corrected_percent is not None
            assert weight.corrected_percent > 0.5
            assert abs(weight.percent) < 1e-9
        name = "o2" if kind == "o2_low" else "nox"
        before, after = FRAME.values[name][INSIDE], forged.values[name][INSIDE]
        apart = np.nan_to_num(np.abs(after - before))
        grown.append(
            {
                "hidden": weight.percent,
                "changed": float((~same(FRAME, forged, name)).sum()),
                "distance": float(apart.sum()),
                "stillness": -float(np.nanstd(after[FRAME.status[name][INSIDE] == ord("N")])),
            }[forgery.grows]
        )
    assert grown == sorted(grown)
    assert len(set(grown)) == len(LEVELS)


def test_there_are_enough_kinds_and_each_is_described() -> None:
    assert len(KINDS) >= 24
    for kind, forgery in KINDS.items():
        assert forgery.kind == kind
        assert len(set(forgery.strengths)) == 4
        assert list(forgery.durations_h) == sorted(set(forgery.durations_h))
        assert forgery.strength == forgery.strength_of(forgery.usual)
        assert len(forgery.case) > 10
        assert len(forgery.change.__doc__ or "") > 20


def test_dilution_moves_every_gas_by_one_factor_and_forged_oxygen_leaves_the_line() -> None:
    def fo(frame: Frame) -> float:
        rows = INSIDE & np.isfinite(frame.values["o2"])
        return float(np.median((20.9 - frame.values["o2"][rows]) / frame.values["co2"][rows]))

    honest, forged = made("dilution", 0.2), made("dilution_forged_o2", 0.2)
    normal = INSIDE & (FRAME.status["nox"] == ord("N")) & np.isfinite(FRAME.values["nox"])
    for name in ("nox", "so2", "co2"):
        ratio = honest.values[name][normal] / FRAME.values[name][normal]
        assert np.median(ratio) == pytest.approx(0.8, abs=0.01)
    assert fo(honest) == pytest.approx(fo(FRAME), rel=0.005)
    assert fo(forged) == pytest.approx(fo(FRAME) / 0.8, rel=0.01)
    weights = [hidden_mass(FRAME, f, CONTEXT, FROM_MS, TO_MS)["nox"] for f in (honest, forged)]
    assert weights[0].corrected_percent == pytest.approx(0.0, abs=0.3)
    assert weights[1].corrected_percent == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize("kind", ["offset_audited", "inspection_honest"])
def test_audit_days_stay_honest(kind: str) -> None:
    forged = made(kind)
    (from_ms, to_ms), at_ms = AROUND.honest_ms[0], FRAME.at_ms
    audit = (at_ms >= from_ms) & (at_ms < to_ms)
    assert same(FRAME, forged, "nox")[audit].all()
    assert not same(FRAME, forged, "nox")[INSIDE & ~audit & (FRAME.status["nox"] == ord("N"))].all()


def test_a_factor_after_rounding_leaves_a_comb_and_one_before_does_not() -> None:
    rng = np.random.default_rng(0)
    at_ms = START_MS + HOUR_MS * np.arange(4000, dtype=np.int64)
    frame = Frame(at_ms, {"x": np.round(50 + 4 * rng.standard_normal(4000), 1)}, {})
    context = Context("s", (ChannelInfo("x", "SO2", "mg/m3", "pollutant", None, 0.1),))

    def unevenness(kind: str) -> float:
        x = forge(kind, frame, context, "x", int(at_ms[100]), int(at_ms[-1]), 0.3).values["x"][100:-1]
        counts = np.bincount(np.round(x * 10).astype(int) % 7, minlength=7)
        return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())

    assert unevenness("scale_after_rounding") > 10 * unevenness("scale")


def test_the_daily_mean_ends_just_below_the_limit() -> None:
    forged = made("averaging_game", 0.01)
    day = FRAME.at_ms // DAY_MS
    normal = INSIDE & (FRAME.status["nox"] == ord("N")) & np.isfinite(FRAME.values["nox"])
    bent = 0
    for d in np.unique(day[INSIDE]).tolist():
        rows = normal & (day == d)
        if FRAME.values["nox"][rows].mean() > 80.0:
            bent += 1
            assert forged.values["nox"][rows].mean() == pytest.approx(79.2, abs=0.06)
    assert bent >= 1


def test_hidden_mass_is_weighed_with_the_flow() -> None:
    weight = hidden_mass(FRAME, made("scale", 0.2), CONTEXT, FROM_MS, TO_MS)["nox"]
    assert weight.percent == pytest.approx(20.0, abs=0.2)
    counted = INSIDE & (FRAME.status["nox"] == ord("N")) & np.isfinite(FRAME.values["nox"])
    kg = float((FRAME.values["nox"][counted] * FRAME.values["flow"][counted]).sum()) * 1e-6
    assert weight.before == pytest.approx(kg)
    assert weight.kg == pytest.approx(0.2 * kg, rel=0.01)
    relabelled = hidden_mass(FRAME, made("status_abuse"), CONTEXT, FROM_MS, TO_MS)["nox"]
    assert relabelled.percent > 5.0


BARE = Context("bare", (ChannelInfo("x", "SO2", "mg/m3", "pollutant"),))


@pytest.mark.parametrize("kind", sorted(k for k, f in KINDS.items() if f.needs and "a limit" not in f.needs))
def test_what_a_kind_lacks_is_said(kind: str) -> None:
    at_ms = START_MS + HOUR_MS * np.arange(60, dtype=np.int64)
    frame = Frame(at_ms, {"x": np.round(np.random.default_rng(0).uniform(5, 9, 60), 1)}, {})
    with pytest.raises(ForgeError, match="needs") as caught:
        forge(kind, frame, BARE, "x", int(at_ms[5]), int(at_ms[50]))
    assert caught.value.code in ("forge.needs", "forge.history")


@st.composite
def odd_frames(draw: st.DrawFn) -> tuple[Context, Frame]:
    """Draw stations with missing roles, constant channels, gaps, NaN, infinities, marks, odd scales."""
    n = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    steps = rng.choice([1, 1, 1, 1, draw(st.integers(1, 500))], size=n) * draw(
        st.sampled_from([1000, 300_000, HOUR_MS])
    )
    roles = draw(st.lists(st.sampled_from(["load", "diluent", "flow", "moisture", "process"]), max_size=3))
    quantities = {"diluent": draw(st.sampled_from(["O2", "CO2"]))}
    infos = [ChannelInfo("y", "NOx", draw(st.sampled_from(["mg/m3", "1", "%vol"])), "pollutant",
                         draw(st.sampled_from([None, 0.0, 1.0, 50.0])), draw(st.sampled_from([None, 0.1, 5.0])))]  # fmt: skip
    infos += [ChannelInfo(f"c{i}", quantities.get(r, r), "1", r) for i, r in enumerate(roles)]
    values, status = {}, {}
    for info in infos:
        level = draw(st.sampled_from([0.0, 1.0, 40.0, 1e7, 1e300]))
        spread = draw(st.sampled_from([0.0, 0.1, 1.0]))
        series = np.round(level * (1.0 + spread * rng.standard_normal(n)), 1)
        series[rng.random(n) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = draw(
            st.sampled_from([np.nan, np.inf, 0.0])
        )
        values[info.name] = series
        if draw(st.booleans()):
            status[info.name] = rng.choice(np.frombuffer(b"NNNNNCMBD\0", np.uint8), size=n)
    return Context("odd", tuple(infos)), Frame(START_MS + np.cumsum(steps).astype(np.int64), values, status)


@settings(max_examples=25, deadline=None)
@given(odd_frames(), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.sampled_from(LEVELS), st.integers(0, 99))
def test_odd_data_are_forged_within_bounds_or_refused_with_a_reason(
    station: tuple[Context, Frame], one: float, two: float, level: str, seed: int
) -> None:
    context, frame = station
    first, last = int(frame.at_ms[0]), int(frame.at_ms[-1]) + 1
    ends = sorted(int(first + share * (last - first)) for share in (one, two))
    around = replace(AROUND, honest_ms=((ends[0], ends[0] + 1000),))
    outside = (frame.at_ms < ends[0]) | (frame.at_ms >= ends[1])
    refused: set[str] = set()
    for kind in KINDS:
        try:
            forged = forge(kind, frame, context, "y", *ends, level, seed, around)
        except ForgeError as error:
            refused.add(error.code)
            continue
        for name, values in forged.values.items():
            assert np.array_equal(values[outside], frame.values[name][outside], equal_nan=True)
        hidden_mass(frame, forged, context, *ends)
    assert refused <= {f"forge.{code}" for code in ("interval", "nothing", "needs", "history", "absurd")}


@pytest.mark.parametrize(
    "kind", ["scale", "offset", "near_freeze", "invented_records", "typed_digits", "clip"]
)
def test_digits_are_as_many_as_the_instrument_writes_at_that_size(kind: str) -> None:
    five = np.array([float(f"{v:.5g}") for v in FRAME.values["nox"] ** 3 / 60_000.0])
    frame = replace(FRAME, values={**FRAME.values, "nox": five})
    infos = tuple(replace(c, resolution=None, limit=12.0) if c.name == "nox" else c for c in CONTEXT.channels)
    context = replace(CONTEXT, channels=infos)
    assert np.nanmin(five) < 10.0 < np.nanmax(five)
    forged = forge(kind, frame, context, "nox", FROM_MS, TO_MS, None, 1, AROUND).values["nox"][INSIDE]
    written = forged[np.isfinite(forged) & (forged > 0.0)]
    assert all(v == float(f"{v:.5g}") for v in written.tolist())
    finer = written[written < 10.0] if (written < 10.0).any() else written
    assert any(v != float(f"{v:.4g}") for v in finer.tolist())
