"""The log and exports over HTTP, as stations, mirrors and regulators see them."""

import asyncio
from pathlib import Path

import pytest

from emdi.checkpoint import open_checkpoint
from emdi.policy import parse_policy
from emdi.receipt import verify_receipt
from emdi.tiles import TileReader
from stackwitness.detection.tasks import serve
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import running
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog
from tests.support.service import Service


@pytest.fixture
def station(service: Service) -> SmallStation:
    wiring = service.wiring
    made = SmallStation(SmallLog(service.settings, wiring.engine, wiring.service_key))
    made.register()
    return made


def test_a_mirror_can_follow_the_log_with_plain_gets(service: Service, station: SmallStation) -> None:
    station.push(10)
    service.settle()
    policy = parse_policy(service.client.get("/log/policy").text)
    answer = service.client.get("/log/checkpoint")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-cache"
    checkpoint, _ = open_checkpoint(answer.content, policy)

    def read(path: str) -> bytes:
        tile = service.client.get(f"/log/{path}")
        if tile.status_code == 404:
            raise FileNotFoundError(path)
        assert tile.headers["content-type"] == "application/octet-stream"
        assert "immutable" in tile.headers["cache-control"]
        return tile.content

    tiles = TileReader(read, checkpoint.size)
    assert tiles.root() == checkpoint.root
    assert tiles.entry(0)[13:] == service.client.get("/log/genesis").content


def test_what_is_no_tile_is_not_found(service: Service) -> None:
    for path in ("0/001", "0/x000/000", "0/00", "..%2fcheckpoint", "9/000", "entries/000.p/256"):
        assert service.client.get(f"/log/tile/{path}").status_code == 404


def test_receipt_is_pending_then_there(service: Service, station: SmallStation) -> None:
    envelope = station.push(1)[0]
    url = f"/v1/receipts/{envelope.env_id.hex()}"
    waiting = service.client.get(url)
    assert (waiting.status_code, waiting.json()) == (202, {"state": "pending"})
    assert waiting.headers["retry-after"] == "1"
    service.settle()
    policy = parse_policy(service.client.get("/log/policy").text)
    answer = service.client.get(url)
    assert verify_receipt(answer.content, envelope.jws, policy).kind == 1
    unknown = "ab" * 32
    batch = service.client.post("/v1/receipts", json={"env_ids": [envelope.env_id.hex(), unknown]}).json()
    assert batch["receipts"] == {envelope.env_id.hex(): answer.text, unknown: None}
    missing = service.client.get(f"/v1/receipts/{unknown}")
    assert (missing.status_code, missing.json()["code"]) == (404, "receipt.unknown")
    assert service.client.get("/v1/receipts/XY").status_code == 422


def test_export_from_request_to_verified_bundle(
    service: Service, station: SmallStation, tmp_path: Path
) -> None:
    station.push(20)
    station.raise_flag()
    service.settle()
    wanted = {
        "station": "S1",
        "from": "2026-01-02T00:05:00Z",
        "to": "2026-01-02T00:15:00Z",
        "purpose": "audit",
    }
    assert service.client.post("/v1/exports", json=wanted).status_code == 401
    refused = service.client.post("/v1/exports", json=wanted, headers=service.headers("inspector"))
    assert refused.status_code == 403
    regulator = service.headers("regulator")
    asked = service.client.post("/v1/exports", json=wanted, headers=regulator)
    assert asked.status_code == 202, asked.text
    url = asked.headers["location"]
    early = service.client.get(f"{url}/bundle", headers=regulator)
    assert (early.status_code, early.json()["code"]) == (409, "export.not_done")
    with running(service.loop):
        asyncio.run(serve(service.wiring, wait=False, queues=["exports"]))
    done = service.client.get(url, headers=regulator).json()
    assert (done["state"], done["error"]) == ("done", None)
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(service.client.get(done["bundle"], headers=regulator).content)
    report = verify_bundle(bundle, service.client.get("/log/policy").text)
    assert report.exit_code == 0, report.text()
    part = service.client.get(done["bundle"], headers={**regulator, "Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"PK\x03\x04")
