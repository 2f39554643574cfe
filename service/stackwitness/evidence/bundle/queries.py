"""SQL of a bundle's content: which entries belong to it, and the projections of them."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from emdi.chain import StationHead
from emdi.scope import Run, StationScope

# The entries of one bundle: leaf 0, every event of the subjects (of the log's own: up to the head that ends the
# bundle), what was set aside from the stations, and their envelopes in the runs.
_CHOSEN = """
    SELECT e.idx FROM log_entry e WHERE e.idx = 0
    UNION
    SELECT e.idx FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    WHERE w.subj = ANY(:subjects) AND (e.idx < :as_of OR w.subj = 'log' AND e.idx <= :head_idx)
    UNION
    SELECT e.idx FROM quarantine q JOIN log_entry e ON e.kind = 3 AND e.entry_id = q.env_id
    WHERE q.stn = ANY(:stns) AND e.idx < :as_of
    UNION
    SELECT e.idx FROM run r JOIN envelope v ON v.stn = r.stn AND (v.ep, v.seq) BETWEEN (r.ep_a, r.seq_a) AND (r.ep_b, r.seq_b)
    JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id WHERE e.idx < :as_of
"""
_RUNS = """
    WITH run AS (SELECT * FROM unnest(CAST(:run_stn AS text[]), CAST(:ep_a AS bigint[]), CAST(:seq_a AS bigint[]),
                                      CAST(:ep_b AS bigint[]), CAST(:seq_b AS bigint[])) AS r (stn, ep_a, seq_a, ep_b, seq_b))
"""
ENVELOPES_AT_ONCE = 64
# The rows are found first, whatever the planner thinks of the joins after them: the key of a reading is (channel, time,
# envelope), so a few envelopes' rows are a short range of each channel.
_READINGS = """
    WITH chosen AS MATERIALIZED (
        SELECT r.at, r.channel_no, r.envelope_no, r.value, r.status FROM reading r
        WHERE r.channel_no = ANY(ARRAY(SELECT channel_no FROM channel WHERE stn = ANY(:stns)))
              AND r.at BETWEEN :first_at AND :last_at AND r.envelope_no = ANY(:numbers))
    SELECT e.idx, v.stn, v.ep, v.seq, CAST(extract(epoch FROM r.at) * 1000 AS bigint) AS at_ms, c.name, c.unit,
           r.value, r.status::text AS status
    FROM chosen r
    JOIN envelope v USING (envelope_no)
    JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    JOIN channel c ON c.channel_no = r.channel_no
    ORDER BY e.idx, r.at, c.name COLLATE "C"
"""
# Entries of the log whose index or whose bytes the database no longer has.
_LOST = """
    SELECT g.idx FROM (
        SELECT p.idx, lead(p.idx, 1, CAST(:size AS bigint)) OVER (ORDER BY p.idx) AS following
        FROM (SELECT CAST(-1 AS bigint) AS idx UNION ALL SELECT idx FROM log_entry WHERE idx < :size) p) w,
        LATERAL generate_series(w.idx + 1, w.following - 1) AS g (idx)
    UNION ALL
    SELECT e.idx FROM log_entry e WHERE e.idx < :size AND NOT (
        e.kind = 0
        OR e.kind = 1 AND EXISTS (SELECT FROM envelope v WHERE v.env_id = e.entry_id)
        OR e.kind = 2 AND EXISTS (SELECT FROM event w WHERE w.event_id = e.entry_id)
        OR e.kind = 3 AND EXISTS (SELECT FROM quarantine q WHERE q.env_id = e.entry_id))
    ORDER BY idx LIMIT :most
"""
_TOUCHING = """
    SELECT v.ep, v.seq, e.idx FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    WHERE v.stn = :stn AND e.idx < :as_of AND e.idx >= :first_idx AND e.idx < :end_idx
          AND (v.first_at < :to_at AND v.last_at >= :from_at OR v.recv_ms >= :from_ms AND v.recv_ms < :to_ms)
    ORDER BY v.ep, v.seq
"""
_KNOWN = """
    SELECT e.idx FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    WHERE w.subj = ANY(:subjects) AND e.idx >= :first
    UNION ALL
    SELECT e.idx FROM quarantine q JOIN log_entry e ON e.kind = 3 AND e.entry_id = q.env_id
    WHERE q.stn = ANY(:stns) AND e.idx >= :first
    UNION ALL
    SELECT e.idx FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    WHERE v.stn = ANY(:stns) AND e.idx >= :first
"""
_TEXTS = """
    SELECT r.event_id, r.salt, r.reason AS said, w.subj FROM review r JOIN event w USING (event_id)
    WHERE w.subj = ANY(:subjects)
    UNION ALL
    SELECT x.event_id, x.salt, x.why, w.subj FROM explanation x JOIN event w USING (event_id) WHERE w.subj = ANY(:subjects)
    UNION ALL
    SELECT a.event_id, a.salt, a.display_name, w.subj FROM account a JOIN event w USING (event_id)
    WHERE w.subj = ANY(:subjects) AND a.salt IS NOT NULL
    ORDER BY 1
"""


class Touching(NamedTuple):
    """An envelope of the period: its place in the station's chain and in the log."""

    ep: int
    seq: int
    idx: int


class Choice(NamedTuple):
    """What names the entries of a bundle: subjects, stations and their runs, below `as_of`."""

    subjects: tuple[str, ...]
    stations: tuple[StationScope, ...]
    as_of: int
    head_idx: int

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the queries over the chosen entries."""
        runs = [(station.stn, *run) for station in self.stations for run in station.runs]
        columns = [list(column) for column in zip(*runs, strict=True)] or [[], [], [], [], []]
        named = dict(zip(("run_stn", "ep_a", "seq_a", "ep_b", "seq_b"), columns, strict=True))
        stns = [station.stn for station in self.stations]
        return {
            **named,
            "stns": stns,
            "subjects": list(self.subjects),
            "as_of": self.as_of,
            "head_idx": self.head_idx,
        }


def find_newest_ids(conn: Connection, stns: Sequence[str]) -> list[bytes]:
    """Return the ids of the stations' newest events and envelopes, by the caches.

    The newest envelope of a station that is silent since this log began stands in the log before it.
    """
    query = (
        "SELECT event_id AS id FROM subject_head WHERE subj = ANY(:subjects) "
        "UNION ALL SELECT env_id FROM station_head h WHERE stn = ANY(:stns) "
        "AND EXISTS (SELECT FROM envelope e WHERE e.env_id = h.env_id)"
    )
    given = {"stns": list(stns), "subjects": [f"station:{stn}" for stn in stns]}
    return [bytes(item) for item in conn.scalars(text(query), given)]


def find_touching(
    conn: Connection,
    stn: str,
    from_at: datetime,
    to_at: datetime,
    period_ms: tuple[int, int],
    entries: tuple[int, int],
    as_of: int,
) -> list[Touching]:
    """Return the envelopes whose readings touch the period, or that came in it, in the chain's order."""
    given = {
        "stn": stn,
        "from_at": from_at,
        "to_at": to_at,
        "from_ms": period_ms[0],
        "to_ms": period_ms[1],
        "first_idx": entries[0],
        "end_idx": entries[1],
        "as_of": as_of,
    }
    return [Touching(row.ep, row.seq, row.idx) for row in conn.execute(text(_TOUCHING), given)]


def find_beside(
    conn: Connection, stn: str, place: tuple[int, int], as_of: int, *, after: bool
) -> tuple[int, int] | None:
    """Return (ep, seq) of the envelope right after a place of the chain, or right before it."""
    sign, order = (">", "ASC") if after else ("<", "DESC")
    query = (
        "SELECT v.ep, v.seq FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id "
        f"WHERE v.stn = :stn AND (v.ep, v.seq) {sign} (:ep, :seq) AND e.idx < :as_of "
        f"ORDER BY v.ep {order}, v.seq {order} LIMIT 1"
    )
    given = {"stn": stn, "ep": place[0], "seq": place[1], "as_of": as_of}
    row = conn.execute(text(query), given).one_or_none()
    return None if row is None else (row.ep, row.seq)


def find_span(conn: Connection, stn: str, runs: Sequence[Run]) -> tuple[int, int]:
    """Return the log indexes of the first and the last envelope of a station's runs."""
    query = (
        "SELECT coalesce(min(e.idx), 0), coalesce(max(e.idx), 0) FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id "
        "WHERE v.stn = :stn AND (v.ep, v.seq) IN ((:ep_a, :seq_a), (:ep_b, :seq_b))"
    )
    given = {"stn": stn, "ep_a": runs[0][0], "seq_a": runs[0][1], "ep_b": runs[-1][2], "seq_b": runs[-1][3]}
    first, last = conn.execute(text(query), given).one()
    return first, last


def find_head(conn: Connection, stn: str, as_of: int) -> StationHead | None:
    """Return the station's last envelope below log index `as_of`, from the envelopes and not from the cache."""
    query = (
        "SELECT v.ep, v.seq, v.env_id FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id "
        "WHERE v.stn = :stn AND e.idx < :as_of ORDER BY v.ep DESC, v.seq DESC LIMIT 1"
    )
    row = conn.execute(text(query), {"stn": stn, "as_of": as_of}).one_or_none()
    return None if row is None else StationHead(row.ep, row.seq, bytes(row.env_id))


def read_events(conn: Connection, subjects: Sequence[str], below: int) -> Iterator[bytes]:
    """Yield the JWS of every logged event of the subjects below a log index."""
    query = (
        "SELECT w.jws FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id "
        "WHERE w.subj = ANY(:subjects) AND e.idx < :below"
    )
    statement = text(query).execution_options(yield_per=500)
    for row in conn.execute(statement, {"subjects": list(subjects), "below": below}):
        yield bytes(row.jws)


def find_known(conn: Connection, stns: Sequence[str], subjects: Sequence[str], first: int) -> set[int]:
    """Return the log indexes from `first` on that the database ascribes to these stations and subjects."""
    given = {"stns": list(stns), "subjects": list(subjects), "first": first}
    return set(conn.scalars(text(_KNOWN), given))


def find_lost(conn: Connection, size: int, most: int) -> list[int]:
    """Return the indexes below `size` that were logged and that the database has lost, at most `most`."""
    return list(conn.scalars(text(_LOST), {"size": size, "most": most}))


def count_entries(conn: Connection, choice: Choice) -> int:
    """Return how many entries are chosen."""
    return int(conn.scalar(text(f"{_RUNS} SELECT count(*) FROM ({_CHOSEN}) c"), choice.parameters()) or 0)


def read_entries(conn: Connection, choice: Choice) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (idx, kind, recv_ms, body) of every chosen entry, by idx; rows whose bytes are gone are left out."""
    query = f"""{_RUNS}
    SELECT b.idx, b.kind, b.recv_ms, b.body FROM ({_CHOSEN}) c JOIN log_bytes b USING (idx)
    WHERE b.body IS NOT NULL ORDER BY b.idx
    """
    for row in conn.execute(text(query).execution_options(yield_per=500), choice.parameters()):
        yield row.idx, row.kind, row.recv_ms, bytes(row.body)


def read_readings(conn: Connection, choice: Choice) -> Iterator[Sequence[Any]]:
    """Yield the stored readings of the chosen envelopes, by idx, time and channel: the projection, as it is.

    Columns: idx, stn, ep, seq, at_ms, channel, unit, value, status.
    """
    given = choice.parameters()
    query = f"""{_RUNS}
    SELECT v.envelope_no, v.first_at, v.last_at FROM run r
    JOIN envelope v ON v.stn = r.stn AND (v.ep, v.seq) BETWEEN (r.ep_a, r.seq_a) AND (r.ep_b, r.seq_b)
    JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id WHERE e.idx < :as_of ORDER BY e.idx
    """
    numbers = conn.execute(text(query), given).all()
    for start in range(0, len(numbers), ENVELOPES_AT_ONCE):
        some = numbers[start : start + ENVELOPES_AT_ONCE]
        within = {
            "stns": given["stns"],
            "numbers": [row.envelope_no for row in some],
            "first_at": min(row.first_at for row in some),
            "last_at": max(row.last_at for row in some),
        }
        yield from conn.execute(text(_READINGS), within)


def read_flags(conn: Connection, stns: Sequence[str], as_of: int) -> list[Row[Any]]:
    """Return the stations' flags below log index `as_of`, by idx."""
    query = (
        "SELECT e.idx, f.flag_id, f.detector, f.kind, f.verdict, f.from_at, f.to_at, f.channels, "
        "f.text_en, f.text_zh FROM flag f JOIN log_entry e ON e.kind = 2 AND e.entry_id = f.event_id "
        "WHERE f.stn = ANY(:stns) AND e.idx < :as_of ORDER BY e.idx"
    )
    return list(conn.execute(text(query), {"stns": list(stns), "as_of": as_of}))


def read_reviews(conn: Connection, stns: Sequence[str], as_of: int) -> list[Row[Any]]:
    """Return the reviews of the stations' flags below log index `as_of`, by idx."""
    query = (
        "SELECT e.idx, r.review_id, r.flag_id, r.decision, r.account_id FROM review r "
        "JOIN event w USING (event_id) JOIN log_entry e ON e.kind = 2 AND e.entry_id = r.event_id "
        "WHERE w.subj = ANY(:subjects) AND e.idx < :as_of ORDER BY e.idx"
    )
    given = {"subjects": [f"station:{stn}" for stn in stns], "as_of": as_of}
    return list(conn.execute(text(query), given))


def read_texts(conn: Connection, subjects: Sequence[str]) -> Iterator[Row[Any]]:
    """Yield the texts behind salted hashes: event_id, salt, said, subj, by event_id."""
    yield from conn.execute(text(_TEXTS), {"subjects": list(subjects)})
