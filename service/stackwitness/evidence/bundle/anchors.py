"""The time stamps that go into a bundle: those that say most about the exported envelopes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from emdi.anchor import CHAIN, FOLDER, Anchor
from emdi.encoding import b64_encode
from emdi.tiles import TileReader

ReadFile = Callable[[str], bytes]


def choose_anchors(anchors: Iterable[Anchor], first_idx: int, last_idx: int) -> list[Anchor]:
    """Return the first anchors over the first and the last exported envelope, and the newest, each by all
    authorities.
    """
    held = sorted(anchors, key=lambda anchor: (anchor.size, anchor.k))
    over = [next((item.size for item in held if item.size > idx), None) for idx in (first_idx, last_idx)]
    sizes = {*over, *(item.size for item in held[-1:])}
    return [item for item in held if item.size in sizes]


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
    if chain is not None:
        yield f"{FOLDER}/{CHAIN}", chain


def _read(read: ReadFile, path: str, sha256: str | None) -> bytes | None:
    try:
        data = read(path)
    except FileNotFoundError:
        return None
    return data if sha256 in (None, hashlib.sha256(data).hexdigest()) else None
