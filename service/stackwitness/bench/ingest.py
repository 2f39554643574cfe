"""Ingest beside a plain endpoint and beside raw COPY: alternating short rounds, medians, ratios."""

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx2
import psycopg
from rich.console import Console
from rich.table import Table

from emdi.columns import columns_of
from emdi.pack import Record
from stackwitness.bench.fleet import CHANNEL_COUNT, CHANNELS, MINUTE_MS, START_MS, BenchStation
from stackwitness.bench.load import drive, make_request
from stackwitness.bench.processes import Stage, open_stage, postgres_s
from stackwitness.db.timescale import ensure_months
from stackwitness.db.unit import unit_of_work
from stackwitness.ingest.domain import PinnedChannel
from stackwitness.ingest.queries import copy_readings
from stackwitness.ingest.rows import copy_file, joined, pack_readings

CONNECTIONS = 64
BATCH_CONNECTIONS = 8
HOUR_MINUTES = 60
RAW_ENVELOPES = 100  # of 720 rows, one COPY and one commit
RECEIPT_WITHIN_S = 60.0

Round = Callable[[], float]


class Bench:
    """The rounds; each returns readings a second, what is posted being sealed before the clock starts."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        with unit_of_work(stage.wiring.engine) as conn:
            self.singles = [BenchStation(stage.wiring, conn, f"single-{n}") for n in range(CONNECTIONS)]
            self.batches = [BenchStation(stage.wiring, conn, f"batch-{n}") for n in range(BATCH_CONNECTIONS)]
            self.hours = [BenchStation(stage.wiring, conn, f"hour-{n}") for n in range(BATCH_CONNECTIONS)]
            self.raw = BenchStation(stage.wiring, conn, "raw")
        self._raw_no = 1_000_000_000
        self.busy = 0
        self.posted = 0

    def peer(self, requests: int = 20) -> float:
        """Post 12 readings a request to the plain endpoint."""
        readings = [
            {"channel": c.name, "at": _text(START_MS), "unit": c.unit, "value": 12.5} for c in CHANNELS
        ]
        body = json.dumps({"station": "peer", "readings": readings}).encode()
        request = make_request("/readings", body, "application/json")
        took = drive(self.stage.peer_port, [[request] * requests for _ in range(CONNECTIONS)])
        self.posted = CONNECTIONS * requests * CHANNEL_COUNT
        return self.posted / took.seconds

    def single_12(self, requests: int = 60) -> float:
        """Post 12-reading envelopes, one a request."""
        return self._drive(self.singles, 1, requests, 1)

    def batch_12(self, requests: int = 2) -> float:
        """Post 12-reading envelopes, 256 a request."""
        return self._drive(self.batches, 1, requests, 256)

    def single_720(self, requests: int = 20) -> float:
        """Post 720-reading envelopes, one a request."""
        return self._drive(self.hours, HOUR_MINUTES, requests, 1)

    def batch_720(self, requests: int = 2) -> float:
        """Post 720-reading envelopes, 12 a request."""
        return self._drive(self.hours, HOUR_MINUTES, requests, 12)

    def receipts_12(self) -> float:
        """As batch_12 and twice as much, until the last receipt is in hand: one wait for a checkpoint included."""
        ids: list[str] = []
        streams = self._seal(self.batches, 1, 4, 256, ids)
        started = time.perf_counter()
        self.busy += drive(self.stage.port, streams).busy
        self._await_receipts(ids)
        self.posted = len(ids) * CHANNEL_COUNT
        return self.posted / (time.perf_counter() - started)

    def raw_copy(self) -> float:
        """COPY rows made beforehand straight into `reading`, by one connection."""
        channels = {
            channel.name: PinnedChannel(no, channel.unit)
            for channel, no in zip(CHANNELS, self.raw.channel_nos, strict=True)
        }
        rows = []
        for _ in range(RAW_ENVELOPES):
            first_ms = START_MS + (self._raw_no - 1_000_000_000) * HOUR_MINUTES * MINUTE_MS
            records = [
                Record(c.name, first_ms + m * MINUTE_MS, c.unit, self.raw._value(m, n), "N")
                for m in range(HOUR_MINUTES)
                for n, c in enumerate(CHANNELS)
            ]
            rows.append(joined(pack_readings(columns_of(records), channels), self._raw_no))
            self._raw_no += 1
        stream = copy_file(rows)
        first_at, last_at = (datetime.fromtimestamp(ms // 1000, UTC) for ms in (START_MS, records[-1].at_ms))
        with unit_of_work(self.stage.wiring.engine) as conn:
            ensure_months(conn, first_at, last_at)
        with psycopg.connect(self.stage.url) as conn:
            started = time.perf_counter()
            copy_readings(conn, stream)
            conn.commit()
            self.posted = RAW_ENVELOPES * HOUR_MINUTES * CHANNEL_COUNT
            return self.posted / (time.perf_counter() - started)

    def _drive(self, stations: list[BenchStation], minutes: int, requests: int, lines: int) -> float:
        streams = self._seal(stations, minutes, requests, lines, [])
        took = drive(self.stage.port, streams)
        self.busy += took.busy
        self.posted = len(stations) * requests * lines * minutes * CHANNEL_COUNT
        return self.posted / took.seconds

    def _seal(
        self, stations: list[BenchStation], minutes: int, requests: int, lines: int, ids: list[str]
    ) -> list[list[bytes]]:
        streams = []
        for station in stations:
            stream = []
            for _ in range(requests):
                sealed = [station.seal(minutes) for _ in range(lines)]
                ids += [env_id for _, env_id in sealed]
                body = b"\n".join(jws for jws, _ in sealed)
                stream.append(make_request("/v1/envelopes", body, "text/plain"))
            streams.append(stream)
        return streams

    def _await_receipts(self, ids: list[str]) -> None:
        deadline = time.monotonic() + RECEIPT_WITHIN_S
        with httpx2.Client(base_url=f"http://127.0.0.1:{self.stage.port}", timeout=30) as client:
            for start in range(0, len(ids), 256):
                wanted = ids[start : start + 256]
                while wanted:
                    found = client.post("/v1/receipts", json={"env_ids": wanted}).json()["receipts"]
                    wanted = [env_id for env_id, receipt in found.items() if receipt is None]
                    if wanted and time.monotonic() > deadline:
                        raise TimeoutError(f"{len(wanted)} receipts did not come")
                    if wanted:
                        time.sleep(0.1)


def run(rounds: int = 3, console: Console | None = None) -> dict[str, float]:
    """Run the bench in a temporary folder and print the table; return readings a second by round name."""
    console = console or Console()
    with tempfile.TemporaryDirectory(prefix="stackwitness-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with open_stage(home) as stage:
            bench = Bench(stage)
            figures: dict[str, list[float]] = {}
            costs: dict[str, list[float]] = {}
            behind: dict[str, list[float]] = {}
            names = ("raw_copy", "peer", "single_12", "batch_12", "single_720", "batch_720", "receipts_12")
            for turn in range(rounds + 1):
                for name in names:
                    before_s, before_postgres_s = _cpu_s(stage), postgres_s(stage.url)
                    figure: float = getattr(bench, name)()
                    if turn:  # the first round warms caches, partitions and connections
                        figures.setdefault(name, []).append(figure)
                        costs.setdefault(name, []).append((_cpu_s(stage) - before_s) / bench.posted * 1e6)
                        spent_s = postgres_s(stage.url) - before_postgres_s
                        behind.setdefault(name, []).append(spent_s / bench.posted * 1e6)
            rss_mb = stage.api.memory_info().rss / 2**20
            medians = {name: median(values) for name, values in figures.items()}
            spent = {name: (median(costs[name]), median(behind[name])) for name in names}
            _print(console, medians, spent)
            console.print(f"API process {rss_mb:.0f} MB; the service said 'later' {bench.busy} times")
    return {**medians, "rss_mb": rss_mb}


def _cpu_s(stage: Stage) -> float:
    """Return the processor time of both servers so far: what a busy machine cannot blur."""
    return float(sum(t.user + t.system for t in (stage.api.cpu_times(), stage.peer.cpu_times())))


def _print(console: Console, medians: dict[str, float], costs: dict[str, tuple[float, float]]) -> None:
    table = Table(title="Ingest: readings a second, medians")
    for heading in (
        "round",
        "readings/s",
        "requests or envelopes/s",
        "x peer",
        "x raw COPY",
        "server µs/reading",
        "postgres µs/reading",
    ):
        table.add_column(heading, justify="left" if heading == "round" else "right")
    for name, figure in medians.items():
        size = CHANNEL_COUNT * (HOUR_MINUTES if name.endswith("720") or name == "raw_copy" else 1)
        peer, raw = figure / medians["peer"], figure / medians["raw_copy"]
        table.add_row(
            *(name, f"{figure:,.0f}", f"{figure / size:,.0f}", f"{peer:.2f}", f"{raw:.2f}"),
            *(f"{spent:.1f}" for spent in costs[name]),
        )
    console.print(table)


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


if __name__ == "__main__":
    run()
