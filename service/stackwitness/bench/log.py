"""The log beside its limits: sequencing with publishing and signing, restart, and the checker."""

import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from emdi.keys import LocalKey
from stackwitness.bench.fill import fill
from stackwitness.bench.processes import Server, open_server, postgres_s
from stackwitness.db.unit import unit_of_work
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.fsck.signatures import verify_fast
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.sequencer import load_tree, read_head
from stackwitness.log.signer import SignerClient

SEQUENCED_S = 5_000
FSCK_MILLION_S = 60.0
CORES = 2  # of the machine the limits are meant for,
CHECK_US = 55.0  # and how long one signature check takes there
FSCK_ROUNDS = 3
BARE_S = 2.0
ENVELOPE_BYTES = 680  # signed, of 12 readings
CHUNK = 25_600


@dataclass(frozen=True)
class Figure:
    """One measured thing: its value, the limit it is held against, and whether more is better."""

    name: str
    value: float
    limit: float
    unit: str
    more: bool

    @property
    def holds(self) -> bool:
        """Tell whether the limit is kept."""
        return self.value >= self.limit if self.more else self.value <= self.limit


def run(entries: int = 100_000, console: Console | None = None) -> list[Figure]:
    """Fill a log of so many entries in a temporary folder, measure, print; return the figures."""
    console = console or Console()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stackwitness-bench-")))
        home.chmod(0o755)
        server = stack.enter_context(open_server(home, "signer"))
        rates = sequence_all(server, entries, console)
        figures = [Figure("sequenced, published, signed", median(rates), SEQUENCED_S, "entries/s", True)]
        figures += measure_restart(server)
        figures += measure_fsck(server, console)
        show(figures, console)
    return figures


def sequence_all(server: Server, entries: int, console: Console) -> list[float]:
    """Fill by chunks; return entries a second of each chunk from the queue to the signed checkpoint."""
    wiring = server.wiring
    signer = SignerClient(wiring.settings.signer_socket)
    loop = LogLoop(wiring.engine, Disk(wiring.settings.log_dir), signer)
    ensure_genesis(wiring.engine, wiring.settings, wiring.service_key, signer)
    rates: list[float] = []
    waiting = 0
    for stored in fill(wiring, entries):
        if stored - waiting < CHUNK and stored < entries:
            continue
        waiting = stored
        started = time.perf_counter()
        count = loop.sequence()
        loop.publish()
        rates.append(count / (time.perf_counter() - started))
        console.print(f"{stored:,} envelopes: {rates[-1]:,.0f} entries/s", style="dim")
    return rates


def measure_restart(server: Server) -> list[Figure]:
    """Time how long a new sequencer takes to know the tree's right edge, from tiles and from all rows."""
    disk = Disk(server.wiring.settings.log_dir)
    with unit_of_work(server.wiring.engine) as conn:
        head = read_head(conn)
        from_tiles = _seconds(lambda: load_tree(conn, head, disk))
        from_rows = _seconds(lambda: load_tree(conn, head))
    return [Figure("restart from tiles", from_tiles, max(from_rows, 0.05), "s (limit: from all rows)", False)]


def measure_fsck(server: Server, console: Console, rounds: int = FSCK_ROUNDS) -> list[Figure]:
    """Run the checker some rounds; medians of its seconds, of the clock and of all processors, for a million entries.

    Before and after each round every core checks bare signatures: what no checker can do without, on this machine, now.
    """
    settings = server.wiring.settings
    _vacuum(server)
    stop, peak = threading.Event(), [0]
    watcher = threading.Thread(target=_watch, args=(stop, peak), daemon=True)
    watcher.start()
    bare, clock, processors, reports = [_bare_check_us()], [], [], []
    for _ in range(rounds):
        started, spent = time.perf_counter(), _processor_s(server)
        report = fsck(server.wiring.engine, settings.log_dir, signer_dir=settings.signer_dir)
        scale = 1e6 / report.entries
        clock.append(scale * (time.perf_counter() - started))
        processors.append(scale * (_processor_s(server) - spent))
        reports.append(report)
        bare.append(_bare_check_us())
        console.print(
            f"fsck of {report.entries:,} entries, {report.readings:,} readings: {clock[-1]:.1f} s a million, "
            f"{processors[-1]:.1f} s of processor time; a bare signature check {bare[-2]:.1f} to {bare[-1]:.1f} us"
        )
    stop.set()
    watcher.join()
    for finding in reports[-1].findings[:5]:
        console.print(finding.line(), style="red")
    ratios = [2 * CORES * s / (bare[i] + bare[i + 1]) for i, s in enumerate(clock)]
    return [
        Figure("fsck per million entries", median(clock), FSCK_MILLION_S, "s", False),
        Figure("fsck over bare signatures", median(ratios), FSCK_MILLION_S * CORES / CHECK_US, "", False),
        Figure("fsck processor time per million", median(processors), CORES * FSCK_MILLION_S, "s", False),
        Figure("fsck memory, all its processes", peak[0] / 2**20, 1024, "MB", False),
        Figure("fsck findings", sum(len(report.findings) for report in reports), 0, "", False),
    ]


def _bare_check_us() -> float:
    """Return what one signature check of a 12-reading envelope takes while all cores do the same (us)."""
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(check_bare, range(CORES))) / CORES


def check_bare(seed: int) -> float:
    """Check one signature for two seconds in this process; return the microseconds each time took."""
    key = LocalKey.from_seed(bytes([seed]) * 32, "bench")
    signed = bytes(ENVELOPE_BYTES)
    signature, checks, started = key.sign(signed), 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < BARE_S:
        for _ in range(500):
            verify_fast(key.public, signature, signed)
        checks += 500
    return passed / checks * 1e6


def _vacuum(server: Server) -> None:
    """Do now what autovacuum has long done in a log of such a size: else the first reader marks every row as visible."""
    engine = server.wiring.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text("VACUUM (ANALYZE)"))


def show(figures: list[Figure], console: Console) -> None:
    """Print each figure beside its limit, with the load of the machine: a busy one is no judge."""
    table = Table(title="The log: figures beside their limits")
    for heading in ("what", "measured", "limit", "unit", "holds"):
        table.add_column(heading, justify="left" if heading in ("what", "unit") else "right")
    for figure in figures:
        holds = "yes" if figure.holds else "NO"
        table.add_row(figure.name, f"{figure.value:,.2f}", f"{figure.limit:,.2f}", figure.unit, holds)
    console.print(table)
    console.print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _processor_s(server: Server) -> float:
    """Return the processor time of this process, of its children that ended, and of PostgreSQL, in seconds."""
    ours = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in ours) + postgres_s(server.cluster.url())


def _watch(stop: threading.Event, peak: list[int]) -> None:
    me = psutil.Process()
    while not stop.wait(0.5):
        rss = me.memory_info().rss
        for child in me.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if "postgres" not in child.name():
                    rss += child.memory_info().rss
        peak[0] = max(peak[0], rss)
