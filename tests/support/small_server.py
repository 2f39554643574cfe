"""A small real HTTP server that speaks the station's side of the API and can be told to misbehave.

It checks envelopes and keeps a real Merkle log with signed checkpoints, all in memory. Client tests use it
for what the whole service must never do: forget, fork, answer nonsense.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from emdi.chain import StationHead, check_next
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_decode, b64u_encode
from emdi.entry import KIND_READING, encode_entry
from emdi.envelope import Envelope, parse_envelope, verify_signature
from emdi.errors import ChainError, EmdiError
from emdi.event import verify_key_proof, verify_succession
from emdi.keys import PublicKey
from emdi.merkle import inclusion_path, leaf_hash, root_of
from emdi.note import NoteSigner, sign_note
from emdi.policy import Policy, parse_policy
from emdi.receipt import Receipt, format_receipt
from emdi.tiles import parse_tile_path

DAY_MS = 86_400_000
ORIGIN = "small.example/log"
SIGNER = NoteSigner(ORIGIN, hashlib.sha256(b"the small server's log key").digest())
POLICY_TEXT = f"log {SIGNER.vkey}\nquorum none\n"
Fault = Callable[["Exchange"], bool]


def policy() -> Policy:
    """Return the policy that pins the small server's log."""
    return parse_policy(POLICY_TEXT)


@dataclass
class Exchange:
    """One request being answered."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    handler: BaseHTTPRequestHandler

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send bytes as they are, everything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        for name, value in (headers or {}).items():
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def problem(self, status: int, code: str, **extra: Any) -> None:
        """Send a problem."""
        self.answer(status, {"status": status, "code": code, "title": code, **extra})


@dataclass
class SmallServer:
    """Hold stations, envelopes and log; `faults` are asked first, in order, and leave when they say True."""

    url: str = ""
    entries: list[bytes] = field(default_factory=lambda: [b"genesis"])
    index_of: dict[bytes, int] = field(default_factory=dict)
    chains: dict[str, list[Envelope]] = field(default_factory=dict)
    stations: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    keys: dict[str, tuple[str, PublicKey]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    publishing: bool = True
    witnesses: list[NoteSigner] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # What a fault may change --------------------------------------------------------------------------
    def checkpoint(self, entries: list[bytes] | None = None, signer: NoteSigner = SIGNER) -> bytes:
        """Return a signed checkpoint of the given entries (default: the log's)."""
        leaves = [leaf_hash(entry) for entry in (entries if entries is not None else self.entries)]
        text = Checkpoint(ORIGIN, len(leaves), root_of(leaves)).text()
        return sign_note(text, signer) + b"".join(
            w.cosign(text, 1_700_000_000).encode() for w in self.witnesses
        )

    def receipt(
        self, env_id: bytes, entries: list[bytes] | None = None, signer: NoteSigner = SIGNER
    ) -> bytes | None:
        """Return the receipt of an envelope in the given entries."""
        entries = self.entries if entries is None else entries
        index = self.index_of.get(env_id)
        if index is None or index >= len(entries) or not self.publishing:
            return None
        path = tuple(inclusion_path([leaf_hash(entry) for entry in entries], index))
        return format_receipt(Receipt(entries[index][:13], index, path, self.checkpoint(entries, signer)))

    def readings(self, stn: str) -> int:
        """Count the readings stored of a station."""
        return sum(len(envelope.records) for envelope in self.chains.get(stn, []))

    # Requests -----------------------------------------------------------------------------------------
    def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        with self.lock:
            self.seen.append((exchange.method, exchange.path))
            for fault in list(self.faults):
                if fault(exchange):
                    self.faults.remove(fault)
                    return
            self._route(exchange)

    def _route(self, x: Exchange) -> None:
        parts = [unquote(part) for part in x.path.strip("/").split("/")]
        match (x.method, *parts):
            case ("POST", "v1", "envelopes"):
                self._take(x)
            case ("POST", "v1", "receipts"):
                asked = [bytes.fromhex(env_id) for env_id in json.loads(x.body)["env_ids"]]
                texts = {env_id.hex(): self.receipt(env_id) for env_id in asked}
                x.answer(200, {"receipts": {k: t.decode() if t else None for k, t in texts.items()}})
            case ("GET", "v1", "stations", stn, "head"):
                chain = self.chains.get(stn)
                x.answer(200, head_json(chain[-1])) if chain else x.problem(404, "station.no_head")
            case ("GET", "log", "policy"):
                x.answer(200, POLICY_TEXT.encode())
            case ("GET", "log", "tile", *rest):
                self._tile(x, "/".join(["tile", *rest]))
            case ("POST", "v1", "stations"):
                self._register(x)
            case ("PUT", "v1", "stations", stn, "channels"):
                x.answer(200, self.stations[stn])
            case ("GET", "v1", "stations", stn, "keys"):
                mine = [(kid, key) for kid, (owner, key) in self.keys.items() if owner == stn]
                x.answer(200, {"keys": [self._key_json(kid, key) for kid, key in mine]})
            case ("POST", "v1", "stations", stn, "keys"):
                self._pin(x, stn)
            case ("POST", "v1", "stations", stn, "keys", old, "rotate"):
                self._rotate(x, stn, old)
            case ("GET", "v1", "detection"):
                x.answer(200, {"stations": [{"stn": stn, "lag_h": 0.0} for stn in self.chains]})
            case ("GET", "v1", "readings"):
                self._read(x)
            case ("GET", "v1", "flags"):
                x.answer(200, {"flags": [{"kind": "hold"}], "next": None})
            case _:
                x.problem(404, "route.unknown")

    def _register(self, x: Exchange) -> None:
        form = json.loads(x.body)
        if form["stn"] in self.stations:
            x.problem(409, "station.exists")
            return
        self.stations[form["stn"]] = form
        x.answer(201, form)

    def _pin(self, x: Exchange, stn: str) -> None:
        form = json.loads(x.body)
        if form["kid"] in self.keys:
            x.problem(409, "key.taken")
            return
        self.keys[form["kid"]] = (stn, PublicKey.from_bytes(form["alg"], b64u_decode(form["public_b64u"])))
        x.answer(201, {"keys": []})

    def _rotate(self, x: Exchange, stn: str, old: str) -> None:
        form = json.loads(x.body)
        new, kid = form["new"], form["new"]["kid"]
        key = PublicKey.from_bytes(new["alg"], b64u_decode(new["public_b64u"]))
        if old in self.ended:
            x.problem(409, "key.revoked")
            return
        names = {"stn": stn, "kid": kid, "key": key}
        verify_key_proof(new["proof"], **names)
        verify_succession(form["old_proof"], **names, old_kid=old, old_key=self.keys[old][1])
        self.keys[kid] = (stn, key)
        self.ended.add(old)
        x.answer(201, {"keys": []})

    def _key_json(self, kid: str, key: PublicKey) -> dict[str, Any]:
        public_b64u = b64u_encode(key.raw)
        return {"kid": kid, "alg": key.alg, "public_b64u": public_b64u, "revoked": kid in self.ended}

    def _take(self, x: Exchange) -> None:
        stored: list[Any] = []
        known: list[Any] = []
        for number, line in enumerate(x.body.split(b"\n"), 1):
            try:
                envelope = parse_envelope(line)
                if envelope.kid in self.ended:
                    x.problem(403, "key.revoked", line=number, stored=stored)
                    return
                verify_signature(envelope, self.keys[envelope.kid][1])
            except (EmdiError, KeyError) as error:
                x.problem(422, getattr(error, "code", "key.unknown"), line=number, stored=stored)
                return
            chain = self.chains.setdefault(envelope.stn, [])
            if any(kept.env_id == envelope.env_id for kept in chain):
                known.append(kept_json(envelope))
                continue
            head = StationHead(chain[-1].ep, chain[-1].seq, chain[-1].env_id) if chain else None
            try:
                check_next(head, envelope)
            except ChainError as error:
                code = "equivocation" if error.code == "chain.replayed" else error.code
                there = head_json(chain[-1]) if chain else None
                x.problem(409, code, line=number, stored=stored, head=there)
                return
            chain.append(envelope)
            self.index_of[envelope.env_id] = len(self.entries)
            self.entries.append(encode_entry(KIND_READING, time.time_ns() // 1_000_000, line))
            stored.append(kept_json(envelope))
        x.answer(202 if stored else 200, {"stored": stored, "known": known})

    def _tile(self, x: Exchange, path: str) -> None:
        ref = parse_tile_path(path)
        leaves = [leaf_hash(entry) for entry in self.entries]
        if ref.level is None or ref.level > 1:
            x.problem(404, "tile.unknown")
            return
        for _ in range(ref.level):
            leaves = [root_of(leaves[at : at + 256]) for at in range(0, len(leaves) // 256 * 256, 256)]
        inside = leaves[ref.n * 256 : ref.n * 256 + ref.width]
        x.answer(200, b"".join(inside)) if len(inside) == ref.width else x.problem(404, "tile.unknown")

    def _read(self, x: Exchange) -> None:
        bounds = [datetime.fromisoformat(x.query[name][0]).timestamp() * 1000 for name in ("from", "to")]
        records = [r for e in self.chains.get(x.query["station"][0], []) for r in e.records]
        kept = [r for r in records if bounds[0] <= r.at_ms < bounds[1]]
        inside: list[dict[str, Any]] = [{"at": r.at_ms, "channel": r.name} for r in kept]
        if x.query.get("aggregate") == ["day"]:
            counts = Counter((r.at_ms // DAY_MS * DAY_MS, r.name, r.value is None) for r in kept)
            inside = [
                {"at": at, "channel": name, "count": 0 if empty else count, "missing": count if empty else 0}
                for (at, name, empty), count in counts.items()
            ]
        first, limit = int(x.query.get("after", ["0"])[0]), int(x.query["limit"][0])
        rest = first + limit < len(inside)
        x.answer(200, {"rows": inside[first : first + limit], "next": str(first + limit) if rest else None})


def kept_json(envelope: Envelope) -> dict[str, Any]:
    """Return how a stored envelope is answered."""
    return {
        "env_id": envelope.env_id.hex(),
        "ep": envelope.ep,
        "seq": envelope.seq,
        "readings": len(envelope.records),
        "receipt": f"/v1/receipts/{envelope.env_id.hex()}",
    }


def head_json(envelope: Envelope) -> dict[str, Any]:
    """Return a chain head as answered."""
    return {"ep": envelope.ep, "seq": envelope.seq, "env_id": envelope.env_id.hex()}


@contextmanager
def small_server() -> Iterator[SmallServer]:
    """Serve on a free loopback port until the block ends."""
    state = SmallServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            url = urlsplit(self.path)
            body = self.rfile.read(length)
            state.handle(Exchange(self.command, url.path, parse_qs(url.query), body, self))

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
