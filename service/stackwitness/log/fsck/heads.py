"""The daily heads: made again from the entries below each, against the signed event and the published file."""

import sqlalchemy as sa

from emdi.encoding import b64u_decode
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.head import format_head, head_root
from stackwitness.log.disk import Disk
from stackwitness.log.fsck.report import Report
from stackwitness.log.heads import read_lines

_HEADS = """
    SELECT w.sseq, w.jws, e.idx FROM event w
    LEFT JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    WHERE w.typ = 'head.daily' AND w.subj = 'log' ORDER BY w.sseq
"""


def check_heads(conn: sa.Connection, disk: Disk, report: Report) -> None:
    """Name each head whose event or file is not what the entries below it say."""
    for row in conn.execute(sa.text(_HEADS)).all():
        key = f"log #{row.sseq} head.daily"
        try:
            data = parse_event(bytes(row.jws)).data
            as_of, lines, root = int(data["as_of"]), int(data["lines"]), b64u_decode(data["root_b64u"])
        except (EmdiError, KeyError, TypeError, ValueError) as error:
            report.tamper("head.data", "event", key, f"its data cannot be read: {error!r}", row.idx)
            continue
        if row.idx is not None and as_of > row.idx:
            text = f"it stands at {row.idx} and speaks of {as_of} entries"
            report.tamper("head.ahead", "event", key, text, row.idx)
            continue
        wanted = read_lines(conn, as_of)
        if (lines, root) != (len(wanted), head_root(wanted)):
            text = f"the head of {as_of} entries is not what the entries say"
            report.tamper("head.differs", "event", key, text, row.idx)
        path = f"heads/{as_of}"
        try:
            if disk.read(path) != format_head(wanted):
                text = "the file is not what the entries below it say"
                report.tamper("head.file", "disk", path, text, row.idx)
        except OSError:
            report.miss("head.file_missing", "disk", path, "the published file of the head is gone", row.idx)
        except EmdiError as error:
            report.tamper("head.lines", "event", key, f"the rows give no head: {error}", row.idx)
