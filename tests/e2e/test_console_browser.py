"""The console in a real browser: keys, charts, decisions; and the same with scripts switched off."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn

from stackwitness.accounts import flow as accounts
from stackwitness.accounts.domain import Role
from stackwitness.db.unit import unit_of_work
from stackwitness.settings import Settings
from tests.service.console_seed import seed
from tests.support.service import Service

playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REASON = "The shift log shows blow-back in these hours."

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@dataclass
class Site:
    """The console on a loopback port, a browser, and what the pages complained about."""

    service: Service
    address: str
    browser: "playwright.Browser"
    complaints: list[str] = field(default_factory=list)

    def visit(self, role: Role, **options: object) -> "playwright.Page":
        """Return a page signed in as this role; requests that leave this machine are complaints."""
        wiring = self.service.wiring
        with unit_of_work(wiring.engine) as conn:
            token = accounts.issue_link(conn, wiring.service_key, role)
        page = self.browser.new_context(locale="en-GB", **options).new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(self.address) else self.complaints.append(asked.url),
        )
        page.goto(f"{self.address}/sign-in?token={token}")
        return page


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Give settings with sign-in links, as in development."""
    home = tmp_path / "home"
    home.mkdir()
    return Settings(mode="test", dev_links=True, home=home, database_url=database_url)


@pytest.fixture
def site(service: Service) -> Iterator[Site]:
    """Serve the seeded console and start a browser."""
    seed(service, stations=2, flags_each=3, days=4)
    service.settle()
    service.headers("inspector")
    # The fixture's test client already runs the application's lifespan.
    server = uvicorn.Server(uvicorn.Config(service.client.app, port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        running = Site(service, address, browser)
        yield running
        browser.close()
    server.should_exit = True
    thread.join()
    assert running.complaints == []


def test_a_morning_on_the_keyboard(site: Site) -> None:
    page = site.visit("inspector")
    page.keyboard.press("f")
    page.wait_for_url("**/flags")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.evaluate("document.activeElement.getAttribute('href')")
    assert first == page.locator(".row-link").first.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{first}")
    # A decision without a reason is not sent; the browser leads to the field.
    page.keyboard.press("3")
    assert page.evaluate("document.activeElement.id") == "reason"
    page.keyboard.type(REASON)
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.wait_for_url("**?decided=1")
    assert REASON in page.inner_text(".history")
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "/flags/" in url and first not in url)
    page.keyboard.press("j")
    page.wait_for_url(lambda url: "/flags/" in url and first not in url)
    # One click decided the matter: an event for each of its three flags.
    rows = site.service.rows("SELECT DISTINCT flag_id, decision, reason FROM review")
    assert [(row.decision, row.reason) for row in rows] == [("explained", REASON)] * 3


def test_charts_zoom_together_and_paper_gets_drawings(site: Site) -> None:
    page = site.visit("inspector")
    page.goto(f"{site.address}/stations/riverside-2?days=7")
    page.wait_for_selector("[data-trace='3'] canvas")
    assert page.locator("figure svg.trace:visible").count() == 0
    box = page.locator("[data-trace='0'] .u-over").bounding_box()
    assert box is not None
    before = page.inner_text("[data-trace='2'] .u-legend")
    page.mouse.move(box["x"] + 200, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 40, steps=5)
    page.mouse.up()
    page.mouse.move(box["x"] + 300, box["y"] + 40)
    # The cursor of one chart shows its time in all of them.
    assert page.inner_text("[data-trace='2'] .u-legend") != before
    page.emulate_media(media="print")
    assert page.locator("figure svg.trace:visible").count() == 4
    assert page.locator(".uplot:visible, form.range:visible").count() == 0


def test_pages_fit_and_every_field_has_a_name(site: Site) -> None:
    for width in (1280, 900, 390):
        check_pages(site, width)


def check_pages(site: Site, width: int) -> None:
    """Load every page in both languages in a new window of this width."""
    page = site.visit("regulator" if width == 1280 else "inspector", viewport={"width": width, "height": 800})
    flag_path = page.goto(f"{site.address}/flags/next").url.removeprefix(site.address)
    for code in ("en", "zh"):
        page.goto(f"{site.address}/language/{code}")
        for path in ("/", "/flags", flag_path, "/stations", "/stations/riverside-2"):
            page.goto(site.address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert page.locator("h1").count() == 1
            assert page.locator("main svg[role=img]:not(:has(title))").count() == 0
            unnamed = page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
                ".filter(f => !f.labels.length).map(f => f.name)"
            )
            assert unnamed == []


def test_without_scripts_one_still_reads_and_decides(site: Site) -> None:
    page = site.visit("inspector", java_script_enabled=False)
    page.goto(f"{site.address}/stations/riverside-2?days=7")
    assert page.locator("figure svg.trace").count() == 4
    page.goto(f"{site.address}/flags/next")
    assert page.locator(".evidence svg").count() >= 1
    page.fill("#reason", REASON)
    page.click("button[value=needs_visit]")
    assert re.search(r"/flags/[^/]+\?decided=1$", page.url)
    page.click(".notice a")
    assert page.locator("textarea").count() == 1
    assert [row.decision for row in site.service.rows("SELECT decision FROM review")] == ["needs_visit"] * 3
