"""Are the time stamps the log speaks of still there, byte for byte?"""

import hashlib
from pathlib import Path

import sqlalchemy as sa

from emdi.anchor import ANCHORED, FOLDER, Anchor, anchor_of
from emdi.checkpoint import parse_checkpoint
from emdi.entry import KIND_EVENT
from emdi.errors import EmdiError, EncodingError
from emdi.event import parse_event
from emdi.note import parse_note
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
        except EncodingError as error:
            report.tamper("anchor.event", "event", f"log {ANCHORED}", error.message, row.idx)
            continue
        except EmdiError:  # an edited row: named where it is held against its entry
            continue
        check_note(log_dir, anchor, row.idx, report)
        for path, sha256 in anchor.files.items():
            try:
                data = read_plain(Disk(log_dir), path)
            except OSError:
                report.miss("anchor.missing", "disk", path, "an anchored file is gone", row.idx)
                continue
            if hashlib.sha256(data).hexdigest() != sha256:
                text = "the file is not the one its event names"
                report.tamper("anchor.edited", "disk", path, text, row.idx)


def check_note(log_dir: Path, anchor: Anchor, idx: int | None, report: Report) -> None:
    """Name an event whose file, as it names it, is no checkpoint of that size: the service signed for a stamp on nothing."""
    path = f"{FOLDER}/{anchor.note}"
    try:
        note = read_plain(Disk(log_dir), path)
        if hashlib.sha256(note).hexdigest() != anchor.note_sha256:
            return
        if parse_checkpoint(parse_note(note).text).size == anchor.size:
            return
        why = "it is of another size"
    except OSError:  # named as gone
        return
    except EmdiError as error:
        why = error.message
    report.tamper("anchor.note", "disk", path, f"its event names what is no such checkpoint: {why}", idx)
