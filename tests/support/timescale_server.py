"""Run the service's tests on a real TimescaleDB without Docker (PGlite behind a wire server).

The server is not ours and not part of the project: STACKWITNESS_TIMESCALE names its folder, which is copied
to a temporary one. One backend serves everybody: tests that need concurrency stay with the
embedded PostgreSQL.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackwitness.settings import Settings
from tests.support.database import TEST_URL

ROOMS = ("tests/service", "tests/security")
FILES_A_SERVER = 7
OPTIONS = ["-p", "no:xdist", "-q", "--no-header", "-rs", "--timeout", "120"]
NOTHING_COLLECTED = 5  # pytest's exit code when an option of the caller deselected all of a part


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
    with tempfile.TemporaryDirectory(prefix="stackwitness-timescale-") as folder:
        for name in ("serve.mjs", "package.json"):
            shutil.copyfile(source / name, Path(folder) / name)
        print("setting up: npm install of the TimescaleDB test server", flush=True)
        options = ["--no-audit", "--no-fund", "--omit-lockfile-registry-resolved=true", "--loglevel=error"]
        if subprocess.run(["npm", "install", *options], cwd=folder, check=False).returncode != 0:
            return skip("npm install failed (no network?)")
        return run_tests(Path(folder))


def run_tests(folder: Path) -> int:
    """Run the test files by sevens, each seven against a server of its own; return the worst exit code.

    A test that times out leaves the one backend in whatever it was doing: the files after the next start are spared.
    """
    files = sorted(str(file) for room in ROOMS for file in Path(room).glob("test_*.py"))
    worst = 0
    for first in range(0, len(files), FILES_A_SERVER):
        part = files[first : first + FILES_A_SERVER]
        print(f"files {first + 1}-{first + len(part)} of {len(files)}", flush=True)
        with open_server(folder) as url:
            options = [*OPTIONS, *sys.argv[1:], *part]
            environment = {**os.environ, TEST_URL: url}
            done = subprocess.run([sys.executable, "-m", "pytest", *options], env=environment, check=False)
        worst = max(worst, 0 if done.returncode == NOTHING_COLLECTED else done.returncode)
    return worst


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
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&prepare_threshold=none"
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
