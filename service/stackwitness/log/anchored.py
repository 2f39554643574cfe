"""Anchors as the log has them: the events that name them, the files beside the tiles."""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from emdi.entry import KIND_EVENT
from emdi.event import parse_event

FOLDER = "anchors"
CHAIN = "tsa-chain.pem"
ANCHORED = "anchor.tsa"
_NAME = re.compile(r"(0|[1-9][0-9]{0,18})\.(?:note|[0-9]\.tsr)|" + re.escape(CHAIN))


@dataclass(frozen=True)
class Anchor:
    """One time stamp as the log's event states it: on a note of `size` entries, by the authority `tsa` (URL),
    whose number `k` is in the name of its file.
    """

    size: int
    k: int
    tsa: str
    note_sha256: str
    tsr_sha256: str
    gen_time_ms: int

    @property
    def file(self) -> str:
        """Return the name of the response's file."""
        return f"{self.size}.{self.k}.tsr"


def is_anchor_file(name: str) -> bool:
    """Tell whether a file of this name belongs among the anchors."""
    return name.isascii() and _NAME.fullmatch(name) is not None


def read_anchors(conn: sa.Connection, below: int | None = None) -> list[Anchor]:
    """Return every anchor the log has an event of, oldest first; with `below` those logged at a lower index."""
    query = "SELECT jws FROM event e WHERE subj = 'log' AND typ = :typ"
    if below is not None:
        query += (
            " AND EXISTS (SELECT FROM log_entry l WHERE l.entry_id = e.event_id"
            " AND l.kind = :kind AND l.idx < :below)"
        )
    found = conn.execute(
        sa.text(query + " ORDER BY sseq"), {"typ": ANCHORED, "kind": KIND_EVENT, "below": below}
    )
    return [Anchor(**parse_event(bytes(jws)).data) for jws in found.scalars()]
