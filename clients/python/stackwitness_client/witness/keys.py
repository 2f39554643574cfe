"""A witness' keys: one file each, in the text form of signed notes, and no seed under two names."""

import base64
import hashlib
import os
import re
import secrets
from pathlib import Path

from emdi.encoding import b64_encode
from emdi.errors import NoteError
from emdi.note import COSIGNING_KINDS, KIND_COSIGNATURE, KIND_MLDSA, NoteSigner
from stackwitness_client.errors import KeyFileError

KINDS = {"ed25519": KIND_COSIGNATURE, "ml-dsa-44": KIND_MLDSA}
SEED_BYTES = 32
_PRIVATE = re.compile(r"PRIVATE\+KEY\+([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\n?")
# Seeds printed in public test vectors: whoever reads them can cosign anything.
PUBLISHED_SEEDS = frozenset(
    {
        bytes.fromhex("31ffc2116ecbe003acaa800ab70757bd7d53206e3febef6a6d0796d95530b34f"),
        hashlib.sha256(b"emdi test witness key").digest(),
        hashlib.sha256(b"emdi test log key").digest(),
    }
)


def create_key(home: Path, name: str, kind: int, seed: bytes | None = None) -> NoteSigner:
    """Make a key of a witness (or keep a given seed) in its home, readable by its owner only.

    A seed is one identity: the same one under another name or kind is refused, and so is a second key of the
    same name and kind. Raises KeyFileError, NoteError for an unusable name.
    """
    if kind not in COSIGNING_KINDS:
        raise KeyFileError("witness.kind", "a witness cosigns with kind 4 or 6")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = secrets.token_bytes(SEED_BYTES) if seed is None else seed
    signer = NoteSigner(name, seed, kind)
    held = _read_all(home)
    if any(other == seed for other, _ in held):
        raise KeyFileError("witness.seed", "this key is already used here under another name or kind")
    if any((item.verifier.name, item.verifier.kind) == (name, kind) for _, item in held):
        raise KeyFileError("witness.name", f"{name} already has a key of this kind")
    keyid = signer.verifier.keyid.hex()
    text = f"PRIVATE+KEY+{name}+{keyid}+{b64_encode(bytes([kind]) + seed)}\n"
    _write_private(home / f"{keyid}.key", text)
    return signer


def load_keys(home: Path, *, test_keys: bool = False) -> list[NoteSigner]:
    """Read every key of a home, by file name; raises KeyFileError when there is none, one is damaged, open to
    others or published, or two share a seed.
    """
    held = _read_all(home)
    if not held:
        raise KeyFileError("witness.no_key", f"{home} holds no key; see `stackwitness-witness init`")
    if len({seed for seed, _ in held}) != len(held):
        raise KeyFileError("witness.seed", f"{home}: one key stands under two names or kinds")
    if not test_keys and any(seed in PUBLISHED_SEEDS for seed, _ in held):
        raise KeyFileError("witness.published", f"{home}: the secret of this key is printed in test vectors")
    return [signer for _, signer in held]


def _read_all(home: Path) -> list[tuple[bytes, NoteSigner]]:
    return [_read(path) for path in sorted(home.glob("*.key"))]


def _read(path: Path) -> tuple[bytes, NoteSigner]:
    if path.stat().st_mode & 0o077:
        raise KeyFileError("witness.mode", f"{path} can be read by others; make it mode 600")
    try:
        match = _PRIVATE.fullmatch(path.read_text("utf-8"))
        secret = base64.b64decode(match[3], validate=True) if match else b""
        if match is None or len(secret) != 1 + SEED_BYTES or secret[0] not in COSIGNING_KINDS:
            raise KeyFileError("witness.key", f"{path} is no witness key")
        signer = NoteSigner(match[1], secret[1:], secret[0])
    except (ValueError, NoteError) as error:
        raise KeyFileError("witness.key", f"{path} is no witness key: {error}") from None
    if signer.verifier.keyid.hex() != match[2]:
        raise KeyFileError("witness.key", f"{path}: the key id does not fit the key")
    return secret[1:], signer


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
