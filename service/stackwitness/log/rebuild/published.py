"""Published files beside the tiles, where the disk was lost: heads, and where the shard before ended."""

import sqlalchemy as sa

from emdi.encoding import load_json
from emdi.errors import EmdiError
from emdi.head import format_head, head_root, parse_head
from emdi.shard import Previous, chains_of, check_end, parse_previous
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt
from stackwitness.log.heads import list_heads, read_lines
from stackwitness.log.previous import read_previous, store_previous
from stackwitness.log.rebuild.source import VerifiedLog

MOST_HEADS = 1_000_000
HEAD, CHECKPOINT = "previous/head", "previous/checkpoint"


def restore_previous(conn: sa.Connection, source: VerifiedLog, genesis: bytes) -> int:
    """Store again what leaf 0 commits to of the shard before this one, where its row is lost or edited.

    Returns how many rows; raises LogCorrupt when the source does not have it as leaf 0 says.
    """
    members = load_json(genesis).get("previous")
    stored = read_previous(conn)
    if members is None:
        return 0
    previous = parse_previous(members)
    if (
        stored is not None
        and stored[0] == previous
        and head_root(parse_head(stored[1])) == previous.head_root
    ):
        return 0
    conn.execute(sa.text("DELETE FROM log_previous"))
    store_previous(conn, previous, *_read_previous(source, previous))
    return 1


def restore_files(conn: sa.Connection, source: VerifiedLog, disk: Disk) -> int:
    """Write the files of heads and of the shard before that are gone from the disk; return how many.

    A head is made from the entries again and written only where it has the root that was signed.
    """
    written, before = 0, read_previous(conn)
    if before is not None and not _all_there(disk, HEAD, CHECKPOINT):
        note, head = _read_previous(source, before[0])
        disk.write(CHECKPOINT, note)
        disk.write(HEAD, head)
        written += 2
    for one in list_heads(conn, None, MOST_HEADS):
        if _all_there(disk, one.path):
            continue
        lines = read_lines(conn, one.as_of)
        if head_root(lines) == one.root:
            disk.write(one.path, format_head(lines))
            written += 1
    return written


def _read_previous(source: VerifiedLog, previous: Previous) -> tuple[bytes, bytes]:
    """Return (note, head) of the shard before, held against what leaf 0 says of both."""
    try:
        note, head = source.read(CHECKPOINT), source.read(HEAD)
        chains_of(previous, head)
        check_end(previous, note)
    except FileNotFoundError as error:
        raise LogCorrupt(
            f"{source.name} does not have {error}: where the shard before this one ended"
        ) from None
    except EmdiError as error:
        raise LogCorrupt(f"{source.name}: where the shard before this one ended: {error}") from None
    return note, head


def _all_there(disk: Disk, *paths: str) -> bool:
    return all((disk.root / path).is_file() for path in paths)
