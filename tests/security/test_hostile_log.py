"""A log that means harm to whoever watches it: endless, enormous, compressed, misshapen or misleading answers."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from emdi.policy import parse_policy
from emdi.units import format_at
from stackwitness_client import http
from stackwitness_client.errors import ServerUnreachable
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.loop import Monitor, Turn
from stackwitness_client.monitor_cli import _tell
from tests.client.test_monitor import Watch, watch
from tests.emdi.making import START_MS

__all__ = ["watch"]
Answer = Callable[[str], bytes]
NO_ROWS = b'{"rows": [], "next": null}'
NO_FLAGS = b'{"flags": [], "next": null}'


@dataclass
class Liar:
    """Serves a true log, and whatever a test wants below /v1."""

    watch: Watch
    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def look(self) -> Turn:
        link = ServerLink(self.url)
        policy = parse_policy(self.watch.site.policy)
        monitor = Monitor(self.watch.home, link, policy, api=True, now_ms=lambda: self.watch.now_ms)
        try:
            return monitor.turn()
        finally:
            monitor.close()
            link.close()


@pytest.fixture
def liar(watch: Watch) -> Iterator[Liar]:
    made = Liar(watch)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            file = Path(watch.site.folder, path.lstrip("/"))
            answer = made.answers.get(path)
            body = answer(self.path) if answer else file.read_bytes() if file.is_file() else None
            self.send_response(404 if body is None else 200)
            for name, value in (made.headers if answer else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    made.answers = {
        "/v1/readings": lambda path: NO_ROWS,
        "/v1/flags": lambda path: NO_FLAGS,
        "/v1/catalog": lambda path: b'{"lines": []}',
    }
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def row(**changes: Any) -> bytes:
    one = {"channel": "nox-0", "at": format_at(START_MS), "value": 1.0, "status": "N", "revisions": 0}
    return json.dumps({"rows": [{**one, **changes}], "next": None}).encode()


def flag(**changes: Any) -> bytes:
    names = (
        "flag_id", "stn", "detector", "detector_version", "kind", "verdict", "event_id", "text_en", "text_zh",
    )  # fmt: skip
    one: dict[str, Any] = dict.fromkeys(names, "x") | {"channels": [], "decision": None, "lapsed": None}
    one |= dict.fromkeys(("from_at", "to_at", "raised_at"), format_at(START_MS))
    return json.dumps({"flags": [{**one, **changes}], "next": None}).encode()


MISSHAPEN: dict[str, tuple[str, bytes]] = {
    "a list": ("/v1/readings", b"[]"),
    "revisions a text": ("/v1/readings", row(revisions="many")),
    "a value that is a list": ("/v1/readings", row(value=[1])),
    "a value beyond all doubles": ("/v1/readings", row(value=10**400)),
    "not a number": ("/v1/readings", b'{"rows": [{"value": NaN}], "next": null}'),
    "a lone surrogate": ("/v1/readings", row(status="\ud800")),
    "a status of a megabyte": ("/v1/readings", row(status="x" * 1_000_000)),
    "a channel that is an object": ("/v1/readings", row(channel={})),
    "a time before all time": ("/v1/readings", row(at="0001-01-01T00:00:00")),
    "nested without end": ("/v1/readings", b"[" * 1_000_000),
    "a flag without members": ("/v1/flags", b'{"flags": [{}], "next": null}'),
    "a flag's id an object": ("/v1/flags", flag(flag_id={})),
    "a flag's text of a megabyte": ("/v1/flags", flag(text_en="x" * 1_000_000)),
    "channels of nothing": ("/v1/flags", flag(channels=None)),
    "a lapse that is a text": ("/v1/flags", flag(lapsed="x")),
    "a lapse without an event": ("/v1/flags", flag(lapsed={"event_id": 7})),
    "a catalog of numbers": ("/v1/catalog", b"7"),
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_a_misshapen_answer_is_said_and_stops_nothing(liar: Liar, name: str) -> None:
    path, body = MISSHAPEN[name]
    liar.watch.event("database", "catalog.baseline", {"revision": "7", "sha256": "ab", "lines": 1})
    liar.watch.publish()
    liar.answers[path] = lambda asked: body
    turn = liar.look()
    assert turn.exit_code in (1, 3)
    assert any("not reached" in note for note in turn.notes), turn.notes
    # The next turn, over honest answers, is not held up by what the last one was told.
    liar.answers[path] = lambda asked: NO_FLAGS if path == "/v1/flags" else NO_ROWS
    assert not any("mirror is damaged" in note for note in liar.look().notes)


@pytest.mark.parametrize("path", ["/v1/readings", "/v1/flags"])
def test_pages_without_end_are_cut_off(liar: Liar, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackwitness_client.monitor.flags.MOST_AHEAD", 5000)
    asked = count()

    def more(asked_path: str) -> bytes:
        n = next(asked)
        page = json.loads(NO_FLAGS if path == "/v1/flags" else NO_ROWS)
        return json.dumps(page | {"next": f"{n}.0"}).encode()

    liar.answers[path] = more
    turn = liar.look()
    assert turn.exit_code in (1, 3)
    assert next(asked) < 2000


def test_an_enormous_answer_is_cut_off(liar: Liar) -> None:
    liar.answers["/v1/readings"] = lambda path: b" " * (1 << 24) + NO_ROWS
    link = ServerLink(liar.url)
    with pytest.raises(ServerUnreachable, match="longer than"):
        link.ask("GET", "/v1/readings", max_bytes=1 << 20)
    link.close()


def test_a_compressed_answer_is_not_unfolded(liar: Liar) -> None:
    liar.headers["Content-Encoding"] = "gzip"
    liar.answers["/v1/readings"] = lambda path: gzip.compress(b" " * (1 << 26))
    link = ServerLink(liar.url)
    with pytest.raises(ServerUnreachable, match="compressed"):
        link.ask("GET", "/v1/readings")
    link.close()


def test_a_slow_answer_is_given_up(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_WITHIN_S", -1.0)
    link = ServerLink(liar.url)
    with pytest.raises(ServerUnreachable, match="too long"):
        link.ask("GET", "/v1/readings")
    link.close()


def test_alarms_do_not_steer_the_terminal(liar: Liar, capsys: pytest.CaptureFixture[str]) -> None:
    liar.answers["/v1/readings"] = lambda path: row(status="\x1b[2J\rok")
    turn = liar.look()
    _tell(turn, "")
    said = capsys.readouterr().out
    assert "value" in said
    assert "\x1b" not in said
    assert "\r" not in said


def test_times_beyond_all_calendars_are_told_and_stop_nobody(watch: Watch) -> None:
    """The time of receipt is the server's word: a u64; an event's and a device's clock go up to 2^53."""
    watch.envelope(recv_ms=2**63 - 1)
    watch.envelope(iat_ms=2**53 - 1)
    watch.event("log", "head.daily", {"as_of": 3, "lines": 1, "root_b64u": "AA"}, ts_ms=2**53 - 1)
    watch.publish()
    turn = watch.look()
    assert turn.exit_code == 1
    assert {"back-dated", "iat"} <= set(watch.alarms())
    assert watch.check("iat").proven


def test_an_event_with_numbers_no_column_holds_is_malformed(watch: Watch) -> None:
    """A thief of the service's key signs what would stop the monitor at this entry for ever."""
    watch.event("log", "head.daily", {"as_of": 1e30, "lines": 1, "root_b64u": "AA"})
    watch.publish()
    turn = watch.look()
    assert "malformed" in watch.alarms()
    assert turn.size == len(watch.log.entries)
    assert watch.look().entries == 0
