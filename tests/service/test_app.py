"""The application's edge: every error is a problem with a code, bodies are capped, health tells the truth."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from starlette.testclient import TestClient

from stackwitness.body_cap import BodyCap
from stackwitness.problems import install_problems
from tests.support.service import Service

CAP = 1000


def app_with_cap() -> TestClient:
    """Return a small application behind the cap: one route reads the body whole, one fails in secret."""
    app = FastAPI()
    install_problems(app)
    app.add_middleware(BodyCap, max_bytes=CAP)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/parsed")
    async def parsed(body: dict[str, int]) -> int:
        return len(body)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is 12345")

    return TestClient(app, raise_server_exceptions=False)


def check_problem(response: object, status: int, code: str) -> None:
    """Check status, media type and the standard members."""
    assert response.status_code == status  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    body = response.json()  # type: ignore[attr-defined]
    assert {"type", "title", "status", "code", "detail"} <= body.keys()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:stackwitness:error:{code}"


@given(chunks=st.lists(st.integers(0, 400), max_size=8), announce=st.booleans())
def test_a_body_is_counted_as_it_streams(chunks: list[int], announce: bool) -> None:
    def stream() -> Iterator[bytes]:
        for size in chunks:
            yield b"x" * size

    total = sum(chunks)
    content = b"x" * total if announce else stream()
    response = app_with_cap().post("/length", content=content)
    if total <= CAP:
        assert response.json() == total
    else:
        check_problem(response, 413, "request.too_large")


def test_the_cap_also_holds_where_the_framework_reads_the_body() -> None:
    content = iter([b'{"a":', b" " * CAP, b"1}"])
    check_problem(app_with_cap().post("/parsed", content=content), 413, "request.too_large")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "http.not_found"),
        ("GET", "/length", None, 405, "http.method_not_allowed"),
        ("POST", "/parsed", b"{", 400, "request.json"),
        ("POST", "/parsed", b'{"a":"x"}', 422, "request.invalid"),
        ("GET", "/broken", None, 500, "internal"),
    ],
)
def test_every_error_is_a_problem(method: str, path: str, body: bytes | None, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    response = app_with_cap().request(method, path, content=body, headers=headers)
    check_problem(response, status, code)
    assert "12345" not in response.text


def test_a_service_is_ready_and_counts_by_template(service: Service) -> None:
    assert service.client.get("/healthz").json() == {"state": "alive"}
    assert service.client.get("/readyz").json()["state"] == "ready"
    service.client.get("/v1/stations/none-such")
    metrics = service.client.get("/metrics").text
    assert 'route="/v1/stations/{stn}"' in metrics
    assert "none-such" not in metrics
    assert "stackwitness_checkpoint_size 1.0" in metrics


def test_readiness_fails_when_the_log_stands_still(service: Service) -> None:
    (service.settings.log_dir / "checkpoint").rename(service.settings.log_dir / "checkpoint.away")
    check_problem(service.client.get("/readyz"), 503, "log.stale")
    (service.settings.log_dir / "checkpoint.away").rename(service.settings.log_dir / "checkpoint")


def test_a_catalog_nobody_may_read_is_said_to_be_one(service: Service) -> None:
    headers = service.headers("auditor")
    assert service.client.get("/v1/catalog", headers=headers).status_code == 200
    with service.wiring.engine.begin() as conn:
        conn.execute(text("REVOKE SELECT ON pg_catalog.pg_database FROM PUBLIC"))
    try:
        check_problem(service.client.get("/v1/catalog", headers=headers), 503, "database.catalog")
    finally:
        with service.wiring.engine.begin() as conn:
            conn.execute(text("GRANT SELECT ON pg_catalog.pg_database TO PUBLIC"))


def test_the_documentation_pages_need_no_network(service: Service) -> None:
    page = service.client.get("/docs").text
    assert "https://" not in page
    assert service.client.get("/openapi.json").status_code == 200


def test_the_api_process_stays_light() -> None:
    heavy = ["numpy", "pyod", "pyarrow", "scipy", "sklearn", "pandas"]
    script = f"import sys, stackwitness.app as a\nfrom importlib import import_module\n[import_module(f'stackwitness.{{n}}.routes') for n in a.SLICES]\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert Path(sys.executable).exists()


def test_the_command_line_loads_what_a_command_uses_when_it_runs() -> None:
    heavy = {"sqlalchemy", "psycopg", "structlog", "pydantic_settings", "fastapi", "cryptography", "numpy"}
    script = "import sys, stackwitness.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()
