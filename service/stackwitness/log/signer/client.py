"""Ask the signer process for a signature."""

import base64
import socket
from pathlib import Path

from stackwitness.log.errors import SignerRefused, SignerUnavailable
from stackwitness.log.signer.place import short_address

TIMEOUT_S = 30.0


class SignerClient:
    """Talk to the signer over its Unix socket, one connection a question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def vkey(self) -> str:
        """Return the log's public key as a note verifier key."""
        return self._ask("key").decode().rstrip("\n")

    def head(self) -> bytes:
        """Return the last signed checkpoint note; empty before the first."""
        return self._ask("head")

    def sign(self, size: int, root: bytes) -> bytes:
        """Return the signed checkpoint note; raises SignerRefused, SignerUnavailable."""
        return self._ask(f"sign {size} {base64.b64encode(root).decode()}")

    def _ask(self, request: str) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_S)
                with short_address(self._path) as address:
                    connection.connect(address)
                connection.sendall(request.encode() + b"\n")
                reply = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise SignerUnavailable(f"no answer on {self._path}: {error}") from None
        status, _, rest = reply.partition(b"\n")
        if status == b"ok":
            return rest
        word, _, why = status.decode(errors="replace").partition(" ")
        if word == "refused":
            code, _, detail = why.partition(" ")
            raise SignerRefused(code, detail)
        raise SignerUnavailable(why or "the signer hung up")
