"""The forge on plant data read by their manifests: every kind can be planned and made, or says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackwitness_detectors.forge import (
    KINDS,
    ForgeError,
    assume_limits,
    forgeable_channels,
    hidden_mass,
    inject,
    plan,
)

ROOT = Path(__file__).parents[2]
NEIGHBOUR = {"borrowed_stack", "neighbour_copied"}
OXYGEN = {"dilution", "dilution_forged_o2", "o2_low"}


@pytest.fixture(scope="module")
def data() -> Path:
    from stackwitness.settings import Settings

    folder = Settings().data
    folder = folder if folder.is_absolute() else ROOT / folder
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder} (STACKWITNESS_DATA)")
    return folder


@pytest.mark.parametrize(
    ("manifest", "stn", "lacking"),
    [
        ("yueqing_fgd_cems", "yueqing-1", NEIGHBOUR),  # five minutes, four days, the whole flue
        ("sru_tail_gas", "sru-1", NEIGHBOUR | OXYGEN | {"joint_scale"}),  # minutes, standardised
        ("skab", "skab-other-1", NEIGHBOUR | OXYGEN | {"joint_scale"}),  # seconds, no pollutant
    ],
)
def test_a_manifest_is_all_the_forge_needs(manifest: str, stn: str, lacking: set[str], data: Path) -> None:
    from stackwitness.replay.forging import context_of, frame_of
    from stackwitness_client.dataset import read_rows
    from stackwitness_client.manifest import load_manifest

    stations = load_manifest(ROOT / "manifests" / manifest / "stations.toml").stations
    source = next(s for s in stations if s.stn == stn)
    frame = frame_of(source, list(read_rows(source, data)))
    context = assume_limits(context_of(source), frame)
    channel = forgeable_channels(context, frame)[0]
    refused = {}
    for kind in KINDS:
        try:
            planned = plan(kind, context, frame, starts=1, seed=2, strengths=["strong"], durations=["medium"])
        except ForgeError as error:
            refused[kind] = error.code
            continue
        forged = inject(frame, context, planned[0])
        weight = hidden_mass(frame, forged, context, planned[0].from_ms, planned[0].to_ms)[channel]
        assert (
            not KINDS[kind].lowers_mass
            or kind in ("manual_jitter", "invented_records")
            or weight.percent > 0.0
        )
    assert {kind for kind, code in refused.items() if code == "forge.needs"} == lacking
    assert set(refused) - lacking <= {
        "averaging_game",
        "bunch",
    }  # no mean, no reading in the band, above the limit
