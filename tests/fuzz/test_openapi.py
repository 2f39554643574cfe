"""No request that OpenAPI allows, and none that it forbids, gets a 500: schemathesis over the whole application."""

import os
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from stackwitness.accounts.domain import Role
from tests.service.rig import Rig
from tests.support.service import Service

EXAMPLES = int(os.environ.get("STACKWITNESS_FUZZ_EXAMPLES", "4"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# The test client's own way of saying "the URL you made is no URL": the request never left.
UNSENDABLE = (UnicodeError, ValueError)
MODES: list[tuple[GenerationMode, Role]] = [
    (GenerationMode.POSITIVE, "operator"),
    (GenerationMode.POSITIVE, "inspector"),
    (GenerationMode.NEGATIVE, "regulator"),
]


@pytest.mark.fuzz
@pytest.mark.slow
def test_no_request_is_answered_with_a_server_error(service: Service) -> None:
    rig = Rig(service)
    rig.post(rig.next())
    service.settle()
    schema = schemathesis.openapi.from_dict(service.client.get("/openapi.json").json())
    answered: set[int] = set()
    failures: list[str] = []
    for result in schema.get_all_operations():
        for mode, role in MODES:
            _fuzz(service, result.ok(), mode, service.headers(role), answered, failures)
    assert failures == []
    assert {200, 404, 422} <= answered


def _fuzz(
    service: Service,
    operation: Any,
    mode: GenerationMode,
    headers: dict[str, str],
    answered: set[int],
    failures: list[str],
) -> None:
    @FUZZ
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = _send(service, case, headers)
        if answer is None:
            return
        answered.add(answer.status_code)
        # 503 is an honest answer; anything else from 500 on is a bug.
        if answer.status_code >= 500 and answer.status_code != 503:
            failures.append(f"{case.as_curl_command()} -> {answer.status_code} {answer.text[:200]}")

    with suppress(Unsatisfiable):  # nothing can be generated that breaks this operation's schema
        send()


def _send(service: Service, case: Any, headers: dict[str, str]) -> Any:
    """Send one generated request; None when it cannot be written as HTTP at all."""
    parts = case.as_transport_kwargs(base_url="http://testserver")
    split = urlsplit(parts["url"])
    extra = {name: parts[name] for name in ("params", "json", "files") if name in parts}
    if "data" in parts:
        extra["content" if isinstance(parts["data"], bytes | str) else "data"] = parts["data"]
    try:
        return service.client.request(
            parts["method"],
            split.path + (f"?{split.query}" if split.query else ""),
            headers={**_plain(parts.get("headers") or {}), **headers},
            **extra,
        )
    except UNSENDABLE:
        return None


def _plain(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() == "content-type"}
