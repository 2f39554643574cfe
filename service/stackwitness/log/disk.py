"""Files that survive a power cut: temporary name, fsync, rename, fsync of the folder."""

import contextlib
import fcntl
import os
import shutil
from io import FileIO
from pathlib import Path


class Disk:
    """Read and durably write files below one folder; paths are relative, with forward slashes.

    Every write of the log and of the signer goes through one of these, so that a test can make any of them
    fail.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError."""
        return (self.root / path).read_bytes()

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Replace a file so that a reader, or a restart, sees the old bytes or the new ones and nothing
        between.
        """
        target = self.root / path
        self._make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file for good; raises FileNotFoundError."""
        (self.root / path).unlink()
        self._sync_folder((self.root / path).parent)

    def clear_drafts(self) -> None:
        """Remove the temporary files that killed processes left in this folder; call it with the lock held."""
        for draft in self.root.glob(".*.tmp"):
            draft.unlink(missing_ok=True)

    def remove_folder(self, path: str) -> None:
        """Remove a folder of files nobody needs any more; what stays behind does no harm."""
        shutil.rmtree(self.root / path, ignore_errors=True)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self._sync_folder(folder.parent)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lock_file(path: Path) -> FileIO | None:
    """Hold a lock for as long as the returned file is open; None when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FileIO(path, "ab")  # held open on purpose: closing it gives the lock away
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
