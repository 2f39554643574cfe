"""Fuzz every parser for long: `python -m tests.fuzz.many [--runs 100000] [NAME ...]`; exit 1 when anything escapes.

Each parser meets that many mutations of the bytes of a good input, as many that keep its form, both from a fixed seed, and where
atheris is installed as many again of both sorts that it guides by coverage.
"""

import argparse
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.parsers import PARSERS, run
from tests.fuzz.structure import change_structure

DRIVER = Path(__file__).with_name("atheris_driver.py")


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """Return the input with one to four pieces cut, overwritten, repeated or inserted."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randint(0, len(data)) for _ in range(2))
        end = min(end, at + chance.choice((0, 1, 2, 8, 64)))
        piece = bytes(data[at:end]) * chance.randint(0, 3) + chance.randbytes(chance.choice((0, 0, 1, 2, 8)))
        data[at:end] = piece
    return bytes(data)


def fuzz_plainly(name: str, runs: int, change: Callable[[bytes, random.Random], bytes]) -> str:
    """Return what escaped, empty when nothing did."""
    chance = random.Random(name)
    for _ in range(runs):
        data = change(PARSERS[name][1], chance)
        try:
            run(name, data)
        except Exception as error:
            return f"{type(error).__name__}: {error}; input {data!r}"
    return ""


def fuzz_guided(name: str, runs: int) -> str:
    """Return the tail of libFuzzer's report when something escaped."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        (corpus / "seed").write_bytes(PARSERS[name][1])
        command = [
            sys.executable,
            str(DRIVER),
            name,
            f"-runs={runs}",
            "-seed=7",
            f"-artifact_prefix={folder}/",
        ]
        done = subprocess.run(
            [*command, str(corpus)], capture_output=True, text=True, cwd=DRIVER.parents[2], check=False
        )
        return done.stderr[-2000:] if done.returncode else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz and print a line for each parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args(argv)
    guided = importlib.util.find_spec("atheris") is not None
    escaped = 0
    for name in arguments.names or PARSERS:
        runs, started = arguments.runs, time.monotonic()
        found = fuzz_plainly(name, runs, mutate) or fuzz_plainly(name, runs, change_structure)
        found = found or (fuzz_guided(name, runs) if guided else "")
        escaped += bool(found)
        verdict = f"ESCAPED\n{found}" if found else "only EmdiError"
        print(
            f"{name:14} {runs * (2 + guided):>9,} cases  {time.monotonic() - started:6.1f} s  {verdict}",
            flush=True,
        )
    print(
        f"{'a third of them guided by coverage' if guided else 'no atheris here'}; {escaped} parsers with an escape"
    )
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
