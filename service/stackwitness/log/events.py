"""Governance events: signed JWS, chained per subject, each a leaf of the log."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from emdi.event import Event, seal_event
from emdi.keys import Signer
from emdi.legible import hides, refuse_name
from emdi.tables import salted_sha256
from stackwitness import clock
from stackwitness.db.locks import SERVICE_KEY_LOCK
from stackwitness.errors import Unprocessable
from stackwitness.log.service_keys import live_key

ZERO_ID = bytes(32)
MAX_WHY = 500


@dataclass(frozen=True)
class SubjectHead:
    """The last event of a subject: its number and its id (32 bytes)."""

    sseq: int
    event_id: bytes


def append_event(
    conn: sa.Connection,
    signer: Signer,
    *,
    typ: str,
    subj: str,
    act: str,
    ref: Sequence[Any] = (),
    data: Mapping[str, Any],
) -> Event:
    """Seal the next event of a subject and store it in the caller's transaction.

    The subject stays locked until that transaction ends, so a number is never given twice and never skipped;
    the row's leaf is queued by the database's own trigger. Callers holding several subjects lock them in
    bytewise order. The key in use signs, whatever `signer` held before (ServiceKeyUnusable).
    """
    head = lock_subject(conn, subj)
    ts_ms = clock.now_ms()
    event = seal_event(
        live_key(conn, signer),
        typ=typ,
        subj=subj,
        sseq=0 if head is None else head.sseq + 1,
        sprev=ZERO_ID if head is None else head.event_id,
        act=act,
        ts_ms=ts_ms,
        ref=tuple(ref),
        data=dict(data),
    )
    _store(conn, event, ts_ms)
    return event


def append_explained(
    conn: sa.Connection,
    signer: Signer,
    *,
    typ: str,
    subj: str,
    act: str,
    why: str,
    data: Mapping[str, Any],
) -> Event:
    """Append an event whose reason stays out of the log: `why_sha256` names it, a row of its own holds salt and words.

    So the words can be withheld from a bundle, and what is shown later is held against the event. Raises
    Unprocessable event.why for words that say nothing, or are not seen as they are written.
    """
    check_why(why)
    salt = secrets.token_bytes(32)
    data = {**data, "why_sha256": salted_sha256(salt, why).hex()}
    event = append_event(conn, signer, typ=typ, subj=subj, act=act, data=data)
    conn.execute(
        sa.text("INSERT INTO explanation (event_id, salt, why) VALUES (:event_id, :salt, :why)"),
        {"event_id": event.event_id, "salt": salt, "why": why},
    )
    return event


def check_why(why: str) -> None:
    """Raise Unprocessable event.why unless these are words, without letters that hide, turn or break a line."""
    if any(map(hides, why)) or not 0 < len(why.strip()) <= MAX_WHY:
        raise Unprocessable("event.why", f"Say why, in 1 to {MAX_WHY} visible characters on one line")


def check_names(**names: str | None) -> None:
    """Raise Unprocessable name.letters for a name that reads otherwise than it is signed: `field=name`."""
    for field, name in names.items():
        if refused := refuse_name(name or ""):
            detail = f"{field}: {refused}"
            raise Unprocessable(
                "name.letters", "A name must read as it is written", detail=detail, field=field
            )


def lock_subject(conn: sa.Connection, subj: str) -> SubjectHead | None:
    """Lock a subject until the transaction ends and return its head; None when it has no event yet.

    The advisory lock covers the subject that has no row to lock. Waiting on it is a statement of its own, so
    that the read after it takes a snapshot younger than the commit it waited for. The first lock is shared by
    all who append: the change of the service's key alone takes it for itself, so no event of the old key comes behind it.
    """
    conn.execute(
        sa.text(
            "SELECT pg_advisory_xact_lock_shared(:keys), pg_advisory_xact_lock(hashtextextended('subject:' || :subj, 0))"
        ),
        {"keys": SERVICE_KEY_LOCK, "subj": subj},
    )
    return read_subject(conn, subj, for_update=True)


def read_subject(conn: sa.Connection, subj: str, *, for_update: bool = False) -> SubjectHead | None:
    """Return the head of a subject; None when it has no event yet."""
    query = "SELECT sseq, event_id FROM subject_head WHERE subj = :subj"
    row = conn.execute(sa.text(query + (" FOR UPDATE" if for_update else "")), {"subj": subj}).one_or_none()
    return None if row is None else SubjectHead(row.sseq, bytes(row.event_id))


def _store(conn: sa.Connection, event: Event, recv_ms: int) -> None:
    row = {
        "event_id": event.event_id,
        "typ": event.typ,
        "subj": event.subj,
        "sseq": event.sseq,
        "sprev": event.sprev,
        "jws": event.jws,
        "recv_ms": recv_ms,
    }
    conn.execute(
        sa.text(
            "INSERT INTO event (event_id, typ, subj, sseq, sprev, jws, recv_ms) "
            "VALUES (:event_id, :typ, :subj, :sseq, :sprev, :jws, :recv_ms)"
        ),
        row,
    )
    conn.execute(
        sa.text(
            "INSERT INTO subject_head (subj, sseq, event_id) VALUES (:subj, :sseq, :event_id) "
            "ON CONFLICT (subj) DO UPDATE SET sseq = excluded.sseq, event_id = excluded.event_id"
        ),
        row,
    )
