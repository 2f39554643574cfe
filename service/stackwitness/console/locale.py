"""Two tongues, Chinese and English: choose one per visitor, say and format everything in it."""

from __future__ import annotations

import gettext
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from babel.dates import format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LOCALES = ("en", "zh")
COOKIE = "sw_lang"
CATALOGUES = Path(__file__).parent / "catalogues"


def mark(text: str) -> str:
    """Return the text unchanged: it marks a message for the catalogue that is said later."""
    return text


@dataclass(frozen=True)
class Tongue:
    """One language: its code, its messages, its formats."""

    code: str
    messages: gettext.NullTranslations

    def say(self, text: str) -> str:
        """Translate a message; an empty one stays empty, where gettext would give the catalogue's header."""
        return self.messages.gettext(text) if text else ""

    def pick(self, en: str, zh: str) -> str:
        """Choose between two texts that a finding carries."""
        return (zh or en) if self.code == "zh" else (en or zh)

    def number(self, value: float | None, digits: int = 4) -> str:
        """Format a number with about `digits` significant digits; an em dash for none."""
        if value is None:
            return "—"
        if value != 0 and (abs(value) >= 1e7 or abs(value) < 1e-4):
            return f"{value:.2g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
        return format_decimal(
            float(f"{value:.{digits}g}") if abs(value) < 10**digits else round(value), locale=self.code
        )

    def moment(self, at_ms: int | None, utc_offset_min: int, seconds: bool = False) -> str:
        """Write a time on the station's clock, as 2026-01-02 03:04."""
        if at_ms is None:
            return "—"
        local = datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(minutes=utc_offset_min)
        return local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")

    def duration(self, ms: float) -> str:
        """Write a length of time in its largest fitting unit."""
        return format_timedelta(
            timedelta(milliseconds=ms), granularity="minute", threshold=1.6, locale=self.code
        )

    def age(self, at_ms: int | None, now_ms: int) -> str:
        """Write how long ago a time is."""
        if at_ms is None:
            return self.say("never")
        if at_ms > now_ms - 60_000:
            return self.say("just now")
        delta = timedelta(milliseconds=at_ms - now_ms)
        return format_timedelta(delta, granularity="minute", add_direction=True, locale=self.code)


def offset_label(utc_offset_min: int) -> str:
    """Return "UTC", "UTC+8" or "UTC+5:30"."""
    if utc_offset_min == 0:
        return "UTC"
    hours, minutes = divmod(abs(utc_offset_min), 60)
    return f"UTC{'+' if utc_offset_min > 0 else '−'}{hours}{f':{minutes:02d}' if minutes else ''}"


@cache
def tongue(code: str) -> Tongue:
    """Return a language by its code; English needs no catalogue, its texts are the message ids."""
    if code not in LOCALES:
        code = "en"
    path = CATALOGUES / code / "LC_MESSAGES" / "console.po"
    if not path.exists():
        return Tongue(code, gettext.NullTranslations())
    with path.open("rb") as source:
        catalogue = read_po(source, locale=code)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Tongue(code, gettext.GNUTranslations(compiled))


def choose_locale(cookie: str | None, accept_language: str | None) -> str:
    """Return the cookie's language, else the best of Accept-Language (RFC 9110 12.5.4), else English."""
    if cookie in LOCALES:
        return cookie
    best, best_weight = "en", 0.0
    for part in (accept_language or "").split(","):
        name, _, parameter = part.strip().partition(";")
        code = name.strip().lower().split("-")[0]
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if code in LOCALES and weight > best_weight:
            best, best_weight = code, weight
    return best
