"""Make docs/errors.md from the raise statements: `python -m tests.docs.error_page > docs/errors.md`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "Server: HTTP problems, and what its commands and its bench refuse": "service/stackwitness",
    "Format errors (`emdi`): of stations, receipts, bundles; the server answers 400 or 422 with the same code": "clients/python/emdi",
    "Station software and verifier": "clients/python/stackwitness_client",
    "Detectors, forgeries and the bench's plan": "detectors/stackwitness_detectors",
}
CODE = re.compile(r"[a-z_]+\.[a-z0-9_]+")
HEAD = """# Error codes

Every problem has a stable code. The server answers with an `application/problem+json` body (RFC 9457) whose `code` it is; commands print it and
end with a documented exit code. This page is made from the code by `python -m tests.docs.error_page`, and a test compares.
"""


def words(node: ast.expr) -> str:
    """Return a message as written, values of f-strings as {expression}."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(words(v) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.BinOp):
        return words(node.left) + words(node.right)
    return ""


def error_classes() -> set[str]:
    """Return the names of all classes of ours that descend from Exception by name."""
    bases: dict[str, set[str]] = {}
    for path in [p for folder in PACKAGES.values() for p in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                names = {b.id for b in node.bases if isinstance(b, ast.Name)}
                bases.setdefault(node.name, set()).update(names)
    found = {"Exception"}
    while grown := {name for name, above in bases.items() if above & found} - found:
        found |= grown
    return found - {"Exception"}


ERRORS = error_classes()


def codes_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (code, message) of every error made in a file, and of every default of an error class."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name in ERRORS:
            yield from pairs(
                [d for f in node.body if isinstance(f, ast.FunctionDef) for d in f.args.defaults]
            )
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ERRORS:
                yield from pairs(node.args)


def pairs(arguments: list[ast.expr]) -> Iterator[tuple[str, str]]:
    """Yield a code and the message that follows it among the arguments."""
    for position, argument in enumerate(arguments):
        if isinstance(argument, ast.Constant) and CODE.fullmatch(str(argument.value)):
            rest = arguments[position + 1 :]
            yield str(argument.value), words(rest[0]) if rest else ""


def page() -> str:
    """Return the whole page."""
    text = HEAD
    for title, folder in PACKAGES.items():
        found: dict[str, str] = {}
        for path in sorted((ROOT / folder).rglob("*.py")):
            for code, message in codes_in(path):
                if not found.get(code):
                    found[code] = " ".join(message.split()).replace("|", "\\|")
        text += f"\n## {title}\n\n| code | said |\n|---|---|\n"
        text += "".join(f"| `{code}` | {message} |\n" for code, message in sorted(found.items()))
    return text


if __name__ == "__main__":
    print(page(), end="")
