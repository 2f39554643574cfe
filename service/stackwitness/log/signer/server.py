"""Serve the signer on a Unix socket: one line in, one answer out, one connection at a time.

key                    -> ok\n<vkey>\n
head                   -> ok\n<last signed note, empty before the first>
sign <size> <base64>   -> ok\n<signed note>
                       or refused <code> <why>\n      asking again will not help
                       or failed <why>\n              asking again may help
"""

import logging
import os
import socket
import stat
import threading
import time
from datetime import date
from pathlib import Path

from emdi.encoding import b64_decode, parse_uint
from emdi.errors import EmdiError
from stackwitness.log.disk import Disk, lock_file
from stackwitness.log.errors import LogKeyInvalid, SignerRefused, SignerUnavailable
from stackwitness.log.signer.keys import KeyStore, open_key_store
from stackwitness.log.signer.options import SignerSettings
from stackwitness.log.signer.place import short_address
from stackwitness.log.signer.signing import LogSigner
from stackwitness.log.stopping import stop_on_signals

MAX_REQUEST_BYTES = 256
CLIENT_TIMEOUT_S = 2.0
POLL_S = 0.5
log = logging.getLogger("signer")


def run_signer(
    settings: SignerSettings,
    *,
    init: date | None = None,
    stop: threading.Event | None = None,
    keys: KeyStore | None = None,
) -> None:
    """Serve until SIGTERM (or `stop`). Raises SignerRefused when key and state do not allow signing at
    all.
    """
    stop = stop or stop_on_signals()
    settings.signer_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = lock_file(settings.signer_dir / "lock")
    if lock is None:
        raise SignerRefused("signer.second", "another signer holds this state")
    home, disk = Disk(settings.signer_dir), Disk(settings.log_dir)
    if settings.log_dir.exists() and not os.access(settings.log_dir, os.R_OK | os.X_OK):
        raise SignerRefused("signer.log_dir", f"{settings.log_dir} cannot be read by the signer's user")
    home.clear_drafts()
    keys = keys or open_key_store(settings, home)
    signer = LogSigner.open(home, disk, settings.log_origin, init=init, keys=keys)
    with lock, listen(settings.signer_socket) as server:
        log.info("ready on %s as uid %s", settings.signer_socket, os.geteuid())
        serve(server, signer, stop)


def listen(path: Path) -> socket.socket:
    """Listen on a socket in place of one left behind by a signer that died.

    Only this user may connect, or this user's group where the folder hands its group on (mode 2xxx).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    is_shared = bool(path.parent.stat().st_mode & stat.S_ISGID)
    mask = os.umask(0o117 if is_shared else 0o177)
    try:
        with short_address(draft) as address:
            server.bind(address)
    finally:
        os.umask(mask)
    server.listen(8)
    server.settimeout(POLL_S)
    draft.replace(path)  # whoever sees it can connect
    return server


def serve(server: socket.socket, signer: LogSigner, stop: threading.Event) -> None:
    """Answer one client after another until `stop` is set."""
    while not stop.is_set():
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        with client:
            try:
                client.sendall(answer(signer, read_line(client)))
            except OSError as error:
                log.warning("client lost: %s", error)


def read_line(client: socket.socket) -> bytes:
    """Return one request without its newline; what is longer or cut off is empty, and no request.

    Raises TimeoutError: a client that sends byte by byte gets no more time than one that sends nothing.
    """
    data, deadline = b"", time.monotonic() + CLIENT_TIMEOUT_S
    while not data.endswith(b"\n"):
        client.settimeout(max(0.001, deadline - time.monotonic()))
        part = client.recv(MAX_REQUEST_BYTES)
        data += part
        if not part or len(data) > MAX_REQUEST_BYTES:
            return b""
    client.settimeout(CLIENT_TIMEOUT_S)
    return data[:-1]


def answer(signer: LogSigner, request: bytes) -> bytes:
    """Return the answer to one request line."""
    try:
        match request.decode("ascii", "replace").split(" "):
            case ["key"]:
                return f"ok\n{signer.vkey}\n".encode()
            case ["head"]:
                return b"ok\n" + signer.last_note
            case ["sign", size, root]:
                return b"ok\n" + signer.sign(parse_uint(size, "signer.request"), b64_decode(root))
            case _:
                return b"refused signer.request not a request\n"
    except (SignerRefused, LogKeyInvalid) as error:
        log.error("refused: %s", error)
        return f"refused {error.code} {error.detail}\n".encode()
    except EmdiError as error:
        return f"refused signer.request {error}\n".encode()
    except SignerUnavailable as error:
        log.error("failed: %s", error)
        return f"failed {error.detail}\n".encode()
