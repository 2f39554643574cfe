"""Words: every message has its Chinese, every code of the detectors has words, colours can be read."""

import io
import re
from pathlib import Path
from typing import get_args

from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import stackwitness_detectors
from stackwitness.console import unjudged, words
from stackwitness.console.assets import load_assets
from stackwitness.console.locale import CATALOGUES, tongue
from stackwitness.detection.domain import BELOW
from stackwitness_detectors import ChannelInfo, Context
from stackwitness_detectors.catalogue import CAUSES, LOOK_AT
from stackwitness_detectors.contract import Cannot
from stackwitness_detectors.engine import open_engine
from stackwitness_detectors.forge import KINDS

CONSOLE = CATALOGUES.parent
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def messages() -> set[str]:
    """Return every message id in templates and code."""
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "say": None, "mark": None}
    methods = [("**.py", "python"), ("**.html", "jinja2")]
    found = extract_from_dir(str(CONSOLE), methods, {"**.html": {"trimmed": "true"}}, keywords)
    return {message[0] if isinstance(message, tuple) else message for _, _, message, _, _ in found} - {""}


def test_every_message_has_its_chinese_with_the_same_placeholders() -> None:
    text = (CATALOGUES / "zh" / "LC_MESSAGES" / "console.po").read_bytes()
    catalogue = read_po(io.BytesIO(text), locale="zh")
    translated = {m.id[0] if isinstance(m.id, tuple) else m.id: m.string for m in catalogue if m.id}
    assert messages() - translated.keys() == set()
    assert translated.keys() - messages() == set()
    for source, string in translated.items():
        chinese = string[0] if isinstance(string, tuple) else string
        assert chinese, source
        assert set(PLACEHOLDER.findall(source)) == set(PLACEHOLDER.findall(chinese)), source


def ranked_kinds() -> set[str]:
    """Return every forgery that a detector's source ranks: `kinds = (...)` or `kinds=(...)`."""
    assert stackwitness_detectors.__file__ is not None
    found: set[str] = set()
    for path in Path(stackwitness_detectors.__file__).parent.rglob("*.py"):
        for names in re.findall(r"\bkinds\s*=\s*\(([^)]*)\)", path.read_text()):
            found |= set(re.findall(r'"(\w+)"', names))
    return found


def test_every_code_of_the_detectors_has_words() -> None:
    assert CAUSES.keys() - words.innocent_codes() == set()
    assert len(ranked_kinds()) > 10
    assert (LOOK_AT.keys() | KINDS.keys() | ranked_kinds()) - words.kind_codes() == set()


def test_every_reason_and_every_detector_that_cannot_judge_has_words() -> None:
    assert set(get_args(Cannot)) - unjudged.why_codes() == {BELOW}
    channel = ChannelInfo("nox", "NOx", "mg/m3", "pollutant")
    families = open_engine(Context("s", (channel,)), None).families
    detectors = {getattr(family, "detector", family.name) for family in families} - {"course", "residuals"}
    assert len(detectors) > 30
    shown = {unjudged.word_test(tongue("en"), name) for name in detectors | {"conditional"}}
    assert shown <= {words.kind(tongue("en"), code) for code in words.kind_codes()}


def test_an_unknown_code_is_shown_as_it_is() -> None:
    for code in ("en", "zh"):
        t = tongue(code)
        assert words.kind(t, "brand_new") == words.innocent(t, "brand_new") == "brand new"
        assert words.clearing(t, "brand_new") == ""


def test_numbers_and_times_read_well() -> None:
    t = tongue("en")
    assert [t.number(v) for v in (None, 0, 0.1, 12.345678, 123456.7, 3.1e12)] == [
        "—", "0", "0.1", "12.35", "123,457", "3.1e12",
    ]  # fmt: skip
    assert t.moment(1_767_225_600_000, 480) == "2026-01-01 08:00"
    assert tongue("zh").duration(31 * 3_600_000) == "31小时"


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_contrast_is_at_least_4_5() -> None:
    css = load_assets().files["console.css"].decode()
    named = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", css))
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "sheet", "faint")]
    pairs += [("sheet", "impossible"), ("unlikely", "unlikely-soft"), ("unusual", "unusual-soft")]
    pairs += [("accent-ink", "accent"), ("quiet", "ground"), ("impossible", "sheet")]
    for ink, ground in pairs:
        high, low = sorted((luminance(named[ink]), luminance(named[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_our_files_stand_beside_the_pinned_one() -> None:
    assert {
        "console.css",
        "console.js",
        "keys.js",
        "mark.svg",
        "uplot.iife.min.js",
    } <= load_assets().files.keys()
    assert not [
        p for p in Path(CONSOLE.parents[2] / "clients" / "web").glob("*") if "uplot" in p.name.lower()
    ]
