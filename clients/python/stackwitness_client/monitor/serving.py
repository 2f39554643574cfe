"""Serve the mirror read-only, by the paths of the log itself, with the alarms and figures beside it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from emdi.entry import parse_entry
from emdi.errors import EmdiError
from emdi.proof_file import EXIT_CODES
from stackwitness_client.monitor.loop import SERVED_POLICY, SUCCESSOR, Monitor
from stackwitness_client.monitor.mirror import CHECKPOINT, servable
from stackwitness_client.monitor.sync import entry_at

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"
FOREVER = "public, max-age=31536000, immutable"
NEVER = "no-cache"
Answer = tuple[bytes, str, str]


@contextmanager
def serving(monitor: Monitor, port: int, address: str = "127.0.0.1") -> Iterator[int]:
    """Serve from threads until the block ends; yield the port (the one given, or a free one for 0)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "stackwitness-monitor"
        timeout = 30

        def do_GET(self) -> None:
            """Answer one request with a file, or 404."""
            try:
                body, kind, keep = answer(monitor, self.path)
                self.send_response(200)
            except (FileNotFoundError, EmdiError):
                body, kind, keep = b"there is no such file\n", TEXT, NEVER
                self.send_response(404)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", keep)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: stdout is for alarms."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(monitor: Monitor, path: str) -> Answer:
    """Return body, content type and cache rule of a path; raise FileNotFoundError, or EmdiError for a bad one.

    What stands below /successor is the same of the log that follows this one.
    """
    if path.startswith(f"/{SUCCESSOR}/") and (successor := monitor.successor) is not None:
        return answer(successor, path.removeprefix(f"/{SUCCESSOR}"))
    if path == "/metrics":
        return metrics(monitor).encode(), TEXT, NEVER
    if path == "/alarms":
        return monitor.alarms.summary().encode(), JSON, NEVER
    name = path.removeprefix("/log/")
    if name == path:
        raise FileNotFoundError(path)
    if name == "genesis":
        return parse_entry(entry_at(monitor.mirror, 0)).body, JSON, FOREVER
    if name == "policy":
        return (monitor.home / SERVED_POLICY).read_bytes(), TEXT, NEVER
    if not servable(name):
        raise FileNotFoundError(path)
    data = (monitor.mirror.root / name).read_bytes()
    return (data, TEXT, NEVER) if name == CHECKPOINT else (data, BYTES, FOREVER)


def metrics(monitor: Monitor) -> str:
    """Return the figures in Prometheus' text form."""
    turn, standing = monitor.last, [alarm.type for alarm in monitor.alarms.standing()]
    lines = [
        "# TYPE stackwitness_monitor_log_size gauge",
        f"stackwitness_monitor_log_size {turn.size}",
        "# TYPE stackwitness_monitor_exit_code gauge",
        f"stackwitness_monitor_exit_code {turn.exit_code}",
        "# TYPE stackwitness_monitor_turn_time_seconds gauge",
        f"stackwitness_monitor_turn_time_seconds {turn.ended_ms / 1000:.3f}",
        "# TYPE stackwitness_monitor_alarms gauge",
    ]
    lines += [f'stackwitness_monitor_alarms{{type="{kind}"}} {standing.count(kind)}' for kind in EXIT_CODES]
    return "\n".join(lines) + "\n"
