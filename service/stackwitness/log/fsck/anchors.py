"""Are the time stamps the log speaks of still there, byte for byte?"""

import hashlib
from pathlib import Path

import sqlalchemy as sa

from emdi.anchor import ANCHORED, anchor_of
from emdi.entry import KIND_EVENT
from emdi.errors import EmdiError
from emdi.event import parse_event
from stackwitness.log.disk import Disk
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.tree import read_plain

_EVENTS = (
    "SELECT e.jws, l.idx FROM event e LEFT JOIN log_entry l ON l.entry_id = e.event_id AND l.kind = :kind"
    " WHERE e.subj = 'log' AND e.typ = :typ ORDER BY e.sseq"
)


def check_anchors(conn: sa.Connection, log_dir: Path, report: Report) -> None:
    """Compare the files of every anchor with the hashes in its event."""
    for row in conn.execute(sa.text(_EVENTS), {"kind": KIND_EVENT, "typ": ANCHORED}):
        try:
            anchor = anchor_of(parse_event(bytes(row.jws)))
        except EmdiError:  # an edited row: named where it is held against its entry
            continue
        for path, sha256 in anchor.files.items():
            try:
                data = read_plain(Disk(log_dir), path)
            except OSError:
                report.miss("anchor.missing", "disk", path, "an anchored file is gone", row.idx)
                continue
            if hashlib.sha256(data).hexdigest() != sha256:
                text = "the file is not the one its event names"
                report.tamper("anchor.edited", "disk", path, text, row.idx)
