"""Names that read as they are signed, and those that do not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emdi.legible import hides, refuse_name, refuse_text, spell_out
from stackwitness_client.verify.report import printable

HONEST = (
    "Linfen电厂", "临汾 № 2 (热电)", "Норильск Plant", "µg", "O₂ dry", "ﾌﾞﾗﾝﾄ2号", "Ｐｌａｎｔ", "Straße", "烟气O2", "Kraftwerk Łódź",
    "Αθήνα", "NOₓ", "Ⅱ期", "étage 3", "한국 1호기", "stack-1_b.2",
)  # fmt: skip
DECEIVING = {
    "audit\u202egpj.exe": "audit\\u202egpj.exe",
    "a\u200bb": "a\\u200bb",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "B\u0430otou steel": "B\\u0430otou steel",
    "\u3164": "\\u3164",
    "厂\ufe0f": "厂\\ufe0f",
    "\U0001d400bc": "\\U0001d400bc",
    "\U000e0041": "\\U000e0041",
    "\u2028\u202eабв": "\\u2028\\u202eабв",
}


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_name_stays(text: str) -> None:
    assert (refuse_text(text), spell_out(text)) == ("", text)


@pytest.mark.parametrize("text", DECEIVING)
def test_a_deceiving_one_is_refused_and_spelled_out(text: str) -> None:
    assert refuse_text(text)
    assert spell_out(text) == DECEIVING[text] == printable(text)


@given(st.text())
def test_nothing_hides_in_what_is_spelled_out(text: str) -> None:
    shown = spell_out(text)
    assert not any(map(hides, shown))
    assert (shown == text) == (refuse_text(text) == "")
    assert not any(unicodedata.category(letter) in ("Cf", "Cc") for letter in shown)


@pytest.mark.parametrize("name", [*HONEST, "ประเทศไทย ที่หนึ่ง", "विद्युत", "", "Ẹ́kọ́"])
def test_a_name_that_reads_as_itself_alone_stays(name: str) -> None:
    assert refuse_name(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "Bu\u0308ro", "Test\u00a0bureau", "Test\u2003bureau", "Test  bureau", " Test", "Test ", " ", "\u0301Test",
        "Test \u0338bureau", "T" + "\u0331" * 4, "x\ue000", "\u0378", *DECEIVING,
    ],
)  # fmt: skip
def test_a_name_that_could_pass_for_another_is_refused(name: str) -> None:
    assert refuse_name(name)
