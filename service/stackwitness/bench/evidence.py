"""Evidence beside its limits: bytes kept for each reading, a bundle of a million readings made and verified."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.bench.fill import register, store
from stackwitness.bench.fleet import CHANNELS, MINUTE_MS, START_MS
from stackwitness.bench.log import Figure, show
from stackwitness.bench.processes import Server, open_server
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import flow
from stackwitness.log.disk import Disk
from stackwitness.log.heads import Heads
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.policies import read_policy
from stackwitness.log.signer import SignerClient

# Readings per envelope -> envelopes made to measure what each keeps.
SIZES = {1: 6_000, 12: 5_000, 120: 1_000}
WHOLE = 720
EXPORT_S, VERIFY_PER_S, VERIFY_MB = 60.0, 100_000, 500
TURN = 100
# What is kept beside the projection. Indexes and out-of-line values count with their table.
TABLES = ("envelope", "log_entry", "log_head", "log_pending", "station_head")


@dataclass(frozen=True)
class Kept:
    """Bytes kept for each reading, by where they lie: JWS in the database, index rows, published files, projection."""

    per_envelope: int
    rows: float
    files: float
    projection: float


def run(readings: int = 1_000_000, console: Console | None = None) -> list[Figure]:
    """Fill a log in a temporary folder, measure sizes, export and verify `readings`; print and return figures."""
    console = console or Console()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stackwitness-bench-")))
        home.chmod(0o755)
        server = stack.enter_context(open_server(home, "signer"))
        wiring = server.wiring
        signer = SignerClient(wiring.settings.signer_socket)
        disk = Disk(wiring.settings.log_dir)
        heads = Heads(wiring.engine, disk, wiring.service_key, scheduled=False)
        loop = LogLoop(wiring.engine, disk, signer, heads)
        ensure_genesis(wiring.engine, wiring.settings, wiring.service_key, signer)
        sizes = {**SIZES, WHOLE: max(1, readings // WHOLE)}
        kept = [_measure_kept(server, loop, size, count) for size, count in sizes.items()]
        _show_kept(kept, console)
        figures = _measure_bundle(server, loop, home, sizes[WHOLE] * WHOLE, console)
        show(figures, console)
    return figures


def _measure_kept(server: Server, loop: LogLoop, size: int, count: int) -> Kept:
    before = _bytes_of(server)
    _fill(server, f"bench-{size}", size, count)
    loop.sequence()
    loop.publish()
    rows, files, projection = (
        (after - was) / (size * count) for was, after in zip(before, _bytes_of(server), strict=True)
    )
    return Kept(size, rows, files, projection)


def _fill(server: Server, stn: str, size: int, count: int) -> None:
    """Store `count` envelopes of `size` readings each: 12 channels (fewer when size is less), whole minutes."""
    channels = register(server.wiring, stn, stn.encode().ljust(32, b"."))
    key = LocalKey.from_seed(stn.encode().ljust(32, b"."), f"{stn}-1")
    width = min(size, len(CHANNELS))
    minutes = size // width
    prev, sealed = ZERO_HASH, []
    for seq in range(count):
        first = seq * minutes
        records = [
            Record(c.name, START_MS + (first + m) * MINUTE_MS, c.unit, _value(first + m, n), "N")
            for m in range(minutes)
            for n, c in enumerate(CHANNELS[:width])
        ]
        iat_ms = records[-1].at_ms + 500
        envelope = seal_envelope(
            key, stn=stn, ep=0, seq=seq, prev=prev, iat_ms=iat_ms, cp=None, records=records
        )
        prev = envelope.env_id
        sealed.append(envelope.jws)
        if len(sealed) == TURN:
            store(server.wiring, sealed, channels)
            sealed = []
    if sealed:
        store(server.wiring, sealed, channels)


def _value(minute: int, channel: int) -> Decimal:
    return Decimal((minute * 37 + channel * 101) % 9000 + 10).scaleb(-2)


def _bytes_of(server: Server) -> tuple[int, int, int]:
    """Return bytes of the evidence's tables, of the published files, and of the projection."""
    with server.wiring.engine.connect() as conn:
        raw = conn.connection.driver_connection
        assert raw is not None
        query = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relname = ANY(%s)"
        rows = int(raw.execute(query, [list(TABLES)]).fetchone()[0])
        query = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c WHERE c.relkind = 'r' AND c.relname LIKE 'reading%%'"
        projection = int(raw.execute(query, []).fetchone()[0])
    files = sum(path.stat().st_size for path in server.wiring.settings.log_dir.rglob("*") if path.is_file())
    return rows, files, projection


@contextmanager
def _moving(loop: LogLoop) -> Iterator[None]:
    stop = threading.Event()

    def move() -> None:
        while not stop.wait(0.1):
            loop.sequence()
            loop.publish()

    thread = threading.Thread(target=move, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _measure_bundle(
    server: Server, loop: LogLoop, home: Path, readings: int, console: Console
) -> list[Figure]:
    wiring, account = server.wiring, Account("regulator-bench", "Bench", "regulator")
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        policy = read_policy(conn) or ""
    with unit_of_work(wiring.engine) as conn:
        grant_access(conn, wiring.service_key, account, act="bench")
        export = flow.request_export(
            conn, wiring.service_key, account, stn=f"bench-{WHOLE}", purpose="bench", defer=False
        )
    started, worked = time.perf_counter(), time.process_time()
    with _moving(loop):
        bundle = flow.build_export(wiring, export.export_id)
    took, worked = time.perf_counter() - started, time.process_time() - worked
    peak = psutil.Process().memory_info().rss / 2**20
    console.print(
        f"bundle: {bundle.stat().st_size:,} bytes, {bundle.stat().st_size / readings:.1f} a reading"
    )
    (home / "policy.txt").write_text(policy)
    used, rss_mb, code = _verify(bundle, home / "policy.txt", console)
    return [
        Figure(f"export of {readings:,} readings", took, EXPORT_S, "s", False),
        Figure("export, processor time of our own process", worked, EXPORT_S, "s", False),
        Figure("export, memory of the process at its end", peak, 1024, "MB", False),
        Figure("verify, readings per second of processor time", readings / used, VERIFY_PER_S, "1/s", True),
        Figure("verify, resident memory", rss_mb, VERIFY_MB, "MB", False),
        Figure("verify, exit code", code, 0, "", False),
    ]


def _verify(bundle: Path, policy: Path, console: Console) -> tuple[float, float, int]:
    """Return processor seconds, peak resident MB and the exit code of the program itself."""
    command = [sys.executable, "-m", "stackwitness_client.verify_cli", str(bundle), "--policy", str(policy)]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        console.print(out.read(), style="dim")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, process.returncode


def _show_kept(kept: list[Kept], console: Console) -> None:
    table = Table(
        title="Bytes kept for each reading beside the projection",
        caption="rows: envelope (JWS, indexes), log_entry, log_head, station_head; files: entry bundles, tiles, checkpoints",
    )
    for heading in ("readings per envelope", "rows", "files", "evidence", "projection"):
        table.add_column(heading, justify="right")
    for item in kept:
        figures = (item.rows, item.files, item.rows + item.files, item.projection)
        table.add_row(str(item.per_envelope), *(f"{figure:,.1f}" for figure in figures))
    console.print(table)
    console.print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
