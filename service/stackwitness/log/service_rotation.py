"""Change the key that signs events: the old one signs that the new one follows, the new one that it follows the old.

Cut off anywhere, the same command goes on: the new key's file is named `.next.pem` until its event is stored, and running
processes find whichever file there is.
"""

import os

import sqlalchemy as sa

from emdi.encoding import b64u_encode
from emdi.keys import LocalKey
from emdi.service_keys import SERVICE_COMPROMISE, SERVICE_KEY, SUBJECT, seal_service_proof
from stackwitness.db.embedded import locked
from stackwitness.db.locks import SERVICE_KEY_LOCK
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, Unprocessable
from stackwitness.log.errors import LogForked
from stackwitness.log.events import append_event, append_explained, lock_subject
from stackwitness.log.genesis import read_genesis
from stackwitness.log.sequencer import read_head
from stackwitness.log.service_keys import (
    FIRST_KID,
    NEXT,
    ServiceKey,
    live_key,
    read_live_kid,
    read_spans,
    save_key,
)


def rotate_service_key(engine: sa.Engine, service_key: ServiceKey, *, act: str) -> str:
    """Have a new key follow the one in use and return its id; finishes what an interrupted call began.

    From the next event on every process signs with the new key. Raises LogForked without a leaf 0,
    ServiceKeyUnusable, DatabaseUnavailable.
    """
    folder = service_key.key_dir
    with locked(folder / "lock"):
        with unit_of_work(engine, "sw_seq") as conn:
            old_kid = read_live_kid(conn) or FIRST_KID
        draft = folder / f"{old_kid}{NEXT}"
        if draft.exists():  # its event is stored, only the name was still to be changed
            _settle(draft)
            return old_kid
        number = int(old_kid.rpartition("-")[2]) + 1
        kid = f"service-{number}"
        draft = folder / f"{kid}{NEXT}"
        if not draft.exists():
            save_key(LocalKey.generate("Ed25519", kid), draft)
        _log_succession(engine, service_key, old_kid, LocalKey.load(draft, kid), act)
        _settle(draft)
        return kid


def _log_succession(
    engine: sa.Engine, service_key: ServiceKey, old_kid: str, new: LocalKey, act: str
) -> None:
    with unit_of_work(engine, "sw_seq") as conn:
        # Whoever has begun to append is waited for; whoever begins later finds the new key.
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:keys)"), {"keys": SERVICE_KEY_LOCK})
        lock_subject(conn, SUBJECT)
        genesis = read_genesis(conn)
        if genesis is None:
            raise LogForked("this database has no leaf 0")
        old = live_key(conn, service_key)
        if old.kid != old_kid:
            raise LogForked(f"key {old_kid} was followed by {old.kid} meanwhile, from another folder of keys")
        data = {
            "kid": new.kid,
            "alg": new.public.alg,
            "public_b64u": b64u_encode(new.public.raw),
            "old_kid": old.kid,
            "proof": seal_service_proof(new, genesis.origin, old.kid, old.public),
        }
        event = append_event(conn, old, typ=SERVICE_KEY, subj=SUBJECT, act=act, data=data)
        conn.execute(
            sa.text(
                "INSERT INTO service_key (kid, old_kid, alg, public_key, event_id)"
                " VALUES (:kid, :old_kid, :alg, :public_key, :event_id)"
            ),
            {**data, "public_key": new.public.raw, "event_id": event.event_id},
        )


def _settle(draft: "os.PathLike[str]") -> None:
    """Give the key its lasting name."""
    text = os.fspath(draft)
    os.rename(text, f"{text.removesuffix(NEXT)}.pem")


def declare_compromise(
    engine: sa.Engine, service_key: ServiceKey, kid: str, suspect_from_idx: int, why: str, *, act: str
) -> None:
    """Log that what an ended key of the service signed from an index on is suspect; nothing is deleted.

    Raises NotFound service_key.unknown, Unprocessable service_key.live | service_key.from.
    """
    with unit_of_work(engine, "sw_seq") as conn:
        lock_subject(conn, SUBJECT)
        span = next((span for span in read_spans(conn, service_key) if span.kid == kid), None)
        if span is None:
            raise NotFound("service_key.unknown", "The service never had such a key")
        if span.until_idx is None:
            raise Unprocessable("service_key.live", "Rotate first: this key signs events")
        if not 0 <= suspect_from_idx < read_head(conn).size:
            raise Unprocessable("service_key.from", "suspect_from_idx is an index of this log")
        data = {"kid": kid, "suspect_from_idx": suspect_from_idx}
        append_explained(conn, service_key, typ=SERVICE_COMPROMISE, subj=SUBJECT, act=act, why=why, data=data)
