"""A time-stamp authority that means harm: nothing it sends is kept as a stamp, nothing stops, the other one still stamps."""

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa
import time_machine

from stackwitness import clock
from stackwitness.log.anchored import read_anchors
from stackwitness.log.anchors import Anchors
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.verify.timestamps import have_library
from tests.service.log_support import SmallLog, make_log
from tests.support.tsa import LocalTsa

pytestmark = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: nothing is anchored"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
DAY_S = 86_400
Answer = Callable[[BaseHTTPRequestHandler, bytes, LocalTsa, bytes], None]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def honest(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, tsa.reply(query))


def without_end(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def unfolding(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    import zlib

    send(handler, zlib.compress(bytes(1 << 26)), Content_Encoding="deflate")


def of_another_request(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(
        handler, tsa.stamp(note)
    )  # well made, of the right bytes, with the nonce of somebody else's question


def of_other_bytes(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, tsa.stamp(note + b"?"))


def no_stamp(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, bytes.fromhex("3003020102"))


def cut_off(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, tsa.reply(query)[:-40])


def nonsense(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, b"\x30\x84\xff\xff\xff\xff" + bytes(64))


def elsewhere(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, b"", 302, Location="file:///etc/passwd")


def broken(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    send(handler, tsa.reply(query), 500)


def silent(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    handler.rfile.read(1)  # until the other side gives up


def dripping_headers(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-Wait: a\r\n")
        time.sleep(0.1)


def dripping_body(handler: BaseHTTPRequestHandler, query: bytes, tsa: LocalTsa, note: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    for byte in tsa.reply(query) * 9:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


@contextmanager
def authority(answer: Answer, tsa: LocalTsa, note: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):  # the other side has given up
                answer(self, query, tsa, note)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> LocalTsa:
    return LocalTsa(tmp_path_factory.mktemp("tsa"), "one")


@pytest.fixture
def small(settings: Settings, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> SmallLog:
    monkeypatch.setattr("stackwitness.log.anchors.ANSWER_WITHIN_S", 1.0)
    small = make_log(settings, engine)
    loop = small.start()
    loop.sequence()
    loop.publish()
    return small


def take_round(small: SmallLog, *urls: str) -> tuple[list[int], list[str]]:
    """Return which authorities gave an anchor, and what is warned of."""
    disk = Disk(small.settings.log_dir)
    anchors = Anchors(small.engine, small.service_key, disk, urls, every_ms=DAY_S * 1000)
    made = [anchor.k for anchor in anchors.take_round()]
    return made, [warning.text for warning in anchors.warnings]


def check_only(small: SmallLog, stamps: list[str]) -> None:
    """Nothing but these stamps is on the disk and in the log, and fsck has nothing to say."""
    folder = small.settings.log_dir / "anchors"
    assert sorted(path.name for path in folder.glob("*.tsr")) == stamps
    with small.engine.connect() as conn:
        assert [anchor.file for anchor in read_anchors(conn)] == stamps
    loop = small.start()
    loop.sequence()
    loop.publish()
    assert fsck(small.engine, small.settings.log_dir, small.policy).findings == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (without_end, "too long"),
        (unfolding, ""),
        (of_another_request, "answers another request"),
        (of_other_bytes, "of other bytes"),
        (no_stamp, ""),
        (cut_off, "not a time-stamp response"),
        (nonsense, "not a time-stamp response"),
        (elsewhere, "answered 302"),
        (broken, "answered 500"),
        (silent, "too slow"),
        (dripping_headers, "too slow"),
        (dripping_body, "too slow"),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_what_it_answers_is_refused_and_the_other_stamps(
    small: SmallLog, tsa: LocalTsa, answer: Answer, says: str
) -> None:
    note = small.reader.checkpoint()
    with authority(answer, tsa, note) as hostile, authority(honest, tsa, note) as other:
        made, warned = take_round(small, hostile, other)
    assert made == [1]
    assert len(warned) == 1
    assert says in warned[0]
    check_only(small, ["1.1.tsr"])


@pytest.mark.parametrize("shift_s", [-DAY_S, -120, 120, DAY_S])
def test_a_stamp_of_another_time_is_refused(small: SmallLog, tsa: LocalTsa, shift_s: int) -> None:
    """Our clock is right and the authority's is not, or the other way round: either way somebody must look."""
    with (
        authority(honest, tsa, b"") as url,
        time_machine.travel(clock.now_ms() / 1000 + shift_s, tick=True),
    ):
        made, warned = take_round(small, url)
    assert made == []
    assert "not of now" in warned[0]
    check_only(small, [])


def test_nobody_there_and_a_port_that_hangs(small: SmallLog) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        made, warned = take_round(small, f"http://127.0.0.1:{port}/", "http://127.0.0.1:9/", "x://y", "")
    assert (made, len(warned)) == ([], 4)
    check_only(small, [])
