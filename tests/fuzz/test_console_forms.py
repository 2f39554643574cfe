"""Every form of the console, as the routes themselves list them, sent wrong in every way by every role.

Never a 500, never half stored: a page or a problem with a code of ours, and the database as it was.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from emdi.envelope import ZERO_HASH
from emdi.keys import LocalKey
from stackwitness import clock
from stackwitness.console.routes import router
from stackwitness.settings import Settings
from tests.service.console_seed import HOUR_MS, Plant, raise_one
from tests.service.rig import Rig, key_form
from tests.service.test_console import csrf_of, sign_in
from tests.support.service import Service

ROLES = ("operator", "approver", "inspector", "regulator", "auditor")
CODE = re.compile(r"[a-z_]+(\.[a-z_]+)*")
HUGE = "x" * 70_000
BAD = (
    "",
    " ",
    "\0",
    "a\0b",
    "\u202e",
    "\u2028",
    "\ud800",
    "-1",
    "1e99",
    "0001-01-01",
    "9999-12-31",
    "2026-02-30",
    "true",
    "../x",
    "<b>",
    HUGE,
)
PLACES = (
    "",
    "%00",
    "a%00b",
    "%ff%fe",
    "..%2f..",
    "%E2%80%AE",
    "-1",
    "9" * 30,
    "x" * 5000,
    "9007199254740992",
)
STORED = (
    "SELECT (SELECT count(*) FROM event) - (SELECT count(*) FROM custody), (SELECT count(*) FROM explanation),"
    " (SELECT count(*) FROM review), (SELECT count(*) FROM export_request), (SELECT count(*) FROM station_key),"
    " (SELECT count(*) FROM epoch_ack)"
)
TOKEN = "the-token-of-this-session"
FORM = {"content-type": "application/x-www-form-urlencoded"}
BODIES = (
    (b"", FORM), (b"&&&=;=%", FORM), (b"%ff=%fe&csrf=%ed%a0%80", FORM), (b"{}", {"content-type": "application/json"}),
    (b"[1", {"content-type": "application/json"}), (b"x", {"content-type": "multipart/form-data"}),
    (b"--b\r\n\r\n", {"content-type": "multipart/form-data; boundary=b"}), (b"x", {"content-type": "text/plain; charset=utf-7"}),
    (b"a=1&" * 3000, FORM), (b"csrf=" + b"y" * 2_000_000, FORM),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One form: where it goes and which fields it has."""

    path: str
    fields: tuple[str, ...]


def forms(routes: Any) -> Iterator[Target]:
    """Yield every route of the console that takes a POST, included ones too."""
    for route in routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            yield from forms(inner.routes)
        elif isinstance(route, APIRoute) and "POST" in route.methods:
            yield Target(route.path, tuple(dict.fromkeys(fields_of(route.dependant))))


def fields_of(dependant: Dependant) -> Iterator[str]:
    yield from (str(field.alias) for field in dependant.body_params)
    for inner in dependant.dependencies:
        yield from fields_of(inner)


TARGETS = list(forms(router.routes))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Give settings with sign-in links, as in development."""
    return settings.model_copy(update={"dev_links": True})


@dataclass
class Console:
    """A service with something to decide, and a browser of each role."""

    service: Service
    good: dict[str, str]
    place: dict[str, str]
    browsers: dict[str, tuple[TestClient, str]]
    answered: Counter[Any] = field(default_factory=Counter)

    def enter(self, role: str) -> None:
        browser = sign_in(self.service, role)
        self.browsers[role] = browser, csrf_of(browser.get("/").text)

    def stored(self) -> Any:
        return self.service.rows(STORED)

    def send(self, role: str, path: str, **given: Any) -> None:
        """Send one request and hold the answer and the database against the promise."""
        browser, csrf = self.browsers[role]
        if "data" in given:
            given["data"] = {name: csrf if value is TOKEN else value for name, value in given["data"].items()}
        elif isinstance(given["content"], str):
            given["content"] = given["content"].replace(TOKEN, csrf)
        before = self.stored()
        answer = browser.post(path, follow_redirects=False, **given)
        what = (role, path[:200], str(given)[:300], answer.status_code, answer.text[-300:])
        assert answer.status_code < 500, what
        self.answered[path.partition("/")[2][:3], self.code(answer) or answer.status_code] += 1
        if answer.status_code >= 400:
            assert self.stored() == before, what
            assert self.code(answer) or 'name="csrf"' in answer.text, what
        if path == "/sign-out" and answer.status_code == 303:
            self.enter(role)

    @staticmethod
    def code(answer: Any) -> str:
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            code = str(answer.json()["code"])
        else:
            found = re.search(r"<code>([^<]*)</code>", answer.text)
            code = found[1] if found else ""
        assert CODE.fullmatch(code) or not code, code
        return code


@pytest.fixture
def console(service: Service) -> Console:
    rig = Rig(service)
    rig.post(rig.next())
    rig.client.post(
        "/v1/stations/4711/keys",
        json=key_form(LocalKey.generate("Ed25519", "k2"), "4711"),
        headers=rig.operator,
    )
    rig.ep, rig.seq, rig.prev = 2, 0, ZERO_HASH
    rig.post(rig.next())
    flag = raise_one(service, "4711", Plant(0, clock.now_ms() // HOUR_MS * HOUR_MS), 0)
    service.settle()
    good = {
        "decision": "confirmed_odd", "reason": "The logger shows a hold in these hours.", "whole": "false", "also": flag.flag_id,
        "from": "2026-01-01", "to": "2026-01-02", "purpose": "audit", "why": "seen on site",
    }  # fmt: skip
    made = Console(service, good, {"stn": "4711", "kid": "k2", "ep": "2", "flag_id": flag.flag_id}, {})
    for role in ROLES:
        made.enter(role)
    return made


@pytest.mark.fuzz
@pytest.mark.timeout(300)
def test_no_form_makes_an_error_of_ours(console: Console) -> None:
    assert len(TARGETS) >= 5
    unknown = {name for target in TARGETS for name in target.fields} - {"csrf", *console.good}
    assert not unknown, f"give each new field a good value, so that the others are tried beside it: {unknown}"
    turn = 0
    for target in TARGETS:
        for role in ROLES:
            for wrong in wrongs(console, target, role):
                turn += 1
                # Who may not do it anyway is asked now and then, everybody with everything at the end.
                if "full" not in wrong and turn % 5:
                    continue
                wrong.pop("full", None)
                console.send(role, **wrong)
    # Each form was taken too: what is refused only for its role or its token says little.
    assert all(console.answered[target.path.split("/")[1][:3], 303] for target in TARGETS)
    console.service.settle()
    console.service.check()


def wrongs(console: Console, target: Target, role: str) -> Iterator[dict[str, Any]]:
    """Yield what is sent to one form by one role; the good one last, for it changes things."""
    path = target.path.format(**console.place)
    given = {**console.good, "csrf": TOKEN}
    good = {name: given[name] for name in target.fields}
    full: dict[str, Any] = {"full": True} if role in MAY.get(target.path, ROLES) else {}
    for wrong in target.fields:
        yield {"path": path, "data": {name: value for name, value in good.items() if name != wrong}, **full}
        for bad in BAD:
            body = "&".join(
                f"{name}={encode(bad if name == wrong else value)}" for name, value in good.items()
            )
            yield {"path": path, "content": body, "headers": FORM, **full}
        yield {"path": path, "data": {**good, wrong: [good[wrong], "2"] * 3}, **full}
        rest = {name: value for name, value in good.items() if name != wrong}
        yield {"path": path, "data": rest, "files": {wrong: ("f.txt", b"\0\xff" * 10)}, **full}
    for name in console.place:
        if f"{{{name}}}" in target.path:
            for bad in PLACES:
                yield {"path": target.path.format(**{**console.place, name: bad}), "data": good, **full}
    for content, headers in BODIES:
        yield {"path": path, "content": content, "headers": headers}
    yield {"path": path, "data": {**good, "more": "1"}}
    for _ in range(2):
        yield {"path": path, "data": good, "full": True}


# Who a form is for: they send all of it, the others a part.
MAY = {
    "/flags/{flag_id}": ("inspector",),
    "/stations/{stn}/exports": ("regulator",),
    "/stations/{stn}/keys/{kid}/approve": ("approver",),
    "/stations/{stn}/epochs/{ep}/ack": ("inspector",),
    "/sign-out": ("auditor",),
}


def encode(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"))
