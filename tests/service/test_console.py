"""The console's promises to an inspector, and to whoever would trick one."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from emdi.keys import LocalKey
from stackwitness.accounts import flow as accounts
from stackwitness.console.assets import UPLOT_SHA256, AssetMismatch, check_pinned, load_assets
from stackwitness.console.failures import WORDS
from stackwitness.console.locale import choose_locale
from stackwitness.console.visit import safe_path
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import DatabaseUnavailable, Forbidden
from stackwitness.evidence import flow as evidence
from stackwitness.problems import install_problems
from stackwitness.settings import Settings
from tests.service.console_seed import seed
from tests.service.rig import Rig, key_form
from tests.support.service import Service

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PAGES = (
    "/",
    "/flags",
    "/flags?state=all",
    "/stations",
    "/stations/kiln-4",
    "/stations/kiln-4?days=1",
    "/exports",
)
REASON = "The logger shows a hold in these hours."


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings with sign-in links, as in development."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", dev_links=True, home=home, database_url=database_url)


def sign_in(service: Service, role: str = "inspector") -> TestClient:
    """Return a browser that followed the sign-in link of a role."""
    service.headers(role)
    with unit_of_work(service.wiring.engine) as conn:
        token = accounts.issue_link(conn, service.wiring.service_key, role)
    browser = TestClient(service.client.app, headers=HTML)
    answer = browser.get("/sign-in", params={"token": token}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return browser


def csrf_of(page: str) -> str:
    """Return the token in a page's forms."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_a_stranger_is_led_to_the_sign_in(service: Service) -> None:
    for path in (*PAGES, "/flags/x-1", "/exports/1"):
        answer = service.client.get(path, headers=HTML, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in"), path
    assert service.client.get("/flags").json()["code"] == "account.unknown"


def test_the_session_cookie_is_strict_and_ends_at_sign_out(service: Service) -> None:
    service.headers("inspector")
    with unit_of_work(service.wiring.engine) as conn:
        token = accounts.issue_link(conn, service.wiring.service_key, "inspector")
    browser = TestClient(service.client.app, headers=HTML)
    answer = browser.get(
        "/sign-in", params={"token": token, "next": "//evil.example"}, follow_redirects=False
    )
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = browser.get("/").text
    session = browser.cookies["sw_session"]
    assert browser.post("/sign-out", data={"csrf": csrf_of(page)}, follow_redirects=False).status_code == 303
    browser.cookies.set("sw_session", session)
    assert browser.get("/", follow_redirects=False).headers["location"] == "/sign-in"
    assert browser.get("/sign-in", params={"token": "nonsense"}).status_code == 401


def test_every_page_speaks_both_languages_and_runs_no_inline_script(service: Service) -> None:
    flag_ids = [flag.flag_id for flag in seed(service, flags_each=2, days=3)]
    service.settle()
    browser = sign_in(service)
    for code, lang, word in (("en", "en", "overview"), ("zh", "zh-Hans", "总览")):
        browser.get(f"/language/{code}")
        for path in (*PAGES, *(f"/flags/{flag_id}" for flag_id in flag_ids), "/nothing"):
            answer = browser.get(path)
            assert answer.status_code == (404 if path == "/nothing" else 200), answer.text
            assert f'<html lang="{lang}">' in answer.text
            assert word in answer.text
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "http:" not in answer.text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(
                r"<script(?![^>]*(?:src=|application/json))[^>]*>|\son\w+=|<[^>]*\sstyle=", answer.text
            )
            assert "<4>" not in answer.text


def test_names_are_escaped_even_inside_the_charts_data(service: Service) -> None:
    seed(service, flags_each=1, days=1)
    page = sign_in(service).get("/stations/kiln-4").text
    assert "Kiln &lt;4&gt; &amp; &#34;cooler&#34;" in page
    data = re.search(r'<script type="application/json" id="traces">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert not set("<>&") & set(data[1])


def test_an_inspector_decides_and_goes_on(service: Service) -> None:
    seed(service, stations=2, flags_each=2, days=1)
    browser = sign_in(service)
    first = browser.get("/flags/next", follow_redirects=False).headers["location"]
    page = browser.get(first).text
    also = re.findall(r'name="also" value="([^"]+)"', page)
    form = {"csrf": csrf_of(page), "decision": "explained", "reason": REASON, "also": also, "whole": "true"}
    assert browser.post(first, data={**form, "csrf": "0" * 64}).status_code == 403
    assert browser.post(first, data={**form, "csrf": ""}).status_code == 403
    short = browser.post(first, data={**form, "reason": "no <b>"})
    assert short.status_code == 422
    assert "at least 10 characters" in short.text
    assert "no &lt;b&gt;</textarea>" in short.text
    assert browser.post(first, data={**form, "decision": "burn"}).status_code == 422
    assert service.rows("SELECT 1 FROM review") == []
    decided = browser.post(first, data=form)
    assert (decided.status_code, str(decided.url.path)) == (200, first)
    assert REASON in decided.text
    # The other flag of this matter was decided by the same click, with an event of its own.
    rows = service.rows("SELECT flag_id, event_id FROM review")
    assert {row.flag_id for row in rows} == {first.removeprefix("/flags/"), *also}
    assert len({row.event_id for row in rows}) == 2
    following = re.search(r'href="(/flags/[^"]+)" autofocus', decided.text)
    assert following is not None
    assert following[1] == browser.get("/flags/next", follow_redirects=False).headers["location"] != first
    assert first not in browser.get("/flags").text
    assert first in browser.get("/flags?state=decided").text


def test_only_inspectors_decide(service: Service) -> None:
    (flag, *_) = seed(service, stations=1, flags_each=1, days=1)
    for role in ("regulator", "auditor", "operator"):
        browser = sign_in(service, role)
        page = browser.get(f"/flags/{flag.flag_id}").text
        assert "<textarea" not in page
        form = {"csrf": csrf_of(page), "decision": "dismissed", "reason": REASON}
        assert browser.post(f"/flags/{flag.flag_id}", data=form).status_code == 403
    assert service.rows("SELECT 1 FROM review") == []


def test_a_flag_page_carries_its_provenance(service: Service) -> None:
    (flag, *_) = seed(service, stations=1, flags_each=1, days=1)
    service.settle()
    page = sign_in(service).get(f"/flags/{flag.flag_id}").text
    event_id = flag.event_id.hex()
    (row,) = service.rows("SELECT idx FROM log_entry WHERE entry_id = :id", id=flag.event_id)
    for words in (
        f"entry {row.idx}",
        f"/v1/events/{event_id}",
        f"/v1/receipts/{event_id}",
        "aa" * 12,
        "12–24",
    ):
        assert words in page
    for words in ("Analyser event log", "freezing a value", flag.text_en, "<svg"):
        assert words in page
    # The links that a page offers must lead somewhere.
    assert service.client.get(f"/v1/events/{event_id}", headers=service.headers("auditor")).status_code == 200
    # Who looked stands on the page itself, this look included.
    (look,) = service.rows("SELECT event_id FROM custody")
    assert "Who looked at this" in page
    assert f"/v1/events/{look.event_id.hex()}" in page


def test_filters_keep_what_they_name(service: Service) -> None:
    flags = seed(service, stations=2, flags_each=3, days=1)
    browser = sign_in(service)
    for query, kept in (
        ("verdict=cannot be", {f.stn for f in flags if f.verdict == "cannot be"}),
        ("station=beiling-1", {"beiling-1"}),
        ("kind=copy", {f.stn for f in flags if f.kind == "copy"}),
        ("state=decided", set()),
    ):
        shown = re.findall(r'<a href="/flags/([^"]+)" class="row-link', browser.get(f"/flags?{query}").text)
        assert sorted(flag_id.rpartition("-")[0] for flag_id in shown) == sorted(kept)
    assert browser.get("/flags?state=maybe").status_code == 422


def test_a_foolish_range_is_a_page_not_a_crash(service: Service) -> None:
    seed(service, stations=1, flags_each=0, days=1)
    browser = sign_in(service)
    for query in ("from=2026-02-02&to=2026-01-01", "from=0001-01-01&to=9999-12-31", "from=x&to=y", "days=0"):
        assert browser.get(f"/stations/riverside-2?{query}").status_code == 422
    assert browser.get("/stations/riverside-2?from=2020-01-01&to=2020-01-02").status_code == 200
    assert browser.get("/stations/none").status_code == 404


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_errors_are_pages_for_people_and_problems_for_programs(status: int) -> None:
    app = FastAPI()
    install_problems(app)

    @app.get("/broken")
    async def broken() -> None:
        if status == 503:
            raise DatabaseUnavailable()
        if status == 403:
            raise Forbidden()
        raise RuntimeError("the secret is 12345")

    client = TestClient(app, raise_server_exceptions=False)
    path, sent = ("/broken", status) if status in (403, 500, 503) else ("/nothing", 404)
    page = client.get(path, headers=HTML)
    assert page.status_code == sent
    assert WORDS[sent][0] in page.text
    assert "12345" not in page.text
    assert "Traceback" not in page.text
    assert client.get(path).headers["content-type"] == "application/problem+json"
    if sent == 503:
        assert page.headers["retry-after"] == "1"


def test_machine_paths_answer_machines_even_in_a_browser(service: Service) -> None:
    assert (
        service.client.get("/v1/nothing", headers=HTML).headers["content-type"] == "application/problem+json"
    )


@given(st.text(max_size=30))
def test_no_redirect_leaves_the_site(tail: str) -> None:
    for path in (tail, "/" + tail, "//" + tail, "/\\" + tail):
        target = safe_path(path)
        assert target.startswith("/")
        assert not target.startswith(("//", "/\\"))
        assert target.isprintable()


@pytest.mark.parametrize(
    ("cookie", "accept", "code"),
    [
        (None, None, "en"),
        ("zh", "en", "zh"),
        ("xx", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en-GB,en;q=0.9,zh;q=0.8", "en"),
        (None, "de, zh-TW;q=0.3, en;q=0.2", "zh"),
        (None, "zh;q=x, en;q=0.1", "en"),
        (None, "zh;q=0", "en"),
    ],
)
def test_the_language_is_the_visitors(cookie: str | None, accept: str | None, code: str) -> None:
    assert choose_locale(cookie, accept) == code


def test_assets_are_pinned_and_cached(service: Service) -> None:
    assets = load_assets()
    for name in UPLOT_SHA256:
        with pytest.raises(AssetMismatch):
            check_pinned(name, assets.files[name] + b" ")
    fresh = service.client.get(assets.href("console.js"))
    assert "immutable" in fresh.headers["cache-control"]
    assert fresh.headers["content-type"].startswith("text/javascript")
    assert service.client.get("/assets/old/console.js").headers["cache-control"] == "no-store"
    for name in ("nothing.js", "..%2f..%2fpyproject.toml", "keys.js%00"):
        assert service.client.get(f"/assets/x/{name}").status_code == 404


def test_the_api_with_its_console_stays_light() -> None:
    program = (
        "import sys\nimport stackwitness.app, stackwitness.console.routes\n"
        "from stackwitness.console.visit import environment\n"
        "[environment(code).get_template('flag.html') for code in ('en', 'zh')]\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'pyod', 'youplot'} & set(sys.modules)\n"
        "status = open('/proc/self/status').read()\n"
        "print(sorted(heavy), int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    heavy, peak_mb = said.rsplit(" ", 1)
    assert heavy == "[]"
    assert int(peak_mb) < 120


def test_a_regulator_asks_for_evidence_and_downloads_it(service: Service) -> None:
    seed(service, stations=1, flags_each=1, days=1)
    service.settle()
    browser = sign_in(service, "regulator")
    page = browser.get("/stations/riverside-2").text
    today = re.findall(r'name="to" value="([0-9-]+)"', page)[0]
    form = {"csrf": csrf_of(page), "from": today, "to": today, "purpose": "Hearing <1>"}
    asked = browser.post("/stations/riverside-2/exports", data=form)
    export_id = asked.url.path.removeprefix("/exports/")
    assert (asked.status_code, 'data-state="queued"' in asked.text) == (200, True)
    assert "Hearing &lt;1&gt;" in asked.text
    building = threading.Thread(target=evidence.build_export, args=(service.wiring, export_id))
    building.start()
    while building.is_alive():
        service.settle()
        building.join(0.05)
    done = browser.get(f"/exports/{export_id}").text
    link = re.search(r'href="(/v1/exports/[^"]+/bundle)"', done)
    assert link is not None
    assert browser.get(link[1]).content[:2] == b"PK"
    # The days are those of the station's clock that were asked for.
    for path in ("/exports", "/stations/riverside-2"):
        listed = browser.get(path).text
        assert export_id in listed
        assert f"{today} – {today}" in re.sub(r"<[^>]+>", "", listed)
    inspector = sign_in(service, "inspector")
    own = {**form, "csrf": csrf_of(inspector.get("/").text)}
    assert inspector.post("/stations/riverside-2/exports", data=own).status_code == 403


def test_officers_act_on_the_stations_page(service: Service) -> None:
    """A second operator approves a key, an inspector acknowledges an epoch, readings of a thief are marked."""
    rig, new = Rig(service), LocalKey.generate("Ed25519", "4711-2")
    service.client.post("/v1/stations/4711/keys", json=key_form(new, "4711"), headers=rig.operator)
    rig.post(rig.next())
    rig.ep, rig.seq, rig.prev = 2, 0, bytes(32)
    rig.post(rig.next())
    service.settle()
    page = "/stations/4711"
    browsers = {role: sign_in(service, role) for role in ("operator", "approver", "inspector")}
    pages = {role: browser.get(page).text for role, browser in browsers.items()}
    assert {role: "Approve this key" in text for role, text in pages.items()} == {
        "operator": False, "approver": True, "inspector": False,
    }  # fmt: skip
    assert [role for role, text in pages.items() if "Acknowledge this epoch" in text] == ["inspector"]
    overview = browsers["inspector"].get("/").text
    assert "key 4711-2 waits for a second operator" in overview
    assert "epoch 2 waits for an inspector" in overview
    acts = [
        ("operator", f"{page}/keys/4711-2/approve", {}, 409),
        ("inspector", f"{page}/keys/4711-2/approve", {}, 403),
        ("approver", f"{page}/keys/4711-2/approve", {}, 303),
        ("approver", f"{page}/epochs/2/ack", {"why": "seen"}, 403),
        ("inspector", f"{page}/epochs/2/ack", {"why": "seen"}, 303),
    ]
    for role, path, form, status in acts:
        body = {**form, "csrf": csrf_of(pages[role])}
        answer = browsers[role].post(path, data=body, follow_redirects=False)
        assert answer.status_code == status, (role, path)
        assert browsers[role].post(path, data=form, follow_redirects=False).status_code == 403
    size = service.settle()
    compromise = {"why": "stolen", "suspect_from_idx": 1}
    path = f"/v1/stations/4711/keys/{rig.key.kid}/compromise"
    assert service.client.post(path, json=compromise, headers=rig.operator).status_code == 200
    limit = {"channel": "nox", "limit": 40, "from": "2026-03-01T00:00:00Z", "why": "permit 7"}
    service.client.post("/v1/stations/4711/limits", json=limit, headers=rig.operator)
    assert size > 1
    text = browsers["inspector"].get(page).text
    for words in (
        "Suspect readings",
        "2 envelopes logged from index 1 on",
        "Limits that changed",
        "permit 7",
    ):
        assert words in text, words
    chinese = browsers["inspector"].get(page, headers={"Accept-Language": "zh"}).text
    assert "可疑读数" in chinese
    assert "Acknowledge this epoch" not in text
