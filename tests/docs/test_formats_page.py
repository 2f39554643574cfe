"""docs/formats.md is whole: every vector file, kind of event, member of a bundle and type of proof file stands in it."""

import ast
import re
from pathlib import Path

from emdi.layout import MEMBERS, OPTIONAL
from emdi.proof_file import EXIT_CODES
from stackwitness.log.fsck.records import MAKERS
from tests.conformance.make_exports import bundle_files
from tests.conformance.make_vectors import FILES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
CODED = set(re.findall(r"`([^`\n]+)`", PAGE))


def event_types() -> set[str]:
    """Return what the service writes as `typ` of events."""
    found = set(MAKERS)
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "typ" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found


def test_every_vector_file_is_named_once_at_its_section_and_in_the_list() -> None:
    listed = PAGE.partition("## 11 ")[2]
    for name in [*FILES, *bundle_files()]:
        assert f"`{name}`" in listed, name
    named = " ".join(re.findall(r"\*\(vectors?:([^)]*)\)\*", PAGE, re.DOTALL))
    assert {name for name in FILES if not re.search(rf"\b{name}\b", named)} == set()


def test_every_event_has_its_line() -> None:
    assert event_types() - CODED == set()


def test_every_member_and_every_proof_has_its_line() -> None:
    assert {name for name in MEMBERS | OPTIONAL if name not in CODED} == set()
    for kind, code in EXIT_CODES.items():
        assert re.search(rf"`{kind}`[^|]*\({code}\)", PAGE), kind
