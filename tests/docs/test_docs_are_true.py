"""The docs say what the code does: names resolve, settings and error codes are listed, commands exist."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("emdi", "stackwitness", "stackwitness_client", "stackwitness_detectors")
DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_][A-Za-z0-9_]*)+)(?:\(.*?\))?`")


def resolve(dotted: str) -> object:
    """Import the longest module prefix of `dotted` and walk the rest as attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


def pages() -> list[Path]:
    return sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_every_dotted_name_in_the_docs_exists(page: Path) -> None:
    for dotted in set(DOTTED.findall(page.read_text())):
        resolve(dotted)


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_make_target_named_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in pages():
        named = set(re.findall(r"`make ([a-z-]+)`", page.read_text()))
        assert named <= targets, (page.name, named - targets)


def test_every_setting_is_documented() -> None:
    from stackwitness.settings import Settings

    page = (ROOT / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"`STACKWITNESS_{name.upper()}`" not in page]
    assert not missing


def test_the_error_page_is_made_from_the_code() -> None:
    from tests.docs.error_page import page

    assert (ROOT / "docs" / "errors.md").read_text() == page(), (
        "run: python -m tests.docs.error_page > docs/errors.md"
    )


def test_no_code_that_is_raised_is_left_off_the_error_page() -> None:
    """Whatever class it is raised with: a package whose errors nobody listed would drop out unseen."""
    listed = set(re.findall(r"^\| `([a-z_.0-9]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.M))
    for folder in ("service", "clients/python", "detectors"):
        for path in (ROOT / folder).rglob("*.py"):
            raised = set(re.findall(r'raise \w+\(\s*"([a-z_]+\.[a-z0-9_]+)"', path.read_text()))
            assert raised <= listed, (path.name, raised - listed)


def test_every_command_named_in_the_readme_answers_help() -> None:
    """Each installed program in a process of its own, and what stands after its name in the same program here."""
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\.venv/bin/(stackwitness(?:-[a-z]+)?(?: [a-z]+)?)", readme))
    assert len(named) > 5
    for program in {command.split()[0] for command in named}:
        path = Path(sys.executable).parent / program
        done = subprocess.run([str(path), "--help"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (program, done.stderr)
    from stackwitness.cli import app

    for command in sorted(command for command in named if command.startswith("stackwitness ")):
        told = CliRunner().invoke(app, [*command.split()[1:], "--help"])
        assert told.exit_code == 0, (command, told.output)


def test_files_and_functions_stay_small() -> None:
    import ast

    long: list[str] = []
    for folder in ("clients", "detectors", "service", "tests", "migrations"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            if text.count("\n") > 400:
                long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                    length = node.end_lineno - node.lineno + 1
                    if length > 60 and folder != "tests":
                        long.append(f"{path.relative_to(ROOT)}:{node.name}: {length} lines")
    assert not long


def test_constraints_hold_no_addresses() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text


def test_entry_points_are_the_fixed_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["scripts"]) == {
        "stackwitness",
        "stackwitness-station",
        "stackwitness-monitor",
        "stackwitness-verify",
        "stackwitness-witness",
    }
