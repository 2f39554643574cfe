"""Text that reads as it is signed: find letters that hide, turn a line or pass for others, and spell them out.

Categories after Unicode UAX 44, the idea after UTS 39 (5.1, mixed scripts; 4, confusables are not looked up).
"""

import re
import unicodedata
from functools import lru_cache

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Letters and marks of other categories that show nothing: fillers, variation selectors, an empty Braille cell.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Chinese, Japanese and Korean writing stands beside Latin in one word, and resembles none of its letters.
_EAST = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "KATAKANA-HIRAGANA"})
_WIDTHS = frozenset({"FULLWIDTH", "HALFWIDTH", "MODIFIER", "FEMININE", "MASCULINE"})
_SIGNS = frozenset({"MICRO", "OHM", "KELVIN", "ANGSTROM"})
_MARKS = re.compile(r"(?:^|(?<=Z))M|(?<=MMM)M")  # over the kinds of a name's characters
_WORD = re.compile(r"[^\W\d_]+")
_PART = re.compile(r"[^\W\d_]+|.", re.DOTALL)


def refuse_text(text: str) -> str:
    """Return why a text would be read otherwise than it is written, "" when it would not."""
    for letter in text:
        if hides(letter):
            return f"it holds {_name(letter)}, which nobody sees"
    for word in _WORD.findall(text):
        scripts = {script for letter in word if (script := _script(letter))}
        if len(scripts) > 1:
            return f"a word of it mixes {' and '.join(sorted(scripts))} letters, which pass for each other"
    return ""


def refuse_name(name: str) -> str:
    """Return why a name could pass for another that reads the same: by its spaces, or by marks on its letters; "" when not.

    Agencies and accounts are told apart by their names' bytes, and people see letters (UAX 15: composed, NFC).
    """
    if refused := refuse_text(name):
        return refused
    if name != unicodedata.normalize("NFC", name):
        return "its letters are not in the composed form (NFC)"
    if name and name.split() != name.split(" "):
        return "its spaces are not one plain space each, between words"
    if (found := _MARKS.search(_kinds(name))) is not None:
        return f"it holds {_name(name[found.start()])}, a mark on no letter or on too many marks"
    strange = next((letter for letter in name if unicodedata.category(letter) in ("Co", "Cn")), None)
    return "" if strange is None else f"it holds {_name(strange)}, which no font need show"


def _kinds(name: str) -> str:
    """Return the first letter of each character's category: M for marks, Z for spaces."""
    return "".join(unicodedata.category(letter)[0] for letter in name)


def spell_out(text: str, keep: str = "") -> str:
    """Return the text with what `refuse_text` refuses written as an escape (\\u202e); `keep` stays as it is.

    In a word of mixed letters those that are neither Latin nor Chinese are spelled out.
    """
    if text.isascii() and text.isprintable():
        return text
    return _PART.sub(lambda match: _spell_part(match[0], keep), text)


@lru_cache(maxsize=8192)
def hides(letter: str) -> bool:
    """Tell whether a letter shows nothing of its own: it controls, turns or breaks the line, or fills."""
    return unicodedata.category(letter) in UNSEEN or _BLANK.fullmatch(letter) is not None


def _spell_part(part: str, keep: str) -> str:
    mixed = len({script for letter in part if (script := _script(letter))}) > 1
    return "".join(
        _escape(letter)
        if (hides(letter) and letter not in keep) or (mixed and _script(letter) not in ("", "LATIN"))
        else letter
        for letter in part
    )


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    """Return the script a letter belongs to by its name; "" for what stands beside any."""
    words = unicodedata.name(letter, "UNNAMED").split(" ")
    script = words[1] if words[0] in _WIDTHS and len(words) > 1 else words[0]
    return "" if script in _EAST or script in _SIGNS or not letter.isalpha() else script


def _name(letter: str) -> str:
    return f"U+{ord(letter):04X}"


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
