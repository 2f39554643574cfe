"""Serve the API with uvicorn."""

import uvicorn

from stackwitness.app import create_app
from stackwitness.wiring import Wiring

STOP_WITHIN_S = 5


def run_serve(wiring: Wiring) -> None:
    """Serve until SIGINT or SIGTERM; open requests get some seconds to end."""
    uvicorn.run(
        create_app(wiring),
        host=wiring.settings.host,
        port=wiring.settings.port or 0,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
