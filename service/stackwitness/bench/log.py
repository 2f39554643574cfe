"""The log beside its limits: sequencing with publishing and signing, restart, and the checker."""

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from stackwitness.bench.fill import fill
from stackwitness.bench.processes import Server, open_server, postgres_s
from stackwitness.db.unit import unit_of_work
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.loop import LogLoop, ensure_genesis
from stackwitness.log.sequencer import load_tree, read_head
from stackwitness.log.signer import SignerClient

SEQUENCED_S = 5_000
FSCK_MILLION_S = 60.0
CORES = 2  # of the machine the limits are meant for
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


def measure_fsck(server: Server, console: Console) -> list[Figure]:
    """Run the checker; its seconds, of the clock and of all processors together, are scaled to a million entries."""
    settings = server.wiring.settings
    _vacuum(server)
    stop, peak = threading.Event(), [0]
    watcher = threading.Thread(target=_watch, args=(stop, peak), daemon=True)
    watcher.start()
    started, spent = time.perf_counter(), _processor_s(server)
    report = fsck(server.wiring.engine, settings.log_dir, signer_dir=settings.signer_dir)
    took, used = time.perf_counter() - started, _processor_s(server) - spent
    stop.set()
    watcher.join()
    console.print(
        f"fsck: {report.entries:,} entries, {report.readings:,} readings in {took:.1f} s, {used:.1f} s of processor time"
    )
    for finding in report.findings[:5]:
        console.print(finding.line(), style="red")
    scale = 1e6 / report.entries
    return [
        Figure("fsck per million entries", took * scale, FSCK_MILLION_S, "s", False),
        Figure("fsck processor time per million", used * scale, CORES * FSCK_MILLION_S, "s", False),
        Figure("fsck memory, all its processes", peak[0] / 2**20, 1024, "MB", False),
        Figure("fsck findings", report.tampered + report.missing, 0, "", False),
    ]


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
