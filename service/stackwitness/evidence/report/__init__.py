"""Print report.json of an export bundle as a PDF for people: Chinese and English, the same bytes each time."""

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from emdi.legible import spell_out
from emdi.report import report_keyword
from stackwitness.evidence.report.words import WORDS
from stackwitness_detectors.matters import Member, group

TEMPLATE = Path(__file__).with_name("report.typ")
# A font of either family shows both languages; without one the report is in English only, for the Chinese words
# would be empty boxes.
CHINESE_FONTS = ("Noto Serif CJK SC", "Noto Sans CJK SC")


def print_report(report: bytes) -> bytes:
    """Return the PDF of a report.json.

    The fonts of the machine are used: two machines with other fonts give other bytes for the same numbers.
    """
    import typst

    flags = json.loads(report)["flags"]
    words = {code: {"en": en, "zh": zh} for code, (en, zh) in WORDS.items()}
    inputs = {
        "report": json.dumps(_legible(json.loads(report)), ensure_ascii=False),
        "words": json.dumps(words, ensure_ascii=False, sort_keys=True),
        "matters": json.dumps(_group(flags)),
        "keyword": report_keyword(report),
        "chinese": "yes" if has_chinese_font() else "no",
    }
    # A fixed time stamp: the PDF says nothing that report.json does not.
    pdf = typst.compile(TEMPLATE, format="pdf", sys_inputs=inputs, timestamp=0)
    assert isinstance(pdf, bytes)
    return pdf


def _legible(value: Any) -> Any:
    """Return JSON whose texts say which letters they hold where that would not be seen on paper."""
    if isinstance(value, str):
        return spell_out(value, keep="\n")
    if isinstance(value, list):
        return [_legible(item) for item in value]
    return {name: _legible(item) for name, item in value.items()} if isinstance(value, dict) else value


def _group(flags: list[dict[str, Any]]) -> list[list[int]]:
    """Return the matters as places in the list of flags: the flag that speaks for all first, matters in the log's order.

    The report holds no e-values: of equal verdicts the flag raised first leads.
    """
    members = [
        Member(
            flag["flag_id"],
            flag["flag_id"].rpartition("-")[0],
            flag["kind"],
            flag["verdict"],
            _ms(flag["from"]),
            _ms(flag["to"]),
            tuple(flag["channels"]),
            0.0,
            flag["idx"],
        )
        for flag in flags
    ]
    places = {member.key: place for place, member in enumerate(members)}
    return [[places[member.key] for member in matter.members] for matter in group(members)]


def _ms(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


@cache
def has_chinese_font() -> bool:
    """Tell whether a font for the Chinese words is installed."""
    import typst

    return not set(typst.Fonts().families()).isdisjoint(CHINESE_FONTS)
