"""Witnesses for a small log: real ones behind real sockets, and some that misbehave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from emdi.note import NoteSigner
from stackwitness import clock
from stackwitness_client.witness.cosigner import Cosigner
from stackwitness_client.witness.memory import WitnessMemory
from stackwitness_client.witness.serving import WitnessServer
from tests.emdi.making import seed
from tests.service.log_support import SmallLog


@contextmanager
def listening(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Crowd:
    """Witnesses by name, and the policy text over them."""

    def __init__(self, small: SmallLog, folder: Path) -> None:
        self.small = small
        self.folder = folder
        self.stack = ExitStack()
        self.witnesses: list[str] = []
        self.memories: dict[str, WitnessMemory] = {}

    def add(self, name: str, *, kind: int = 4) -> WitnessMemory:
        memory = WitnessMemory(self.folder / f"{name}.sqlite")
        memory.add_log(self.small.policy.logs[0].key)
        signer = NoteSigner(f"{name}.example", seed(name), kind)
        cosigner = Cosigner(memory, [signer], now_s=lambda: clock.now_ms() / 1000)
        url = self.stack.enter_context(listening(WitnessServer(("127.0.0.1", 0), cosigner)))
        self.witnesses.append(f"witness {name} {signer.vkey} {url}/")
        self.memories[name] = memory
        return memory

    def add_bad(self, name: str, answer: "Answer") -> None:
        """Add a witness that answers with whatever `answer` writes."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            def log_message(self, *_: object) -> None: ...

        url = self.stack.enter_context(listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)))
        self.witnesses.append(f"witness {name} {NoteSigner(f'{name}.example', seed(name), 4).vkey} {url}")

    def add_away(self, name: str) -> None:
        vkey = NoteSigner(f"{name}.example", seed(name), 4).vkey
        self.witnesses.append(f"witness {name} {vkey} http://127.0.0.1:9")

    def policy_text(self, needed: int) -> str:
        names = " ".join(line.split()[1] for line in self.witnesses)
        lines = [f"log {self.small.vkey}", *self.witnesses, f"group g {needed} {names}", "quorum g"]
        return "\n".join(lines) + "\n"


Answer = Callable[[BaseHTTPRequestHandler], None]
