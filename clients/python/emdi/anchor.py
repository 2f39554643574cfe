"""Time stamps (RFC 3161) as a log has them: the event that names one, and the files beside the tiles."""

import re
from dataclasses import dataclass

from emdi.errors import EncodingError
from emdi.event import Event

FOLDER = "anchors"
CHAIN = "tsa-chain.pem"
ANCHORED = "anchor.tsa"
MOST_AUTHORITIES = 10  # a response's file name has one digit for its authority
_NAME = re.compile(r"(0|[1-9][0-9]{0,18})\.(?:note|[0-9]\.tsr)|" + re.escape(CHAIN))
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
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
    def note(self) -> str:
        """Return the name of the stamped checkpoint's file."""
        return f"{self.size}.note"

    @property
    def file(self) -> str:
        """Return the name of the response's file."""
        return f"{self.size}.{self.k}.tsr"

    @property
    def files(self) -> dict[str, str]:
        """Return both paths below the log, each with the SHA-256 (hex) that the event gives."""
        return {f"{FOLDER}/{self.note}": self.note_sha256, f"{FOLDER}/{self.file}": self.tsr_sha256}


def is_anchor_file(name: str) -> bool:
    """Tell whether a file of this name belongs among the anchors."""
    return name.isascii() and _NAME.fullmatch(name) is not None


def anchor_of(event: Event) -> Anchor:
    """Read the anchor an event states; raises EncodingError("anchor.event") when it states none."""
    try:
        anchor = Anchor(**event.data)
    except TypeError:
        raise EncodingError("anchor.event", "it has not the members of an anchor") from None
    numbers, hashes = (anchor.size, anchor.k, anchor.gen_time_ms), (anchor.note_sha256, anchor.tsr_sha256)
    if (
        not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
        or anchor.k >= MOST_AUTHORITIES
        or not all(type(text) is str for text in (anchor.tsa, *hashes))
        or not all(_HASH.fullmatch(text) for text in hashes)
    ):
        raise EncodingError("anchor.event", "a member is not what an anchor has there")
    return anchor
