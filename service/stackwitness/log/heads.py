"""Daily heads: what the newest entry of every station and subject was, published and signed.

A head covers exactly the entries below `as_of`, a published size: rows that wait, or stand higher, do not count.
Its file is on disk before the event that names it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast

import sqlalchemy as sa
import structlog

from emdi.encoding import b64u_encode
from emdi.head import format_head, head_root, parse_line, station_line, subject_line
from emdi.keys import Signer
from stackwitness import clock
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import LogFrozen, LogUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.queries import find_successor

SUBJECT = "log"
ACTOR = "service:log"
WITHIN_S = 60.0
POLL_S = 0.1
Occasion = Literal["schedule", "demand"]
log = structlog.get_logger("log")

# One step of an index per subject: a list of names from a cache could hide one.
_SUBJECTS = """
    WITH RECURSIVE named AS (
        (SELECT subj FROM event ORDER BY subj LIMIT 1)
        UNION ALL
        SELECT (SELECT e.subj FROM event e WHERE e.subj > n.subj ORDER BY e.subj LIMIT 1)
        FROM named n WHERE n.subj IS NOT NULL)
    SELECT n.subj, last.sseq, last.event_id FROM named n CROSS JOIN LATERAL (
        SELECT w.sseq, w.event_id FROM event w JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
        WHERE w.subj = n.subj AND e.idx < :as_of ORDER BY w.sseq DESC LIMIT 1) last
"""
_STATIONS = """
    WITH RECURSIVE named AS (
        (SELECT stn FROM envelope ORDER BY stn LIMIT 1)
        UNION ALL
        SELECT (SELECT v.stn FROM envelope v WHERE v.stn > n.stn ORDER BY v.stn LIMIT 1)
        FROM named n WHERE n.stn IS NOT NULL)
    SELECT n.stn, last.ep, last.seq, last.env_id FROM named n CROSS JOIN LATERAL (
        SELECT v.ep, v.seq, v.env_id FROM envelope v JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
        WHERE v.stn = n.stn AND e.idx < :as_of ORDER BY v.ep DESC, v.seq DESC LIMIT 1) last
"""
_WAITING_ENVELOPES = """
    SELECT v.stn, v.ep, v.seq, v.env_id FROM log_pending p JOIN envelope v ON v.env_id = p.entry_id WHERE p.kind = 1
"""
_WAITING_EVENTS = """
    SELECT w.subj, w.sseq, w.event_id FROM log_pending p JOIN event w ON w.event_id = p.entry_id WHERE p.kind = 2
"""
_COLUMNS = "as_of, date, lines, root, occasion, event_id"


@dataclass(frozen=True)
class DailyHead:
    """One head: `as_of` entries, the UTC date it was made, number of lines, root over them (32 bytes)."""

    as_of: int
    date: str
    lines: int
    root: bytes
    occasion: Occasion
    event_id: bytes

    @property
    def path(self) -> str:
        """Where its lines lie below the log's folder."""
        return f"heads/{self.as_of}"


class Heads:
    """Make the heads that are due, after each publication; for one thread, as a new one is after a restart."""

    def __init__(self, engine: sa.Engine, disk: Disk, signer: Signer, *, scheduled: bool = True) -> None:
        """Without `scheduled` heads are made only when somebody asks."""
        self._engine = engine
        self._scheduled = scheduled
        self._disk = disk
        self._signer = signer
        self._date = ""

    def make_due(self, size: int) -> DailyHead | None:
        """Make the head of the published `size` when the UTC day has none yet, or somebody waits for one.

        Returns None when none was due; none is in a frozen log. Raises OSError, DatabaseUnavailable: then it is still due.
        """
        if size == 0:
            return None
        today = clock.now_utc().strftime("%Y-%m-%d")
        with unit_of_work(self._engine, role="sw_seq") as conn:
            if find_successor(conn) is not None:
                return None
            scheduled = self._scheduled and today != self._date and find_of_date(conn, today) is None
            query = "SELECT max(request_no) FROM head_request WHERE at_least <= :size"
            waiting = conn.scalar(sa.text(query), {"size": size})
        made = None
        if scheduled or waiting is not None:
            made = make_head(
                self._engine, self._disk, self._signer, size, "schedule" if scheduled else "demand"
            )
        if waiting is not None:
            with unit_of_work(self._engine, role="sw_seq") as conn:
                conn.execute(
                    sa.text("DELETE FROM head_request WHERE request_no <= :no AND at_least <= :size"),
                    {"no": waiting, "size": size},
                )
        self._date = today
        return made


def make_head(
    engine: sa.Engine, disk: Disk, signer: Signer, as_of: int, occasion: Occasion = "demand"
) -> DailyHead:
    """Compute the head of the published size `as_of`, put its file on disk, seal the event; once per size.

    Raises OSError, DatabaseUnavailable.
    """
    with unit_of_work(engine, role="sw_seq") as conn:
        known = find_head(conn, as_of)
        lines = [] if known else read_lines(conn, as_of)
    if known is not None:
        return known
    with unit_of_work(engine, role="sw_seq") as conn:
        return seal_head(conn, disk, signer, as_of, lines, occasion)


def seal_head(
    conn: sa.Connection,
    disk: Disk,
    signer: Signer,
    as_of: int,
    lines: Sequence[str],
    occasion: Occasion = "demand",
) -> DailyHead:
    """Put the file of a head on disk and append its event, in the caller's transaction. Raises OSError."""
    date = clock.now_utc().strftime("%Y-%m-%d")
    head = DailyHead(as_of, date, len(lines), head_root(lines), occasion, bytes(32))
    disk.write(head.path, format_head(lines))
    data = {
        "as_of": as_of,
        "date": head.date,
        "lines": head.lines,
        "root_b64u": b64u_encode(head.root),
        "occasion": occasion,
    }
    event = append_event(conn, signer, typ="head.daily", subj=SUBJECT, act=ACTOR, data=data)
    sealed = replace(head, event_id=event.event_id)
    conn.execute(
        sa.text(
            f"INSERT INTO head_daily ({_COLUMNS}) VALUES (:as_of, :date, :lines, :root, :occasion, :event_id)"
        ),
        sealed.__dict__,
    )
    log.info("log.head", as_of=as_of, lines=head.lines, occasion=occasion)
    return sealed


def read_lines(conn: sa.Connection, as_of: int) -> list[str]:
    """Return the lines of the head over the entries [0, as_of), sorted bytewise."""
    given = {"as_of": as_of}
    lines = [
        station_line(row.stn, row.ep, row.seq, bytes(row.env_id))
        for row in conn.execute(sa.text(_STATIONS), given)
    ]
    lines += [
        subject_line(row.subj, row.sseq, bytes(row.event_id))
        for row in conn.execute(sa.text(_SUBJECTS), given)
    ]
    return sorted(lines)


def add_waiting(conn: sa.Connection, lines: Sequence[str]) -> list[str]:
    """Return the lines of the head over what the log holds, `lines`, and all that waits for it. Sorted bytewise."""
    rows = conn.execute(sa.text(_WAITING_ENVELOPES))
    waiting = [station_line(row.stn, row.ep, row.seq, bytes(row.env_id)) for row in rows]
    rows = conn.execute(sa.text(_WAITING_EVENTS))
    waiting += [subject_line(row.subj, row.sseq, bytes(row.event_id)) for row in rows]
    newest: dict[tuple[str, str], tuple[tuple[int, int], str]] = {}
    for text in [*lines, *waiting]:
        line = parse_line(text)
        place = ((line.ep or 0, line.seq), text)
        newest[line.kind, line.name] = max(place, newest.get((line.kind, line.name), place))
    return sorted(text for _, text in newest.values())


def request_head(engine: sa.Engine, at_least: int, within_s: float = WITHIN_S) -> DailyHead:
    """Have a head of at least `at_least` entries (a published size) made, and wait until its event is stored.

    Requests that wait together share one head, and a head that is already there is used. Raises LogUnavailable
    when the log process gives none in time, LogFrozen when there will be none.
    """
    with unit_of_work(engine, role="sw_export") as conn:
        known = find_newest(conn)
        if known is not None and known.as_of >= at_least:
            return known
        if (successor := find_successor(conn)) is not None:
            raise LogFrozen(successor)
        conn.execute(sa.text("INSERT INTO head_request (at_least) VALUES (:least)"), {"least": at_least})
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        with unit_of_work(engine, role="sw_export") as conn:
            known = find_newest(conn)
        if known is not None and known.as_of >= at_least:
            return known
    raise LogUnavailable(detail=f"the log process makes no head of {at_least} entries")


def find_head(conn: sa.Connection, as_of: int) -> DailyHead | None:
    """Return the head of one size."""
    return _find(conn, "WHERE as_of = :as_of", as_of=as_of)


def find_newest(conn: sa.Connection) -> DailyHead | None:
    """Return the head of the largest size."""
    return _find(conn, "")


def find_of_date(conn: sa.Connection, date: str) -> DailyHead | None:
    """Return the newest head made on a UTC date (YYYY-MM-DD)."""
    return _find(conn, "WHERE date = :date", date=date)


def list_heads(conn: sa.Connection, before: int | None, limit: int) -> list[DailyHead]:
    """Return heads, largest size first, below `before` when it is given."""
    query = f"SELECT {_COLUMNS} FROM head_daily WHERE CAST(:before AS bigint) IS NULL OR as_of < :before"
    rows = conn.execute(
        sa.text(query + " ORDER BY as_of DESC LIMIT :limit"), {"before": before, "limit": limit}
    )
    return [_head(row) for row in rows]


def _find(conn: sa.Connection, where: str, **given: object) -> DailyHead | None:
    query = f"SELECT {_COLUMNS} FROM head_daily {where} ORDER BY as_of DESC LIMIT 1"
    row = conn.execute(sa.text(query), given).one_or_none()
    return None if row is None else _head(row)


def _head(row: sa.Row[tuple[object, ...]]) -> DailyHead:
    return DailyHead(
        row.as_of, row.date, row.lines, bytes(row.root), cast(Occasion, row.occasion), bytes(row.event_id)
    )


def is_date(text: str) -> bool:
    """Tell whether a text is a date YYYY-MM-DD."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).strftime("%Y-%m-%d") == text
    except ValueError:
        return False
