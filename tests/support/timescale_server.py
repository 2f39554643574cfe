"""Run the service's database tests on a real TimescaleDB without Docker (PGlite behind a wire server).

    python -m tests.support.timescale_server [FILE...] [-k WORD] [any option of pytest]

The server is not ours and not part of the project: STACKWITNESS_TIMESCALE names its folder, which is copied
to a temporary one. One backend serves everybody: tests that need concurrency stay with the
embedded PostgreSQL. What is left out, and why: NOT_ON_ONE_BACKEND in tests/support/database.py.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from stackwitness.settings import Settings
from tests.support.database import TEST_URL
from tests.support.outcomes import OUTCOMES

ROOMS = ("tests/service", "tests/security")
FILES_A_SERVER = 7
OPTIONS = [
    "-p",
    "no:xdist",
    "-p",
    "tests.support.outcomes",
    "-q",
    "--no-header",
    "--tb=short",
    "--timeout",
    "120",
]
NOTHING_COLLECTED = 5  # pytest's exit code when nothing of a part uses the database
INTERRUPTED = 130
SAY_EVERY_CHANGE = """
BEGIN; SET LOCAL allow_system_table_mods = on;
UPDATE pg_class SET relacl = relacl WHERE relacl IS NOT NULL; COMMIT
"""


def skip(reason: str) -> int:
    """Say why nothing was tested."""
    print(f"SKIPPED test-timescale: {reason}", flush=True)
    return 0


def main() -> int:
    """Install the server, start it, run the tests, stop it; return pytest's exit code."""
    source = Settings().timescale
    if not (source / "serve.mjs").is_file():
        return skip(f"no serve.mjs in {source} (set STACKWITNESS_TIMESCALE)")
    if shutil.which("node") is None or shutil.which("npm") is None:
        return skip("node and npm are not installed")
    files = [name for name in sys.argv[1:] if name.endswith(".py")]
    options = [name for name in sys.argv[1:] if name not in files]
    with tempfile.TemporaryDirectory(prefix="stackwitness-timescale-") as folder:
        for name in ("serve.mjs", "package.json"):
            shutil.copyfile(source / name, Path(folder) / name)
        print("setting up: npm install of the TimescaleDB test server", flush=True)
        install = ["--no-audit", "--no-fund", "--omit-lockfile-registry-resolved=true", "--loglevel=error"]
        if subprocess.run(["npm", "install", *install], cwd=folder, check=False).returncode != 0:
            return skip("npm install failed (no network?)")
        every = sorted(str(file) for room in ROOMS for file in Path(room).glob("test_*.py"))
        return run_tests(Path(folder), files or every, options)


def run_tests(folder: Path, files: list[str], options: list[str]) -> int:
    """Run the test files by sevens, each seven against a server of its own; return the worst exit code.

    A test that times out leaves the one backend in whatever it was doing: the files after the next start are spared.
    """
    started, worst = time.monotonic(), 0
    outcomes = folder / "outcomes"
    outcomes.touch()
    try:
        for first in range(0, len(files), FILES_A_SERVER):
            part = files[first : first + FILES_A_SERVER]
            print(f"files {first + 1}-{first + len(part)} of {len(files)}", flush=True)
            with open_server(folder) as url:
                environment = {**os.environ, TEST_URL: url, OUTCOMES: str(outcomes)}
                command = [sys.executable, "-m", "pytest", *OPTIONS, *options, *part]
                done = subprocess.run(command, env=environment, check=False)
            worst = max(worst, 0 if done.returncode == NOTHING_COLLECTED else done.returncode)
    except KeyboardInterrupt:
        worst = INTERRUPTED  # what ran is summed up all the same
    lines = summarize([json.loads(line) for line in outcomes.read_text(encoding="utf-8").splitlines()])
    minutes = (time.monotonic() - started) / 60
    print("\n".join([f"test-timescale: {minutes:.0f} min, exit code {worst}", *lines]), flush=True)
    return worst


def summarize(outcomes: list[list[str]]) -> list[str]:
    """Return the lines of the summary from [outcome, test's id, why skipped]: a test that failed twice is one."""
    failed = sorted({name for outcome, name, _ in outcomes if outcome == "failed"})
    passed = {name for outcome, name, _ in outcomes if outcome == "passed"} - set(failed)
    skipped = Counter({name: why for outcome, name, why in outcomes if outcome == "skipped"}.values())
    unasked = sum(outcome == "deselected" for outcome, _, _ in outcomes)
    return [
        f"{len(passed):5} passed",
        f"{len(failed):5} failed",
        *(f"      {name}" for name in failed),
        f"{skipped.total():5} skipped",
        *(f"{count:11} {why}" for why, count in skipped.most_common()),
        f"{unasked:5} not asked: they use no database of the server's",
    ]


@contextmanager
def open_server(folder: Path) -> Iterator[str]:
    """Start the server on a free port and give its address; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(["node", "serve.mjs", str(port)], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not server.stdout.readline().startswith("ready"):
            raise RuntimeError("the TimescaleDB test server did not start")
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        # Its backend is the one that made the cluster, and remembers rights from before all were given.
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(SAY_EVERY_CHANGE)
        yield f"{url}&prepare_threshold=none"
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
