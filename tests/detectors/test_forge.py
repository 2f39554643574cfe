"""The forgeries: each changes what it says, inside its interval only, and the same way every time."""

import numpy as np
import pytest

from stackwitness_detectors.contract import ChannelInfo, Context, DetectorError, Frame
from stackwitness_detectors.forge import KINDS, forge

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000
HOURS = 24 * 60
FROM_MS, TO_MS = START_MS + 40 * 24 * HOUR_MS, START_MS + 47 * 24 * HOUR_MS
CONTEXT = Context("s-1", (ChannelInfo("so2", "SO2", "mg/m3", "pollutant", 35.0, 0.01),))


@pytest.fixture(scope="module")
def frame() -> Frame:
    rng = np.random.default_rng(7)
    noise = np.zeros(HOURS)
    for i in range(1, HOURS):
        noise[i] = 0.85 * noise[i - 1] + 0.53 * rng.standard_normal()
    values = np.round(28.0 * np.exp(0.17 * noise), 2)
    status = np.full(HOURS, ord("N"), dtype=np.uint8)
    status[9::24] = ord("C")
    values[9::24] = 50.0
    status[100:104] = ord("M")
    values[100:104] = np.nan
    return Frame(START_MS + HOUR_MS * np.arange(HOURS, dtype=np.int64), {"so2": values}, {"so2": status})


def _inside(frame: Frame) -> np.ndarray:
    return (frame.at_ms >= FROM_MS) & (frame.at_ms < TO_MS)


ALONE = sorted(  # what one channel without exceeding days can show; all kinds: test_forge_kinds.py
    kind
    for kind, forgery in KINDS.items()
    if not {"oxygen", "load or flow", "neighbour", "audits", "drivers"} & set(forgery.needs)
    and kind != "averaging_game"
)


@pytest.mark.parametrize("kind", ALONE)
def test_a_forgery_changes_only_its_interval_and_only_normal_readings(kind: str, frame: Frame) -> None:
    before = frame.values["so2"].copy()
    forged = forge(kind, frame, CONTEXT, "so2", FROM_MS, TO_MS, None, seed=3)
    inside, normal = _inside(frame), frame.status["so2"] == ord("N")
    same = (forged.values["so2"] == before) | (np.isnan(forged.values["so2"]) & np.isnan(before))
    same &= forged.status["so2"] == frame.status["so2"]
    assert same[~inside].all()
    assert same[inside & ~normal].all()
    assert not same[inside & normal].all()
    assert np.array_equal(frame.values["so2"], before, equal_nan=True)


@pytest.mark.parametrize("kind", ALONE)
def test_the_same_seed_forges_the_same(kind: str, frame: Frame) -> None:
    one, two = (forge(kind, frame, CONTEXT, "so2", FROM_MS, TO_MS, None, seed=5) for _ in range(2))
    assert one.values["so2"].tobytes() == two.values["so2"].tobytes()
    assert one.status["so2"].tobytes() == two.status["so2"].tobytes()


@pytest.mark.parametrize("kind", sorted(set(ALONE) - {"rounded"}))
def test_forged_values_stand_on_the_resolution(kind: str, frame: Frame) -> None:
    forged = forge(kind, frame, CONTEXT, "so2", FROM_MS, TO_MS, None, seed=5).values["so2"]
    steps = forged[np.isfinite(forged)] / 0.01
    assert np.allclose(steps, np.round(steps), atol=1e-6)


def _ratio(kind: str, frame: Frame, strength: float | None = None) -> np.ndarray:
    forged = forge(kind, frame, CONTEXT, "so2", FROM_MS, TO_MS, strength, seed=1).values["so2"]
    chosen = _inside(frame) & (frame.status["so2"] == ord("N"))
    return forged[chosen] / frame.values["so2"][chosen]


def test_what_each_kind_does(frame: Frame) -> None:
    chosen = _inside(frame) & (frame.status["so2"] == ord("N"))
    true = frame.values["so2"][chosen]

    def values(kind: str, strength: float | None = None) -> np.ndarray:
        return forge(kind, frame, CONTEXT, "so2", FROM_MS, TO_MS, strength, seed=1).values["so2"][chosen]

    assert np.ptp(values("freeze")) == 0.0
    assert 0.0 < np.std(values("near_freeze")) < 0.2
    assert np.median(_ratio("scale", frame)) == pytest.approx(0.7, abs=1e-3)
    assert np.median(true - values("offset")) == pytest.approx(0.05 * 35.0, abs=0.01)
    assert _ratio("drift", frame)[-1] == pytest.approx(0.8, abs=0.01)
    assert values("clip").max() <= 0.99 * 35.0 < true.max()
    assert ((values("bunch") >= 35.0) & (values("bunch") < 35.0 * 1.15)).sum() == 0
    assert np.allclose(values("rounded") * 10, np.round(values("rounded") * 10))
    assert np.std(values("smoothed")) < 0.8 * np.std(true)
    assert np.isnan(values("missing_when_high")).sum() == (true > 35.0).sum() > 0
    counts = np.bincount(np.round(values("typed_digits") * 100).astype(int) % 10, minlength=10)
    assert counts[0] > 2 * counts[9]
    past = frame.values["so2"][frame.at_ms < FROM_MS]
    past = past[np.isfinite(past) & (frame.status["so2"][frame.at_ms < FROM_MS] == ord("N"))]
    assert np.mean(values("generated")) == pytest.approx(np.mean(past), rel=0.25)
    assert (values("calibration_gas") < 12.0).sum() >= 7 * 6


def test_a_replay_repeats_the_days_before(frame: Frame) -> None:
    forged = forge("replay_exact", frame, CONTEXT, "so2", FROM_MS, TO_MS, None, seed=0).values["so2"]
    chosen = np.flatnonzero(_inside(frame) & (frame.status["so2"] == ord("N")))
    assert np.array_equal(forged[chosen], frame.values["so2"][chosen - 7 * 24])


def test_status_abuse_relabels_and_keeps_the_value(frame: Frame) -> None:
    forged = forge("status_abuse", frame, CONTEXT, "so2", FROM_MS, TO_MS, None, seed=0)
    changed = forged.status["so2"] != frame.status["so2"]
    assert changed.any()
    assert (frame.values["so2"][changed] > 35.0).all()


@pytest.mark.parametrize(
    ("kind", "channel", "from_ms", "to_ms", "code"),
    [
        ("sorcery", "so2", FROM_MS, TO_MS, "forge.kind"),
        ("freeze", "nox", FROM_MS, TO_MS, "forge.channel"),
        ("freeze", "so2", TO_MS, FROM_MS, "forge.interval"),
        ("replay_exact", "so2", START_MS + 24 * HOUR_MS, TO_MS, "forge.history"),
    ],
)
def test_what_cannot_be_forged_is_refused(
    kind: str, channel: str, from_ms: int, to_ms: int, code: str, frame: Frame
) -> None:
    with pytest.raises(DetectorError) as caught:
        forge(kind, frame, CONTEXT, channel, from_ms, to_ms, None, seed=0)
    assert caught.value.code == code
