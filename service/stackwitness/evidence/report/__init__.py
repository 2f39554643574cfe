"""Print report.json of an export bundle as a PDF for people: Chinese and English, the same bytes each time."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TEMPLATE = Path(__file__).with_name("report.typ")
# A font of either family shows both languages; without one the report is English only, and says so nowhere: the
# Chinese words would be empty boxes.
CHINESE_FONTS = ("Noto Serif CJK SC", "Noto Sans CJK SC")


def print_report(report: bytes, words: Mapping[str, Mapping[str, str]]) -> bytes:
    """Return the PDF of a report.json. `words` names codes (kinds, verdicts, decisions) in `en` and `zh`.

    The fonts of the machine are used: two machines with other fonts give other bytes for the same numbers.
    """
    import typst

    inputs = {
        "report": report.decode("utf-8"),
        "words": json.dumps(words, ensure_ascii=False, sort_keys=True),
        "chinese": "yes" if has_chinese_font() else "no",
    }
    # A fixed time stamp: the PDF says nothing that report.json does not.
    return typst.compile(TEMPLATE, format="pdf", sys_inputs=inputs, timestamp=0)


@cache
def has_chinese_font() -> bool:
    """Tell whether a font for the Chinese words is installed."""
    import typst

    return not set(typst.Fonts().families()).isdisjoint(CHINESE_FONTS)
