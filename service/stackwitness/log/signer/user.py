"""Let a signer that root started work as a user of its own: no other process's files, nobody else its key."""

import ctypes
import logging
import os
import pwd
import resource
import stat
import sys
from pathlib import Path

from stackwitness.log.errors import SignerRefused
from stackwitness.log.signer.options import SignerOptions

DEFAULT_USER = "daemon"
DATABASE_USER = "nobody"  # whom the embedded PostgreSQL runs as, see db/server_place.py
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_DUMPABLE = 1, 2, 4
log = logging.getLogger("signer")


def default_user() -> str | None:
    """Return the user a signer runs as when root names none; None where there is no such user."""
    try:
        pwd.getpwnam(DEFAULT_USER)
    except KeyError:
        return None
    return DEFAULT_USER


def enter(options: SignerOptions) -> None:
    """Go to the home folder, and as root become the signer's user first having given it its folders.

    Everything is imported by now: the user need not be able to reach Python itself. Raises
    SignerRefused("signer.user") when the change was required and is not possible.
    """
    options.home.mkdir(parents=True, exist_ok=True)
    os.chdir(options.home)
    for folder in (options.signer_dir, options.signer_socket.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        obstacle = find_obstacle(options.user, Path())
        if obstacle is None and options.user is not None:
            become(pwd.getpwnam(options.user), options)
        elif obstacle is not None and options.user_required:
            raise SignerRefused("signer.user", obstacle)
        elif obstacle is not None:
            log.warning("the signer keeps running as root: %s", obstacle)
    close_memory()


def find_obstacle(user: str | None, home: Path) -> str | None:
    """Return why the signer cannot run as this user; None when it can."""
    if user is None:
        return "no user to run as is set"
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return f"there is no user {user}"
    if user == DATABASE_USER:
        return f"{user} is the user of the database"
    mode = home.stat()
    if account.pw_uid not in (0, mode.st_uid) and not mode.st_mode & stat.S_IXOTH:
        return f"{user} cannot enter the home folder (chmod o+x it)"
    return None


def become(account: pwd.struct_passwd, options: SignerOptions) -> None:
    """Give the signer's folders to the account and run as it from here on, for good."""
    for folder in (options.signer_dir, options.signer_socket.parent):
        give(folder, account)
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent, death_signal = os.getppid(), ctypes.c_int(0)
    if libc is not None:
        libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(death_signal), 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if libc is not None and death_signal.value:  # the change of user cleared what the supervisor asked for
        libc.prctl(PR_SET_PDEATHSIG, death_signal.value, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)


def give(folder: Path, account: pwd.struct_passwd) -> None:
    """Give a folder, and the files that root left in it, to an account.

    Only plain files that have no other name: the account may have put a link to somebody else's file there.
    Raises SignerRefused("signer.user") for a third user's folder.
    """
    owner = folder.stat().st_uid
    if owner not in (0, account.pw_uid):
        raise SignerRefused(
            "signer.user", f"{folder} belongs to the user {owner}: give it to {account.pw_name}"
        )
    for path in folder.iterdir():
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == 0:
                os.fchown(descriptor, account.pw_uid, account.pw_gid)
        finally:
            os.close(descriptor)
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)


def close_memory() -> None:
    """Keep the key out of core dumps, and out of reach of other processes of the same user (Linux)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
