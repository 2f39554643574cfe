"""The printed report of a real export: made from the bundle's own numbers, checked by the verifier, the same each time."""

import json
import re
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from stackwitness.console.locale import tongue
from stackwitness.console.words import _DECISION, _KIND, _VERDICT
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.evidence.report import has_chinese_font, print_report
from stackwitness.evidence.report.words import WORDS
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from stackwitness_detectors.catalogue import LOOK_AT
from tests.emdi.making import remanifest, write_zip
from tests.service.evidence_support import make_shop
from tests.service.test_evidence import REGULATOR


@pytest.fixture
def bundle(settings: Settings, engine: sa.Engine) -> tuple[Path, str]:
    shop = make_shop(settings, engine)
    with unit_of_work(engine, "sw_export", EVERY_AGENCY) as conn:
        asked = flow.request_export(
            conn, shop.service_key, REGULATOR, stn="S1", purpose="a court", defer=False
        )
    with shop.running_log():
        return flow.build_export(shop, asked.export_id), shop.policy_text


def test_every_number_is_proven_with_the_bundle(bundle: tuple[Path, str], tmp_path: Path) -> None:
    path, policy = bundle
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    report = verify_bundle(path, policy)
    assert (report.exit_code, report.step(14).state) == (0, "ok"), report.text()
    numbers = json.loads(members["report.json"])
    assert numbers["counts"]["readings"] == 80
    assert print_report(members["report.json"]) == members["report.pdf"]
    assert members["report.pdf"].startswith(b"%PDF-1.")

    numbers["counts"]["readings"] += 1
    forged = {**members, "report.json": (json.dumps(numbers, separators=(",", ":")) + "\n").encode()}
    remanifest(forged)
    found = verify_bundle(write_zip(tmp_path / "forged.zip", forged), policy)
    assert found.exit_code == 1
    assert found.step(14).findings[0].code == "report.differs"
    del forged["report.json"]
    remanifest(forged)
    alone = verify_bundle(write_zip(tmp_path / "alone.zip", forged), policy)
    assert [item.code for item in alone.step(14).findings] == ["report.missing"]


def test_nothing_but_the_report_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes its numbers from report.json alone: the template computes no sum, mean or share."""
    from stackwitness.evidence.report import TEMPLATE

    text = TEMPLATE.read_text(encoding="utf-8")
    assert not re.findall(r"\.sum\(|\.len\(\)\s*[}\]]|datetime\.today", text)


def test_words_on_paper_are_those_of_the_console() -> None:
    chinese = tongue("zh")
    said = {**_KIND, **_VERDICT, **_DECISION}
    for code, (en, zh) in WORDS.items():
        if code in said:
            assert (said[code], chinese.say(said[code])) == (en, zh)
    assert set(_VERDICT) | set(_DECISION) | set(LOOK_AT) <= set(WORDS)


def test_without_a_chinese_font_it_is_english_only(
    bundle: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(bundle[0]) as archive:
        numbers = archive.read("report.json")
    with_font = print_report(numbers)
    monkeypatch.setattr("stackwitness.evidence.report.has_chinese_font", lambda: False)
    assert (print_report(numbers) != with_font) is has_chinese_font()


def test_flags_of_one_matter_stand_together(
    bundle: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(bundle[0]) as archive:
        numbers = json.loads(archive.read("report.json"))
    (flag, *_) = numbers["flags"]
    stn = flag["flag_id"].rpartition("-")[0]
    rows = [("hold", "unusual", "so2"), ("comb", "unusual", "nox"), ("copy", "cannot be", "so2")]
    numbers["flags"] = [
        {
            **flag,
            "flag_id": f"{stn}-{900 + n}",
            "idx": n,
            "kind": kind,
            "verdict": verdict,
            "channels": [channel],
        }
        for n, (kind, verdict, channel) in enumerate(rows)
    ]
    seen: list[dict[str, str]] = []

    def compile_to_pdf(*_: object, sys_inputs: dict[str, str], **__: object) -> bytes:
        seen.append(sys_inputs)
        return b""

    numbers["flags"][1]["lapsed"] = {"idx": 77, "at": "2026-01-02T00:00:00.000Z"}
    together = print_report(json.dumps(numbers).encode())
    assert together.startswith(b"%PDF-1.")
    monkeypatch.setattr("typst.compile", compile_to_pdf)
    print_report(json.dumps(numbers).encode())
    assert json.loads(seen[0]["matters"]) == [[2, 0], [1]]
