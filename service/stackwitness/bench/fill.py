"""Fill a database with sealed envelopes by COPY, as ingest stores them, without HTTP: for benches of the log."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from itertools import chain

from emdi.chain import StationHead
from emdi.envelope import ZERO_HASH, parse_columns, seal_envelope
from emdi.event import seal_key_proof
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness import clock
from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.bench.fleet import CHANNELS, MINUTE_MS, START_MS
from stackwitness.db.timescale import ensure_months
from stackwitness.db.unit import unit_of_work
from stackwitness.ingest import queries
from stackwitness.ingest.domain import Checked, PinnedChannel
from stackwitness.ingest.rows import copy_file, joined, pack_envelope, pack_readings
from stackwitness.stations import flow, keys
from stackwitness.stations.domain import NewKey, Station
from stackwitness.stations.queries import list_channels
from stackwitness.wiring import Wiring

STATIONS = 64
TURN = 200  # envelopes of each station between two commits

Job = tuple[str, bytes, int, int, bytes]  # stn, seed of its key, first seq, count, prev


def fill(wiring: Wiring, envelopes: int, stations: int = STATIONS) -> Iterator[int]:
    """Store at least so many 12-reading envelopes of chained minutes; yield the number stored so far."""
    seeds = {f"fill-{n:03d}": n.to_bytes(32, "big") for n in range(1, stations + 1)}
    channels = {stn: register(wiring, stn, seed) for stn, seed in seeds.items()}
    heads = dict.fromkeys(seeds, (0, ZERO_HASH))
    stored = 0
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        while stored < envelopes:
            jobs = [(stn, seeds[stn], heads[stn][0], TURN, heads[stn][1]) for stn in seeds]
            for sealed in pool.map(seal_run, jobs):
                stn, last = sealed[0][1], sealed[-1]
                heads[stn] = (last[3] + 1, last[0])
                store(wiring, [jws for *_, jws in sealed], channels[stn])
                stored += len(sealed)
            yield stored


def seal_run(job: Job) -> list[tuple[bytes, str, int, int, bytes]]:
    """Return (env_id, stn, ep, seq, jws) of consecutive envelopes of one station."""
    stn, seed, first, count, prev = job
    key = LocalKey.from_seed(seed, f"{stn}-1")
    made = []
    for seq in range(first, first + count):
        at_ms = START_MS + seq * MINUTE_MS
        records = [
            Record(c.name, at_ms, c.unit, Decimal((seq * 37 + n * 101) % 9000 + 10).scaleb(-2), "N")
            for n, c in enumerate(CHANNELS)
        ]
        envelope = seal_envelope(
            key, stn=stn, ep=0, seq=seq, prev=prev, iat_ms=at_ms + 500, cp=None, records=records
        )
        prev = envelope.env_id
        made.append((envelope.env_id, stn, 0, seq, envelope.jws))
    return made


def register(wiring: Wiring, stn: str, seed: bytes) -> dict[str, PinnedChannel]:
    """Register a station, its channels and the key `<stn>-1` of a seed; return its channels by name."""
    key = LocalKey.from_seed(seed, f"{stn}-1")
    with unit_of_work(wiring.engine) as conn:
        for name in ("bench", "bench-2"):
            grant_access(conn, wiring.service_key, Account(name, name, "operator"), act="service:bench")
        station = Station(stn, stn, "bench", "bench")
        flow.register_station(conn, wiring.service_key, station, CHANNELS, act="bench")
        new = NewKey(key.kid, "Ed25519", key.public.raw, seal_key_proof(key, stn))
        keys.request_key(conn, wiring.service_key, stn, new, act="bench")
        keys.approve_key(conn, wiring.service_key, stn, new.kid, act="bench-2")
        return {c.name: PinnedChannel(c.channel_no, c.unit) for c in list_channels(conn, stn)}


def store(wiring: Wiring, sealed: Sequence[bytes], channels: dict[str, PinnedChannel]) -> None:
    """Store consecutive envelopes of one station with their readings and its head, in one transaction."""
    checked = []
    for jws in sealed:
        envelope, readings = parse_columns(jws)
        times = readings.at_ms
        rows = pack_readings(readings, channels)
        checked.append(Checked(envelope, rows, min(times), max(times), ((min(times), max(times)),)))
    last = checked[-1]
    with unit_of_work(wiring.engine) as conn:
        span = (queries.to_instant(checked[0].first_ms), queries.to_instant(last.last_ms))
        ensure_months(conn, *span)
        raw, recv_ms = queries.raw_of(conn), clock.now_ms()
        query = "SELECT nextval('envelope_no_seq') FROM generate_series(1, %s)"
        numbers = [row[0] for row in raw.execute(query, [len(checked)]).fetchall()]
        numbered = list(zip(checked, numbers, strict=True))
        queries.copy_envelopes(raw, copy_file(pack_envelope(c, no, recv_ms) for c, no in numbered))
        queries.copy_readings(raw, copy_file(chain(joined(c.rows, no) for c, no in numbered)))
        head = StationHead(last.envelope.ep, last.envelope.seq, last.envelope.env_id)
        queries.store_heads(raw, {last.envelope.stn: (head, last.last_ms)})
