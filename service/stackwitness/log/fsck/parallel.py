"""Have the published part of a large log checked span by span in other processes, and take what they say."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import sqlalchemy as sa

from emdi.chain import StationHead
from emdi.encoding import b64u_encode
from emdi.envelope import ZERO_HASH
from emdi.errors import EmdiError, EnvelopeError
from emdi.event import parse_event
from emdi.keyring import KEY_EVENTS
from emdi.keys import PublicKey
from stackwitness.db.session import connect
from stackwitness.log.errors import LogForked
from stackwitness.log.fsck.history import History
from stackwitness.log.fsck.spans import SPAN, Hints, Summary, check_span, open_checker
from stackwitness.log.genesis import parse_genesis

WORTH_ENTRIES = 20_000
AHEAD = 4  # spans under way for each process: enough to keep it busy, few enough to hold


def read_hints(conn: sa.Connection, log_dir: Path) -> Hints:
    """Return what the workers start from; the snapshot is that of this transaction."""
    keys: dict[str, PublicKey] = {}
    for row in conn.execute(sa.text("SELECT kid, alg, public_key FROM station_key")):
        with suppress(EmdiError):
            keys[row.kid] = PublicKey.from_bytes(row.alg, bytes(row.public_key))
    channels = {
        (row.stn, row.name): row.channel_no
        for row in conn.execute(sa.text("SELECT stn, name, channel_no FROM channel"))
    }
    services = {}
    for row in conn.execute(sa.text("SELECT body FROM log_genesis")):
        with suppress(EmdiError, LogForked, TypeError):
            genesis = parse_genesis(bytes(row.body))
            services[genesis.service_kid] = genesis.service_public
    for row in conn.execute(sa.text("SELECT kid, alg, public_key FROM service_key")):
        with suppress(EmdiError):
            services[row.kid] = PublicKey.from_bytes(row.alg, bytes(row.public_key))
    url = conn.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    snapshot = conn.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
    return Hints(url, snapshot, str(log_dir), keys, services, channels)


def summarize_index(url: str) -> None:
    """Bring the block ranges of the readings' index up to date; where that fails, reading is only slower."""
    with suppress(psycopg.Error), connect(url, autocommit=True) as conn:
        conn.execute("SET ROLE sw_export")
        conn.execute("SELECT summarize_readings()")


def check_spans(hints: Hints, first: int, end: int) -> Iterator[Summary]:
    """Yield the summaries of all spans in order, of a span in doubt tile by tile; `first` and `end` are multiples
    of a tile's width.
    """
    summarize_index(hints.url)
    # spawn: the parent holds database connections, which a forked child must not share
    context = multiprocessing.get_context("spawn")
    processes = os.cpu_count() or 1
    under_way: deque[Future[list[Summary]]] = deque()
    with ProcessPoolExecutor(processes, context, open_checker, (hints,)) as pool:
        try:
            for start in range(first, end, SPAN):
                under_way.append(pool.submit(check_span, start, min(start + SPAN, end)))
                if len(under_way) > AHEAD * processes:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def fits(summary: Summary, history: History, hints: Hints) -> bool:
    """Tell whether a clean span follows what the log established before it, under the keys the log names."""
    if summary.doubt is not None:
        return False
    for stn, segment in summary.segments.items():
        head = history.stations.get(stn)
        wanted = (0, 0, ZERO_HASH) if head is None else (head.ep, head.seq + 1, head.env_id)
        ep, seq, prev = segment.first
        if (seq, prev) != (wanted[1], b64u_encode(wanted[2])) or (head is not None and ep != wanted[0]):
            return False
    try:
        for (stn, kid), (low, high) in summary.keys.items():
            key = hints.keys[kid]
            if any(history.keys.station_key(stn, kid, idx) != key for idx in (low, high)):
                return False
        for idx, entry in summary.events:
            event = parse_event(entry.body)
            key = hints.service_keys[event.kid]
            if event.typ in KEY_EVENTS or history.keys.service_key(event.kid, idx) != key:
                return False
    except EnvelopeError:
        return False
    return True


def take_summary(summary: Summary, history: History) -> None:
    """Let a span that fits count as if its entries had been taken one by one."""
    for idx, entry in summary.events:
        history.signatures.vouch(idx)
        history.take(idx, entry)
    for stn, segment in summary.segments.items():
        history.stations[stn] = StationHead(*segment.last)
        history.last_at_ms[stn] = max(segment.last_ms, history.last_at_ms.get(stn, segment.last_ms))
    history.report.envelopes += summary.envelopes
    history.place = summary.end - 1
