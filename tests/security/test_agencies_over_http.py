"""What an account of one agency may learn of another by asking in unusual ways."""

import re

from emdi.encoding import b64u_encode
from emdi.event import seal_key_proof
from emdi.keys import LocalKey
from stackwitness.accounts.command import issue_account
from stackwitness.evidence import flow
from tests.service.evidence_support import running
from tests.service.log_station import SmallStation
from tests.service.test_agencies import Two, two
from tests.service.test_evidence_http import ask, station
from tests.support.service import Service

__all__ = ["station", "two"]
OF_B = re.compile(r"\bB1\b|Bureau B|secret of b|\bkid-b\b")
PAGES = (
    "/",
    "/stations",
    "/stations/B1",
    "/flags",
    "/exports",
    "/flags/{flag_id}",
    "/exports/{export_id}",
    "/log",
)


def key_form(stn: str, kid: str, seed: bytes) -> dict[str, str]:
    key = LocalKey.from_seed(seed, kid)
    public = b64u_encode(key.public.raw)
    return {"kid": kid, "alg": "Ed25519", "public_b64u": public, "proof": seal_key_proof(key, stn=stn)}


def send(two: Two, who: str, method: str, path: str, **body: object) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {two.tokens[who]}"}
    answer = two.client.request(method, path, headers=headers, json=body or None, follow_redirects=False)
    return answer.status_code, answer.text


def with_accounts(two: Two) -> None:
    for name, role, agency in (
        ("operator-b", "operator", "Bureau B"),
        ("regulator-all", "regulator", None),
        ("auditor-a", "auditor", "Bureau A"),
    ):
        two.tokens[name] = issue_account(two.service.wiring, name, name, role, agency)


def test_a_bundle_about_two_agencies_is_for_those_who_see_both(two: Two) -> None:
    with_accounts(two)
    period = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    status, text = send(
        two, "regulator-all", "POST", "/v1/exports", stations=["A1", "B1"], purpose="both", **period
    )
    assert status == 202
    [export_id] = re.findall(r"x[0-9a-f]{16}", text)[:1]
    for who, seen in (("inspector-a", 404), ("regulator-b", 404), ("regulator-all", 200)):
        for path in ("/v1/exports/{}", "/exports/{}"):
            assert send(two, who, "GET", path.format(export_id))[0] == seen, (who, path)
        assert (export_id in send(two, who, "GET", "/v1/exports")[1]) == (seen == 200)


def test_no_route_says_a_word_of_another_agency(two: Two) -> None:
    with_accounts(two)
    assert (
        send(two, "operator-b", "POST", "/v1/stations/B1/keys", **key_form("B1", "kid-b", b"b" * 32))[0]
        == 202
    )
    limit = {"channel": "so2", "limit": 33.0, "from": "2026-06-01T00:00:00Z", "why": "secret of b"}
    assert send(two, "operator-b", "POST", "/v1/stations/B1/limits", **limit)[0] == 201
    flag = two.flags["B1"]
    names = {
        "stn": "B1", "kid": "kid-b", "flag_id": flag.flag_id, "export_id": two.exports["B1"], "ep": "1",
        "event_id": flag.event_id.hex(), "env_id": flag.event_id.hex(), "date": "2026-01-01", "as_of": "3",
        "name": "checkpoint", "path": "0/000",
    }  # fmt: skip
    spec = two.client.get("/openapi.json").json()["paths"]
    # The log itself is public, and so are the receipts of what it holds.
    asked = [
        (method.upper(), path)
        for path, methods in [*spec.items(), *((page, ["get"]) for page in PAGES)]
        for method in methods
        if not path.startswith(("/log/", "/v1/receipts"))
    ]
    assert len(asked) > 40
    for method, path in asked:
        filled = path.format(**names)
        for who in ("inspector-a", "auditor-a", "operator-a", "regulator-a"):
            for query in ("", "?station=B1", "?station=B1&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"):
                if query and method != "GET":
                    continue
                status, text = send(two, who, method, filled + query)
                assert status < 500, (method, filled)
                said = text.replace(filled, "").replace("station=B1", "")
                assert not OF_B.search(said), (who, method, filled + query, status)


def test_a_key_id_another_agency_asked_for_is_taken(two: Two) -> None:
    with_accounts(two)
    assert (
        send(two, "operator-b", "POST", "/v1/stations/B1/keys", **key_form("B1", "kid-b", b"b" * 32))[0]
        == 202
    )
    status, text = send(
        two, "operator-a", "POST", "/v1/stations/A1/keys", **key_form("A1", "kid-b", b"a" * 32)
    )
    assert (status, "key.taken" in text) == (409, True)


def test_a_bundle_with_texts_is_for_regulators_only(service: Service, station: SmallStation) -> None:
    """An auditor's own bundle is redacted: a regulator's would tell the same auditor everything."""
    export_ids = {redact: ask(service, redact=redact).json()["export_id"] for redact in (False, True)}
    with running(service.loop):
        for export_id in export_ids.values():
            flow.build_export(service.wiring, export_id)
    for who, status in (("regulator", 200), ("auditor", 403), ("inspector", 403), ("operator", 403)):
        for redact, export_id in export_ids.items():
            answer = service.client.get(f"/v1/exports/{export_id}/bundle", headers=service.headers(who))
            assert answer.status_code == (200 if redact else status), (who, redact)
