"""A rebuild reads the published log by a server's address or by its log's."""

import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stackwitness.log.rebuild.source import _fetcher


@pytest.mark.parametrize("suffix", ["", "/", "/log", "/log/"])
def test_both_addresses_are_taken(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log/checkpoint").write_bytes(b"note")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with ExitStack() as stack:
            read = _fetcher(f"http://127.0.0.1:{server.server_port}{suffix}", stack, None)
            assert read("checkpoint") == b"note"
            with pytest.raises(FileNotFoundError):
                read("tile/0/000")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
