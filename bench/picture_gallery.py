"""Draw the evidence of every test through the console's own drawing, found in forged plants, as one page to look at.

A boiler is forged in every way and judged by the whole engine; what it has not (pairs, moisture, curves of calibrations,
visits, neighbours) comes from `gallery_scenes`, one test each.

    python bench/picture_gallery.py OUT [--png] [--language en|zh] [--kinds scale,clip] [--width 390]

OUT gets index.html, one SVG for each picture and, with --png, a PNG of each finding as Chromium shows it. The plants
are judged once: OUT/findings.pickle keeps what was found (delete it after a change of the detectors).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from gallery_scenes import SCENES
from jinja2 import Environment

from stackwitness.console import figures, words
from stackwitness.console.assets import load_assets
from stackwitness.console.locale import Tongue, tongue
from stackwitness.console.views import FlagDetail, FlagView
from stackwitness.flags.flow import plot_text
from stackwitness_detectors import ChannelInfo, Context, Finding, Frame, run
from stackwitness_detectors.forge import KINDS, ForgeError, Surroundings, forge

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_704_067_200_000  # 2024-01-01
DAYS, HONEST_DAYS = 100, 64
FORGED = (START_MS + (HONEST_DAYS + 1) * DAY_MS, START_MS + (HONEST_DAYS + 22) * DAY_MS)
CHROMIUM = Path("/usr/bin/chromium")
PAGE = """<!doctype html><html lang="{{ t.code }}"><meta charset="utf-8"><title>Pictures of evidence</title>
<style>{{ css }} main { max-width: 1000px; } article { margin-bottom: 2.4rem; padding: 1rem; }</style>
<body><main>{% for name, finding, shown in rows %}
<article id="{{ name }}"><h1>{{ finding.detector }} · {{ words.kind(t, finding.kind) }} · {{ finding.channels | join(", ") }}</h1>
<p class="sub">{{ name.split("--")[1] }} · {{ words.verdict(t, finding.verdict) }}, e = {{ t.number(finding.e_value) }}</p>
<p class="sentence">{{ t.pick(finding.text_en, finding.text_zh) }}</p>
<section class="evidence">{% if shown.plot_title %}<h2>{{ shown.plot_title }}</h2>{% endif %}
{% for picture in shown.pictures %}<figure>{{ picture }}</figure>{% else %}<p class="empty">no picture</p>{% endfor %}
<p class="legend">{% for css, word in shown.legend %}<span class="entry"><span class="key key-{{ css }}"></span>{{ word }}</span> {% endfor %}</p></section></article>
{% endfor %}</main></body></html>"""


def wander(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    """Give an AR(1) path of standard deviation 1."""
    path, level = np.empty(n), 0.0
    for i, noise in enumerate((rng.standard_normal(n) * np.sqrt(1 - memory**2)).tolist()):
        level = memory * level + noise
        path[i] = level
    return path


def works(seed: int) -> tuple[Context, Frame]:
    """Simulate a boiler by the hour: load, gases, flow, weather and two pollutants, one with a limit it is often near."""
    rng, n = np.random.default_rng(seed), DAYS * 24
    at_ms = START_MS + np.arange(n, dtype=np.int64) * HOUR_MS
    day = 2 * np.pi * np.arange(n) / 24
    load = np.clip(300 + 60 * np.sin(day) + 30 * wander(rng, n, 0.9), 120, 420)
    o2 = 6.5 - 0.008 * (load - 300) + 0.15 * wander(rng, n, 0.9)
    values = {
        "load": np.round(load, 1),
        "o2": np.round(o2, 2),
        "co2": np.round((20.9 - o2) / 1.15, 2),
        "nox": np.round(80 * (load / 300) ** 0.8 * np.exp(0.05 * (o2 - 6.5) + 0.05 * wander(rng, n, 0.9)), 1),
        "so2": np.round(30 * (load / 300) ** 0.5 * np.exp(0.08 * wander(rng, n, 0.9)), 2),
        "flow": np.round(30 * load) * 100.0,
        "temp": np.round(10 + 6 * np.sin(day - 1) + 4 * wander(rng, n, 0.997), 1),
    }
    infos = (
        ChannelInfo("load", "gross load", "MW", "load", None, 0.1),
        ChannelInfo("o2", "O2", "%vol", "diluent", None, 0.01),
        ChannelInfo("co2", "CO2", "%vol", "diluent", None, 0.01),
        ChannelInfo("nox", "NOx", "mg/m3", "pollutant", 92.0, 0.1),
        ChannelInfo("so2", "SO2", "mg/m3", "pollutant", 36.0, 0.01),
        ChannelInfo("flow", "dry flow", "Nm3/h", "flow", None, 100.0),
        ChannelInfo("temp", "air temperature", "Cel", "ambient", None, 0.1),
    )
    visits = tuple((START_MS + d * DAY_MS, START_MS + (d + 1) * DAY_MS) for d in range(6, DAYS, 9))
    letters = {name: np.full(n, ord("N"), np.uint8) for name in values}
    return Context(f"works{seed}", infos, visits), Frame(at_ms, values, letters)


def part(frame: Frame, rows: slice) -> Frame:
    """Give some rows."""
    return Frame(
        frame.at_ms[rows],
        {name: v[rows] for name, v in frame.values.items()},
        {name: s[rows] for name, s in frame.status.items()},
    )


def find(kinds: list[str]) -> Iterator[tuple[str, Finding]]:
    """Forge each kind in each pollutant, and yield what is found, each episode as it stands at last."""
    context, frame = works(3)
    split = HONEST_DAYS * 24
    state = run(context, None, part(frame, slice(0, split))).state
    around = Surroundings(
        neighbours=((replace(context, stn="other"), works(8)[1]),), honest_ms=context.visits
    )
    for kind in kinds:
        for channel in ("nox", "so2"):
            try:
                forged = forge(kind, frame, context, channel, *FORGED, "gross", 5, around)
            except ForgeError as error:
                print(error, flush=True)
                continue
            found = run(context, state, part(forged, slice(split, None))).findings
            for finding in {f.episode: f for f in found}.values():
                yield kind, finding
            print(kind, channel, sorted({f.detector for f in found}), flush=True)


def gather(path: Path, kinds: list[str]) -> dict[str, tuple[str, Finding]]:
    """Return for each test the finding with the strongest evidence, and which forgery led to it; kept in `path`."""
    if path.exists():
        kept: dict[str, tuple[str, Finding]] = pickle.loads(path.read_bytes())
        return kept
    best: dict[str, tuple[str, Finding]] = {}
    for kind, finding in find(kinds):
        if finding.detector not in best or finding.e_value > best[finding.detector][1].e_value:
            best[finding.detector] = kind, finding
    for scene, play in SCENES.items():
        found = list(play())
        print(scene, sorted({f.detector for f in found}), flush=True)
        if found:
            best[scene] = scene, max(found, key=lambda f: (f.e_value, f.to_ms))
    path.write_bytes(pickle.dumps(best))
    return best


def detail_of(finding: Finding) -> FlagDetail:
    """Return what the console would know of a finding."""
    flag = FlagView(
        finding.detector, finding.kind, finding.verdict, finding.from_ms, finding.to_ms, finding.channels,
        finding.e_value, finding.text_en, finding.text_zh, "works-1", "works", "Works", 480, finding.to_ms, None,
    )  # fmt: skip
    return FlagDetail(flag, plot_text(finding.plot), "00" * 32, None)


def write_page(out: Path, best: dict[str, tuple[str, Finding]], t: Tongue) -> list[str]:
    """Write index.html and the SVGs; return the names of the articles."""
    rows = []
    for _, (kind, finding) in sorted(best.items()):
        shown = figures.make_evidence(t, detail_of(finding))
        name = f"{finding.detector}--{kind}"
        for number, picture in enumerate(shown["pictures"]):
            (out / f"{name}.{number}.svg").write_text(str(picture), "utf-8")
        rows.append((name, finding, shown))
    css = load_assets().files["console.css"].decode()
    page = Environment(autoescape=True).from_string(PAGE)
    (out / "index.html").write_text(page.render(rows=rows, t=t, words=words, css=css), "utf-8")
    return [name for name, _, _ in rows]


def photograph(out: Path, names: list[str], width: int) -> None:
    """Take a PNG of every article as Chromium shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((out / "index.html").resolve().as_uri())
        for name in names:
            page.locator(f"[id='{name}']").screenshot(path=out / f"{name}.png")
        browser.close()


def main() -> None:
    """Read the command line; find, draw, photograph."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--kinds", default=",".join(KINDS), help="forgeries to make")
    parser.add_argument("--width", type=int, default=1040)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    best = gather(given.out / "findings.pickle", given.kinds.split(","))
    names = write_page(given.out, best, tongue(given.language))
    if given.png:
        photograph(given.out, names, given.width)
    print(f"{len(names)} tests in {given.out / 'index.html'}")


if __name__ == "__main__":
    main()
