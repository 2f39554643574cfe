"""Note-signing keys on disk, in the text form golang.org/x/mod/sumdb/note reads:
PRIVATE+KEY+name+hash+base64.
"""

import base64
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from emdi.note import NoteSigner
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid

if TYPE_CHECKING:  # the signer needs the text form, not pydantic
    from stackwitness.settings import Settings

_PRIVATE = re.compile(r"PRIVATE\+KEY\+([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\n?")


def load_note_signer(path: Path) -> NoteSigner:
    """Read a note key; raises FileNotFoundError, LogKeyInvalid."""
    return parse_note_key(path.read_text(), str(path))


def create_note_signer(path: Path, name: str) -> NoteSigner:
    """Make a new Ed25519 note key and keep it, readable by its owner only."""
    signer, seed = new_note_key(name)
    Disk(path.parent).write(path.name, format_note_key(signer, seed).encode(), mode=0o600)
    return signer


def new_note_key(name: str) -> tuple[NoteSigner, bytes]:
    """Make a new Ed25519 note key; return its signer and its 32-byte seed."""
    seed = secrets.token_bytes(32)
    return NoteSigner(name, seed), seed


def format_note_key(signer: NoteSigner, seed: bytes) -> str:
    """Return the text form of a private note key."""
    secret = base64.b64encode(b"\x01" + seed).decode()
    return f"PRIVATE+KEY+{signer.verifier.name}+{signer.vkey.split('+')[1]}+{secret}\n"


def parse_note_key(text: str, where: str) -> NoteSigner:
    """Read the text form of a private note key; raises LogKeyInvalid."""
    return parse_note_seed(text, where)[0]


def parse_note_seed(text: str, where: str) -> tuple[NoteSigner, bytes]:
    """Read the text form of a private note key; return its signer and its seed. Raises LogKeyInvalid."""
    match = _PRIVATE.fullmatch(text)
    secret = base64.b64decode(match[3]) if match else b""
    if match is None or len(secret) != 33 or secret[0] != 1:
        raise LogKeyInvalid(f"{where} is no Ed25519 note key")
    signer = NoteSigner(match[1], secret[1:])
    if signer.vkey.split("+")[1] != match[2]:
        raise LogKeyInvalid(f"{where}: the key hash does not fit the key")
    return signer, secret[1:]


def load_export_key(settings: "Settings", *, create: bool = False) -> NoteSigner:
    """Return the key that signs export bundles; raises LogKeyInvalid when it is missing and not to be
    made.
    """
    path = settings.key_dir / "export.key"
    try:
        return load_note_signer(path)
    except FileNotFoundError:
        if not create:
            raise LogKeyInvalid(f"{path} is missing: leaf 0 names it, so it cannot be replaced") from None
    return create_note_signer(path, f"{settings.log_origin}/export")
