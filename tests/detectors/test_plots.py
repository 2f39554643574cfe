"""What sentences and pictures print: numbers a person reads."""

from __future__ import annotations

import math

import pytest

from stackwitness_detectors.plots import one_in, short


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"),
        (1e-4, "0.0001"),
        (12.3456789, "12.346"),
        (123_456.0, "1.23×10⁵"),
        (99_999.0, "99999"),
        (4.6e-5, "4.6×10⁻⁵"),
        (-2.5e12, "-2.5×10¹²"),
        (math.inf, "-"),
    ],
)
def test_a_number_in_a_sentence_has_no_machine_exponent(x: float, text: str) -> None:
    assert short(x) == text


@pytest.mark.parametrize(
    ("decades", "texts"),
    [
        (-0.2, ("1 in 1", "1/1")),
        (math.log10(22_000), ("1 in 22,000", "1/22,000")),
        (41.3, ("1 in 10⁴¹", "10⁻⁴¹")),
    ],
)
def test_a_probability_is_told_as_one_in_so_many(decades: float, texts: tuple[str, str]) -> None:
    assert one_in(decades) == texts
