"""Anchors as the database has them: the events that name them."""

from contextlib import suppress

import sqlalchemy as sa

from emdi.anchor import ANCHORED, Anchor, anchor_of
from emdi.entry import KIND_EVENT
from emdi.errors import EmdiError
from emdi.event import parse_event


def read_anchors(conn: sa.Connection, below: int | None = None) -> list[Anchor]:
    """Return every anchor the log has an event of, oldest first; with `below` those logged at a lower index.

    An event that states none is passed over: fsck and monitors name it.
    """
    query = "SELECT jws FROM event e WHERE subj = 'log' AND typ = :typ"
    if below is not None:
        query += (
            " AND EXISTS (SELECT FROM log_entry l WHERE l.entry_id = e.event_id"
            " AND l.kind = :kind AND l.idx < :below)"
        )
    found = conn.execute(
        sa.text(query + " ORDER BY sseq"), {"typ": ANCHORED, "kind": KIND_EVENT, "below": below}
    )
    anchors = []
    for jws in found.scalars():
        with suppress(EmdiError):
            anchors.append(anchor_of(parse_event(bytes(jws))))
    return anchors
