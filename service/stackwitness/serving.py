"""Serve the API with uvicorn."""

import uvicorn

from stackwitness.app import create_app
from stackwitness.settings import Settings
from stackwitness.wiring import wire

STOP_WITHIN_S = 5


def run_serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; open requests get some seconds to end."""
    wiring = wire(settings)
    try:
        uvicorn.run(
            create_app(wiring),
            host=settings.host,
            port=settings.port or 0,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
    finally:
        wiring.engine.dispose()
