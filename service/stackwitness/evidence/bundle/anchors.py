"""The time stamps that go into a bundle: those that say most about the exported envelopes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from emdi.anchor import CHAIN, FOLDER, Anchor
from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import b64_encode
from emdi.errors import EmdiError
from emdi.note import parse_note
from emdi.tiles import TileReader
from stackwitness_client.verify.timestamps import (
    TimestampRefused,
    have_library,
    open_timestamp,
    read_certificates,
)

ReadFile = Callable[[str], bytes]


def choose_anchors(
    anchors: Iterable[Anchor],
    first_idx: int,
    last_idx: int,
    stands: Callable[[Anchor], bool] = lambda _: True,
) -> list[Anchor]:
    """Return the first anchors over the first and the last exported envelope, and the newest, each by all
    authorities; none that does not stand.
    """
    held = sorted(anchors, key=lambda anchor: (anchor.size, anchor.k))
    over = [
        next((item.size for item in held if item.size > idx and stands(item)), None)
        for idx in (first_idx, last_idx)
    ]
    sizes = {*over, next((item.size for item in reversed(held) if stands(item)), None)}
    return list({item.file: item for item in held if item.size in sizes and stands(item)}.values())


def stands(anchor: Anchor, origin: str, tiles: TileReader, read: ReadFile) -> bool:
    """Tell whether an anchor's files are those its event names, and are a time stamp on this very log.

    Whoever holds the service's key can log an anchor that is none: in a bundle it would speak against what is honest.
    """
    note = _read(read, f"{FOLDER}/{anchor.note}", anchor.note_sha256)
    tsr = _read(read, f"{FOLDER}/{anchor.file}", anchor.tsr_sha256)
    if note is None or tsr is None or not 0 < anchor.size <= tiles.size:
        return False
    try:
        stamped = parse_checkpoint(parse_note(note).text)
        if have_library():
            open_timestamp(tsr, note)
    except (EmdiError, TimestampRefused):
        return False
    return stamped == Checkpoint(origin, anchor.size, tiles.root_at(anchor.size))


def anchor_members(
    anchors: Iterable[Anchor], tiles: TileReader, read: ReadFile
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the members of these anchors; `read` gives a file below the log's folder.

    A file that is gone or no longer the one its event names is left out: fsck names it.
    """
    noted: set[int] = set()
    for anchor in anchors:
        note = _read(read, f"{FOLDER}/{anchor.size}.note", anchor.note_sha256)
        tsr = _read(read, f"{FOLDER}/{anchor.file}", anchor.tsr_sha256)
        if note is None or tsr is None:
            continue
        if anchor.size not in noted:
            noted.add(anchor.size)
            proof = "".join(f"{b64_encode(item)}\n" for item in tiles.consistency(anchor.size))
            yield f"{FOLDER}/{anchor.size}.note", note
            yield f"{FOLDER}/{anchor.size}.proof", proof.encode()
        yield f"{FOLDER}/{anchor.file}", tsr
    chain = _read(read, f"{FOLDER}/{CHAIN}", None) if noted else None
    if chain is not None and _is_chain(chain):
        yield f"{FOLDER}/{CHAIN}", chain


def _is_chain(pem: bytes) -> bool:
    with suppress(TimestampRefused):
        return bool(read_certificates(pem))
    return False


def _read(read: ReadFile, path: str, sha256: str | None) -> bytes | None:
    try:
        data = read(path)
    except FileNotFoundError:
        return None
    return data if sha256 in (None, hashlib.sha256(data).hexdigest()) else None
