"""Note-signing keys on disk, in the text form golang.org/x/mod/sumdb/note reads:
PRIVATE+KEY+name+hash+base64.
"""

import base64
import re
import secrets
from pathlib import Path

from emdi.note import NoteSigner
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid
from stackwitness.settings import Settings

_PRIVATE = re.compile(r"PRIVATE\+KEY\+([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\n?")


def load_note_signer(path: Path) -> NoteSigner:
    """Read a note key; raises FileNotFoundError, LogKeyInvalid."""
    match = _PRIVATE.fullmatch(path.read_text())
    secret = base64.b64decode(match[3]) if match else b""
    if match is None or len(secret) != 33 or secret[0] != 1:
        raise LogKeyInvalid(f"{path} is no Ed25519 note key")
    signer = NoteSigner(match[1], secret[1:])
    if signer.vkey.split("+")[1] != match[2]:
        raise LogKeyInvalid(f"{path}: the key hash does not fit the key")
    return signer


def create_note_signer(path: Path, name: str) -> NoteSigner:
    """Make a new Ed25519 note key and keep it, readable by its owner only."""
    seed = secrets.token_bytes(32)
    signer = NoteSigner(name, seed)
    key_hash = signer.vkey.split("+")[1]
    secret = base64.b64encode(b"\x01" + seed).decode()
    text = f"PRIVATE+KEY+{name}+{key_hash}+{secret}\n"
    Disk(path.parent).write(path.name, text.encode(), mode=0o600)
    return signer


def load_export_key(settings: Settings, *, create: bool = False) -> NoteSigner:
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
