"""Sustained load on the whole road: paced writers, readers verifying receipts, a monitor tailing the log.

Latency is from sending the request to holding a receipt; each receipt sampled is verified.
"""

import asyncio
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import httpx2
from rich.console import Console

from emdi.checkpoint import open_checkpoint
from emdi.merkle import CompactRange, leaf_hash
from emdi.policy import Policy, parse_policy
from emdi.receipt import verify_receipt
from emdi.tiles import TILE_WIDTH, decode_bundle, entries_path
from stackwitness.bench.fleet import BenchStation
from stackwitness.bench.load import Connection, connect, make_request
from stackwitness.bench.log import Figure, show
from stackwitness.bench.processes import Server, await_port, free_port, open_server
from stackwitness.db.unit import unit_of_work
from stackwitness.log.queries import count_pending
from stackwitness.log.signer import SignerClient

STATIONS = 60
POLL_S = 0.1
BATCH = 256
LATE_S = 30.0
LOOK_S = 0.05
GET_CHECKPOINT = b"GET /log/checkpoint HTTP/1.1\r\nHost: localhost\r\n\r\n"
P50_S, P99_S, WITNESSED_P99_S = 1.0, 2.0, 4.0


@dataclass
class Seen:
    """What the load has shown so far; ids are hex, times are of the monotonic clock."""

    sent_s: dict[str, float] = field(default_factory=dict)
    jws: dict[str, bytes] = field(default_factory=dict)
    latency_s: dict[str, float] = field(default_factory=dict)
    busy: int = 0
    verified: int = 0
    tailed: int = 0
    pending: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def run(
    seconds: int = 60, rate: int = 300, witnesses: int = 0, console: Console | None = None
) -> list[Figure]:
    """Send `rate` envelopes a second, one a request, for so long; print and return the figures.

    With `witnesses` so many cosign, and the limit of the 99th percentile is that of a witnessed log.
    """
    console = console or Console()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stackwitness-bench-")))
        home.chmod(0o755)
        port = free_port()
        names = ("signer", "log", "serve")
        server = stack.enter_context(
            open_server(home, *names, serve=["--port", str(port)], witnesses=witnesses)
        )
        await_port(port)
        with unit_of_work(server.wiring.engine) as conn:
            stations = [BenchStation(server.wiring, conn, f"hammer-{n:02d}") for n in range(STATIONS)]
        count = -(-rate * seconds // STATIONS)
        console.print(f"sealing {count * STATIONS:,} envelopes", style="dim")
        sealed = [[station.seal(1) for _ in range(count)] for station in stations]
        vkey = SignerClient(server.wiring.settings.signer_socket).vkey()
        named = server.environ.get("STACKWITNESS_POLICY_FILE")
        text = Path(named).read_text(encoding="utf-8") if named else f"log {vkey}\nquorum none\n"
        before = server.processor_s()
        seen, took = _load(server, port, sealed, rate, parse_policy(text))
        spent = {name: after_s - before[name] for name, after_s in server.processor_s().items()}
    words = ", ".join(f"{name} {1000 * spent_s / len(seen.sent_s):.2f}" for name, spent_s in spent.items())
    console.print(f"processor time in ms for each envelope: {words}")
    return _report(seen, took, WITNESSED_P99_S if witnesses else P99_S, console)


def _load(
    server: Server, port: int, sealed: Sequence[Sequence[tuple[bytes, str]]], rate: int, policy: Policy
) -> tuple[Seen, float]:
    seen, stop = Seen(), threading.Event()
    watchers = [
        threading.Thread(target=_guarded, args=(work, seen, stop), daemon=True)
        for work in (
            lambda: _count_pending(server, seen, stop),
            lambda: _verify(port, policy, seen, stop),
            lambda: _tail(port, policy, seen, stop),
        )
    ]
    for watcher in watchers:
        watcher.start()
    started = time.monotonic()
    asyncio.run(_drive(port, sealed, STATIONS / rate, seen))
    took = time.monotonic() - started
    stop.set()
    for watcher in watchers:
        watcher.join()
    return seen, took


def _guarded(work: Callable[[], None], seen: Seen, stop: threading.Event) -> None:
    try:
        work()
    except Exception as error:
        seen.faults.append(repr(error))
        stop.set()


async def _drive(
    port: int, sealed: Sequence[Sequence[tuple[bytes, str]]], period_s: float, seen: Seen
) -> None:
    started = time.monotonic()
    writers = [
        asyncio.create_task(
            _write(await connect(port), stream, started + n * period_s / STATIONS, period_s, seen)
        )
        for n, stream in enumerate(sealed)
    ]
    await _collect(await connect(port), writers, seen)
    await asyncio.gather(*writers)


async def _write(
    connection: Connection, stream: Sequence[tuple[bytes, str]], first_s: float, period_s: float, seen: Seen
) -> None:
    """Send on the beat whatever the answers do: a slow server must not slow the load."""
    for number, (jws, env_id) in enumerate(stream):
        await asyncio.sleep(max(0.0, first_s + number * period_s - time.monotonic()))
        seen.sent_s[env_id] = time.monotonic()
        seen.jws[env_id] = jws
        request = make_request("/v1/envelopes", jws, "text/plain")
        status, body = await connection.send(request)
        while status == 503:
            seen.busy += 1
            await asyncio.sleep(POLL_S)
            status, body = await connection.send(request)
        if status >= 300:
            raise RuntimeError(f"{status}: {body[:200]!r}")


async def _collect(connection: Connection, writers: "Sequence[asyncio.Task[None]]", seen: Seen) -> None:
    """Look at the checkpoint, and at each new one ask for the receipts of all that was sent, until all are there."""
    last_s, last_note = time.monotonic(), b""
    while True:
        await asyncio.sleep(LOOK_S)
        waiting = [env_id for env_id in list(seen.sent_s) if env_id not in seen.latency_s]
        done = all(writer.done() for writer in writers)
        if done and (not waiting or time.monotonic() - last_s > LATE_S):
            return
        if not done:
            last_s = time.monotonic()
        _, note = await connection.send(GET_CHECKPOINT)
        if note == last_note:
            continue
        last_note = note
        for start in range(0, len(waiting), BATCH):
            body = json.dumps({"env_ids": waiting[start : start + BATCH]}).encode()
            _, answer = await connection.send(make_request("/v1/receipts", body, "application/json"))
            now_s = time.monotonic()
            for env_id, receipt in json.loads(answer)["receipts"].items():
                if receipt is not None:
                    seen.latency_s[env_id] = now_s - seen.sent_s[env_id]


def _count_pending(server: Server, seen: Seen, stop: threading.Event) -> None:
    while not stop.wait(1):
        with unit_of_work(server.wiring.engine) as conn:
            seen.pending.append(count_pending(conn))


def _verify(port: int, policy: Policy, seen: Seen, stop: threading.Event) -> None:
    """Fetch and verify receipts of random envelopes that have one."""
    chosen = random.Random(1)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while not stop.wait(0.2):
            known = list(seen.latency_s)
            if known:
                env_id = chosen.choice(known)
                receipt = client.get(f"/v1/receipts/{env_id}").content
                verify_receipt(receipt, seen.jws[env_id], policy)
                seen.verified += 1


def _tail(port: int, policy: Policy, seen: Seen, stop: threading.Event) -> None:
    """Follow the log as a monitor does: every new entry hashed, every checkpoint's root compared."""
    tree = CompactRange()
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while not stop.wait(1):
            answer = client.get("/log/checkpoint")
            if answer.status_code != 200:
                continue
            checkpoint, _ = open_checkpoint(answer.content, policy)
            while tree.size < checkpoint.size:
                n, place = divmod(tree.size, TILE_WIDTH)
                width = min(TILE_WIDTH, checkpoint.size - n * TILE_WIDTH)
                for path in (entries_path(n, width), entries_path(n)):
                    bundle = client.get(f"/log/{path}")
                    if bundle.status_code == 200:
                        break
                for entry in decode_bundle(bundle.content)[place:width]:
                    tree.append(leaf_hash(entry))
            if tree.root() != checkpoint.root:
                raise ValueError(f"the entries do not give the root signed at {checkpoint.size}")
            seen.tailed = tree.size


def _report(seen: Seen, took: float, p99_s: float, console: Console) -> list[Figure]:
    cuts = quantiles(list(seen.latency_s.values()), n=100)
    figures = [
        Figure("envelopes/s", len(seen.latency_s) / took, 0, "", True),
        Figure("receipt p50", cuts[49], P50_S, "s", False),
        Figure("receipt p99", cuts[98], p99_s, "s", False),
        Figure("without a receipt", len(seen.sent_s) - len(seen.latency_s), 0, "", False),
        Figure("most pending", max(seen.pending, default=0), 4096, "", False),
        Figure("faults", len(seen.faults), 0, "", False),
    ]
    show(figures, console)
    console.print(
        f"{seen.verified} receipts verified, {seen.tailed:,} entries tailed, the service said 'later'"
        f" {seen.busy} times, load average {os.getloadavg()[0]:.1f}"
    )
    for fault in seen.faults:
        console.print(fault, style="red")
    return figures
