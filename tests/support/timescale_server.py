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
from pathlib import Path

from stackwitness.settings import Settings
from tests.support.database import TEST_URL

TESTS = ["-p", "no:xdist", "-rs", "--timeout", "60", "tests/service", "tests/security"]


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
    """Start the server and run pytest against it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(["node", "serve.mjs", str(port)], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not server.stdout.readline().startswith("ready"):
            print("the TimescaleDB test server did not start", flush=True)
            return 1
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&prepare_threshold=none"
        environment = {**os.environ, TEST_URL: url}
        return subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS], env=environment, check=False
        ).returncode
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
