"""Bounded fuzzing: whatever bytes come, the parsers answer with a value or an EmdiError."""

import base64
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import KEY, PARSERS, run
from tests.fuzz.structure import change_structure

ATHERIS_TARGETS = ["note", "policy", "receipt", "envelope", "entry bundle", "zip"]
ATHERIS_RUNS = 1500
DRIVER = Path(__file__).with_name("atheris_driver.py")


def mutations(seed: bytes) -> st.SearchStrategy[bytes]:
    """Cut, overwrite, insert and repeat parts of a good input."""
    place = st.integers(0, len(seed))

    def change(first: int, second: int, insert: bytes, times: int) -> bytes:
        low, high = sorted((first, second))
        return seed[:low] + insert * times + seed[high:]

    spliced = st.builds(change, place, place, st.binary(max_size=8), st.integers(0, 3))
    nearby = st.builds(
        lambda at, insert: seed[:at] + insert + seed[at + len(insert) :],
        place,
        st.binary(min_size=1, max_size=4),
    )
    return spliced | nearby | st.binary(max_size=200)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_emdi_errors_escape(name: str, data: st.DataObject) -> None:
    run(name, data.draw(mutations(PARSERS[name][1])))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PARSERS)
def test_what_keeps_its_form_escapes_no_better(name: str) -> None:
    chance = random.Random(name)
    for _ in range(60):
        data = change_structure(PARSERS[name][1], chance)
        run(name, data)


def test_a_flag_that_ends_beyond_all_time_gives_no_report() -> None:
    """Found by fuzzing: the service may sign any number, and 1e308 ms is no whole number of slices."""
    script = json.loads(PARSERS["sealed log"][1])
    flag = next(data for data in script if "to_ms" in data)
    flag["to_ms"] = 1e308
    run("sealed log", json.dumps(script).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "stn", "ep", "seq", "prev", "p", "bn", "n", "t", "u"]), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from(["envelope", "event"]))
def test_signed_nonsense_is_refused_politely(payload: object, name: str) -> None:
    from emdi.jws import sign_jws

    typ = {"envelope": "emdi-rd+jws", "event": "emdi-ev+jws"}[name]
    run(name, sign_jws(KEY, typ, json.dumps(payload).encode()))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", ATHERIS_TARGETS)
def test_atheris_finds_no_escape(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed here: coverage-guided fuzzing not run")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(PARSERS[name][1])
    command = [sys.executable, str(DRIVER), name, f"-runs={ATHERIS_RUNS}", "-max_total_time=2", "-seed=7"]
    command += [f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=DRIVER.parents[2], timeout=120, check=False
    )
    crashes = [base64.b64encode(path.read_bytes()).decode() for path in tmp_path.glob("crash-*")]
    assert done.returncode == 0, f"input {crashes}\n{done.stderr[-3000:]}"
