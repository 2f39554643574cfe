"""Exports of a frozen log: no event can name them, so the same question is the same export, byte for byte."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from emdi.errors import EmdiError
from emdi.note import parse_note
from emdi.policy import Policy, parse_policy
from emdi.scope import frozen_export_id
from stackwitness.errors import Conflict, LogFrozen, LogUnavailable
from stackwitness.evidence import queries
from stackwitness.evidence.domain import Export, ms_of
from stackwitness.log.disk import lock_file
from stackwitness.log.genesis import read_genesis
from stackwitness.log.policies import read_policy
from stackwitness.log.queries import find_successor
from stackwitness.log.shards import End, find_end

NO_LAST_HEAD = (
    "it was frozen without a last head over all it holds, so nothing could show a bundle of it to be whole"
)


def ask_frozen(conn: Connection, draft: Export, *, defer: bool) -> Export | None:
    """Store a request to a frozen log and queue its building; None while the log still takes events.

    One that was made already is returned as it is. Raises LogFrozen for a log whose end no head covers.
    """
    if find_successor(conn) is None:
        return None
    size = find_covered_end(conn).freeze.size
    genesis = read_genesis(conn)
    if genesis is None:
        raise LogUnavailable(detail="the log has no leaf 0")
    export_id = frozen_export_id(
        genesis.origin,
        size,
        draft.stns,
        (ms_of(draft.from_at), ms_of(draft.to_at)),
        draft.entries,
        draft.account_id,
        draft.purpose,
        redacted=draft.redacted,
    )
    queries.insert_frozen(conn, replace(draft, export_id=export_id))
    kept = queries.find_export(conn, export_id)
    assert kept is not None
    if kept.state != "done" or not queries.is_kept(conn, export_id):
        queries.queue_frozen(conn, export_id)
        kept = replace(kept, state="queued", error=None)
    if defer:
        queries.defer_build(conn, export_id)
    return kept


def find_covered_end(conn: Connection) -> End:
    """Return how a frozen log ended; raise LogFrozen where the head does not cover the log."""
    end = find_end(conn)
    if end is None:
        raise LogFrozen(find_successor(conn) or "", why=NO_LAST_HEAD)
    return end


def keep_bundled(conn: Connection, export: Export, manifest_sha256: bytes, note: bytes) -> None:
    """Note what the bundle holds; and keep its checkpoint, once enough witnesses signed it, for all that come after.

    Witnesses cosign an idle log too: with each minute's signatures the same question would give other bytes.
    """
    kept = None
    with suppress(EmdiError):
        parse_policy(read_policy(conn) or "").check(note)
        kept = note
    queries.set_bundled(conn, export.export_id, manifest_sha256, kept)


def find_kept(conn: Connection, policy: Policy, published: bytes) -> bytes:
    """Return the checkpoint that the first bundle was made with; the published one, where none holds that is the same tree.

    The row is nobody's proof: whoever edits it must not spoil the bundles that come after.
    """
    ended = parse_note(published).text
    for note in queries.list_kept_checkpoints(conn):
        with suppress(EmdiError):
            if policy.check(note).text == ended:
                return note
    return published


@contextmanager
def alone(export: Export, folder: Path) -> Iterator[None]:
    """Keep others from writing the same members: the same question gives the same folder.

    Raises Conflict("export.building") while another process writes it.
    """
    if not export.frozen:
        yield
        return
    path = folder.with_suffix(".lock")
    lock = lock_file(path)
    # One without a name was taken away by who held it before: whoever comes next makes a file of his own.
    if lock is None or not os.fstat(lock.fileno()).st_nlink:
        raise Conflict("export.building", "This bundle is being made right now")
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
