"""Tie a child process to its parent: the kernel signals the child when the parent dies, however it dies."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def tether(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that asks for `death_signal` at the parent's death (Linux; nothing elsewhere).

    subprocess calls it after setuid, which would clear the request. The kernel watches the thread that
    forked, so start children from a thread that lives as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def ask_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl: no signal would ever come
            os._exit(1)

    return ask_kernel
