"""Custody: who looked at which evidence and who took it along, once per account, object and UTC day."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa
import structlog

from emdi.keys import Signer
from stackwitness import clock
from stackwitness.db.unit import unit_of_work
from stackwitness.log.events import append_event, lock_subject
from stackwitness.log.queries import find_successor

Act = Literal["evidence.viewed", "evidence.downloaded"]
What = Literal["flag", "export"]
MOST_REMEMBERED = 10_000
log = structlog.get_logger("custody")


@dataclass(frozen=True)
class Look:
    """One entry of the custody log: who did what, when it was signed, and the event (32-byte id)."""

    act: Act
    account_id: str
    at: datetime
    event_id: bytes


class Custody:
    """Write down looks at evidence. What this process has written today it need not ask the database about."""

    def __init__(self, engine: sa.Engine, signer: Signer) -> None:
        self._engine = engine
        self._signer = signer
        self._written: set[tuple[str, str, str, str, str]] = set()
        self._lock = threading.Lock()

    def note(
        self, act: Act, *, stns: Sequence[str], what: What, object_id: str, account_id: str, agency: str
    ) -> None:
        """Have the log know that an account sees (or takes) an object of these stations, before it does.

        Every station's own chain says so, all in one transaction: whoever is left only one of them sees it there.
        A frozen log signs no look any more: the process's own log says it instead.
        `agency` is whose stations the account sees. Raises DatabaseUnavailable: then nothing may be shown.
        """
        day = clock.now_utc().strftime("%Y-%m-%d")
        key = (act, what, object_id, account_id, day)
        with self._lock:
            if key in self._written:
                return
        with unit_of_work(self._engine, "sw_review", agency) as conn:
            if find_successor(conn) is not None:
                log.info("custody.frozen", act=act, what=what, object=object_id, account=account_id)
            else:
                for stn in sorted(set(stns)):
                    if not _is_written(conn, stn, *key):
                        _write(conn, self._signer, stn, *key)
        with self._lock:
            if len(self._written) >= MOST_REMEMBERED:
                self._written.clear()
            self._written.add(key)


def list_looks(conn: sa.Connection, what: What, object_id: str) -> list[Look]:
    """Return who looked at an object or took it, oldest first; one look is one, on however many chains it stands."""
    query = sa.text(
        "SELECT DISTINCT ON (l.recv_ms, l.account_id, l.day, l.typ) l.* FROM (SELECT c.typ, c.account_id, c.day,"
        " min(e.recv_ms) OVER (PARTITION BY c.typ, c.account_id, c.day) AS recv_ms, c.event_id, c.stn"
        " FROM custody c JOIN event e USING (event_id) WHERE c.what = :what AND c.object_id = :object_id) l"
        " ORDER BY l.recv_ms, l.account_id, l.day, l.typ, l.stn"
    )
    rows = conn.execute(query, {"what": what, "object_id": object_id})
    return [
        Look(row.typ, row.account_id, datetime.fromtimestamp(row.recv_ms / 1000, UTC), bytes(row.event_id))
        for row in rows
    ]


def _is_written(
    conn: sa.Connection, stn: str, act: str, what: str, object_id: str, account_id: str, day: str
) -> bool:
    query = (
        "SELECT EXISTS (SELECT FROM custody WHERE typ = :act AND what = :what AND object_id = :object_id"
        " AND account_id = :account_id AND day = CAST(:day AS date) AND stn = :stn)"
    )
    given = {
        "act": act,
        "what": what,
        "object_id": object_id,
        "account_id": account_id,
        "day": day,
        "stn": stn,
    }
    return bool(conn.scalar(sa.text(query), given))


def _write(
    conn: sa.Connection,
    signer: Signer,
    stn: str,
    act: str,
    what: str,
    object_id: str,
    account_id: str,
    day: str,
) -> None:
    subject = f"station:{stn}"
    lock_subject(conn, subject)
    if _is_written(conn, stn, act, what, object_id, account_id, day):  # another process was first
        return
    named = {"export_id": object_id} if act == "evidence.downloaded" else {"what": what, "id": object_id}
    event = append_event(
        conn, signer, typ=act, subj=subject, act=account_id, data={**named, "by": account_id, "day": day}
    )
    conn.execute(
        sa.text(
            "INSERT INTO custody (event_id, typ, stn, what, object_id, account_id, day)"
            " VALUES (:event_id, :typ, :stn, :what, :object_id, :account_id, CAST(:day AS date))"
        ),
        {
            "event_id": event.event_id,
            "typ": act,
            "stn": stn,
            "what": what,
            "object_id": object_id,
            "account_id": account_id,
            "day": day,
        },
    )
