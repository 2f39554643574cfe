"""Serve the API with uvicorn."""

import ctypes
import gc
import sys

if __name__ == "__main__":
    # structlog draws tracebacks with rich where it finds it: 5 MB, in a process that logs plain lines.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

import uvicorn

from stackwitness.app import create_app
from stackwitness.settings import Settings
from stackwitness.telemetry import configure_logging
from stackwitness.wiring import Wiring, wire

STOP_WITHIN_S = 5
# Parameters of glibc's mallopt(3), and the size from which memory comes from the system and goes back at once.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 262_144


def run_serve(wiring: Wiring) -> None:
    """Serve until SIGINT or SIGTERM; open requests get some seconds to end."""
    app = create_app(wiring)
    stay_small()
    uvicorn.run(
        app,
        host=wiring.settings.host,
        port=wiring.settings.port or 0,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )


def stay_small() -> None:
    """Give memory back: what start-up left behind now, request bodies and COPY streams as they are freed.

    Without this glibc learns from the first large body to keep all of that size for later.
    """
    gc.collect()
    # What is alive now stays: later collections need not look at it again.
    gc.freeze()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc; others have nothing to learn
            libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
            libc.mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)
            libc.malloc_trim(0)


def main() -> None:
    """Serve as `up` wants it: settings from the environment alone, without the command line's libraries (5 MB)."""
    settings = Settings()
    configure_logging(as_json=settings.log_json)
    wiring = wire(settings)
    try:
        run_serve(wiring)
    finally:
        wiring.engine.dispose()


if __name__ == "__main__":
    main()
