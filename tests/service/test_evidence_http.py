"""Exports over HTTP: who may ask, how far one is, and a download that goes on where it broke."""

from datetime import UTC, datetime

import httpx2
import pytest

from stackwitness.evidence import flow
from tests.service.evidence_support import running
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog
from tests.support.service import Service

ASKED = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-03T00:00:00Z", "purpose": "audit"}


@pytest.fixture
def station(service: Service) -> SmallStation:
    wiring = service.wiring
    made = SmallStation(SmallLog(wiring.settings, wiring.engine, wiring.service_key))
    made.register()
    made.push(5)
    service.settle()
    return made


def ask(service: Service, who: str = "regulator", **wanted: object) -> httpx2.Response:
    return service.client.post(  # type: ignore[return-value]
        "/v1/exports", json={"station": "S1", **ASKED, **wanted}, headers=service.headers(who)
    )


def test_who_may_ask_for_what(service: Service, station: SmallStation) -> None:
    assert ask(service, "inspector").status_code == 403
    asked = ask(service, "auditor")
    assert (asked.status_code, asked.json()["redacted"]) == (202, True)
    assert ask(service).json()["redacted"] is False
    assert ask(service, redact=True).json()["redacted"] is True
    assert ask(service, station=None, agency="agency").json()["stations"] == ["S1"]
    assert ask(service, station=None, agency="nobody").status_code == 404
    assert ask(service, station=None, stations=["S1", "S9"]).status_code == 404
    for wrong in ({"stations": ["S1"]}, {"station": None}, {"entries": [5, 5]}, {"entries": [5, 2**60]}):
        assert ask(service, **wrong).status_code == 422, wrong
    part = ask(service, entries=[3, 9]).json()
    assert part["entries"] == [3, 9]
    assert part["progress"] == {"done": 0, "of": None}


def test_the_progress_of_a_build_ends_at_all_of_it(service: Service, station: SmallStation) -> None:
    export_id = ask(service).json()["export_id"]
    with running(service.loop):
        flow.build_export(service.wiring, export_id)
    progress = service.client.get(f"/v1/exports/{export_id}", headers=service.headers("regulator")).json()[
        "progress"
    ]
    assert progress["done"] == progress["of"] > 0


def test_a_broken_download_goes_on(service: Service, station: SmallStation) -> None:
    export_id = ask(service).json()["export_id"]
    with running(service.loop):
        flow.build_export(service.wiring, export_id)
    headers = service.headers("regulator")
    seen = service.client.get(f"/v1/exports/{export_id}", headers=headers).json()
    assert seen["state"] == "done"
    whole = service.client.get(seen["bundle"], headers=headers)
    tag = whole.headers["etag"]
    assert tag.startswith('"')
    kept = b""
    with service.client.stream("GET", seen["bundle"], headers=headers) as broken:
        for chunk in broken.iter_bytes(1000):
            kept += chunk
            if len(kept) >= 5000:
                break
    rest = {**headers, "Range": f"bytes={len(kept)}-", "If-Range": tag}
    part = service.client.get(seen["bundle"], headers=rest)
    assert (part.status_code, kept + part.content) == (206, whole.content)
    assert part.headers["content-range"] == f"bytes {len(kept)}-{len(whole.content) - 1}/{len(whole.content)}"
    # Another file than the one that was begun is sent from its start.
    other = service.client.get(seen["bundle"], headers={**rest, "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    beyond = {**headers, "Range": f"bytes={len(whole.content)}-"}
    assert service.client.get(seen["bundle"], headers=beyond).status_code == 416
    flow.bundle_path(service.settings, export_id).unlink()
    assert service.client.get(seen["bundle"], headers=headers).status_code == 409
    assert datetime.fromisoformat(seen["requested_at"]).tzinfo == UTC
