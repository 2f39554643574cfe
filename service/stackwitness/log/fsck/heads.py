"""The daily heads: made again from the entries below each, against the signed event and the published file."""

from dataclasses import dataclass

import sqlalchemy as sa

from emdi.encoding import MAX_UINT, b64u_decode
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.head import format_head, head_root, station_line, subject_line
from stackwitness.log.disk import Disk
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.tree import read_plain

_HEADS = """
    SELECT w.sseq, w.jws, e.idx FROM event w
    LEFT JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    WHERE w.typ = 'head.daily' AND w.subj = 'log' ORDER BY w.sseq
"""
# What moved between two heads: each entry is looked at once, however many heads there are.
_STATIONS = """
    SELECT DISTINCT ON (v.stn) v.stn, v.ep, v.seq, v.env_id
    FROM log_entry e JOIN envelope v ON v.env_id = e.entry_id
    WHERE e.kind = 1 AND e.idx >= :start AND e.idx < :stop ORDER BY v.stn, v.ep DESC, v.seq DESC
"""
_SUBJECTS = """
    SELECT DISTINCT ON (w.subj) w.subj, w.sseq, w.event_id
    FROM log_entry e JOIN event w ON w.event_id = e.entry_id
    WHERE e.kind = 2 AND e.idx >= :start AND e.idx < :stop ORDER BY w.subj, w.sseq DESC
"""


@dataclass(frozen=True)
class Signed:
    """What an event head.daily says, and where it stands (None: it waits for the log)."""

    key: str
    idx: int | None
    as_of: int
    lines: int
    root: bytes


def check_heads(conn: sa.Connection, disk: Disk, report: Report) -> None:
    """Name each head whose event or file is not what the entries below it say."""
    lines: dict[str, str] = {}
    size = 0
    for head in sorted(_read_signed(conn, report), key=lambda head: head.as_of):
        given = {"start": size, "stop": head.as_of}
        for row in conn.execute(sa.text(_STATIONS), given):
            lines[f"station {row.stn}"] = station_line(row.stn, row.ep, row.seq, bytes(row.env_id))
        for row in conn.execute(sa.text(_SUBJECTS), given):
            lines[f"subject {row.subj}"] = subject_line(row.subj, row.sseq, bytes(row.event_id))
        size = head.as_of
        _compare(head, list(lines.values()), disk, report)


def _read_signed(conn: sa.Connection, report: Report) -> list[Signed]:
    found = []
    for row in conn.execute(sa.text(_HEADS)).all():
        key = f"log #{row.sseq} head.daily"
        try:
            data = parse_event(bytes(row.jws)).data
            as_of, lines, root = int(data["as_of"]), int(data["lines"]), b64u_decode(data["root_b64u"])
        except (EmdiError, KeyError, TypeError, ValueError) as error:
            report.tamper("head.data", "event", key, f"its data cannot be read: {error!r}", row.idx)
            continue
        if not 0 <= as_of <= (MAX_UINT if row.idx is None else row.idx):
            text = f"it stands at {row.idx} and speaks of {as_of} entries"
            report.tamper("head.ahead", "event", key, text, row.idx)
            continue
        found.append(Signed(key, row.idx, as_of, lines, root))
    return found


def _compare(head: Signed, wanted: list[str], disk: Disk, report: Report) -> None:
    if (head.lines, head.root) != (len(wanted), head_root(wanted)):
        text = f"the head of {head.as_of} entries is not what the entries say"
        report.tamper("head.differs", "event", head.key, text, head.idx)
    path = f"heads/{head.as_of}"
    try:
        if read_plain(disk, path) != format_head(wanted):
            text = "the file is not what the entries below it say"
            report.tamper("head.file", "disk", path, text, head.idx)
    except OSError:
        report.miss("head.file_missing", "disk", path, "the published file of the head is gone", head.idx)
    except EmdiError as error:
        report.tamper("head.lines", "event", head.key, f"the rows give no head: {error}", head.idx)
