"""Address a Unix socket whose path is longer than an address may be."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_ADDRESS_BYTES = 100  # sun_path holds 108 with its NUL, fewer elsewhere


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address of the socket at `path`: the path itself, or one through an open folder (Linux).

    A socket in the shared temporary folder would be short too, but anyone could be there first and pass for
    the signer.
    """
    if len(str(path).encode()) <= MAX_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
