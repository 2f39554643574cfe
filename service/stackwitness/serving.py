"""Serve the API with uvicorn."""

import ctypes
import gc
import sys

import uvicorn

from stackwitness.app import create_app
from stackwitness.wiring import Wiring

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
