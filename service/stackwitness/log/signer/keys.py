"""Where the log's key lies: in a file, encrypted or not, or in a PKCS#11 token (see hsm.py).

Most of the time there is one key. During a rotation there are two, and every note bears both signatures:
whoever knows only the old key and whoever knows only the new one can check it.
"""

import logging
from pathlib import Path
from typing import Protocol

from emdi.note import VerifierKey
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid, SignerRefused
from stackwitness.log.notekeys import format_note_key, new_note_key, parse_note_key, parse_note_seed
from stackwitness.log.signer.options import SignerSettings
from stackwitness.log.signer.sealed import is_sealed, open_sealed, seal_seed

KEY = "log.key"
NEXT_KEY = "log.key.next"
MIN_PASSPHRASE_BYTES = 16
log = logging.getLogger("signer")


class LineSigner(Protocol):
    """A key that signs note texts."""

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""

    @property
    def vkey(self) -> str:
        """The public half as text."""

    def sign(self, text: str) -> str:
        """Return the signature line."""


class KeyStore(Protocol):
    """The keys of one log."""

    def exists(self) -> bool:
        """Tell whether there is a key at all."""

    def create(self, origin: str) -> None:
        """Make the first key."""

    def load(self) -> tuple[LineSigner, ...]:
        """Return the key in use, and behind it its successor during a rotation."""

    def mark(self) -> object:
        """Return something that differs whenever `load` would return other keys."""

    def add_next(self, origin: str) -> LineSigner:
        """Make the successor; the same one when there is one already."""

    def retire(self) -> None:
        """Let the successor take the place of the key in use."""


class KeyFiles:
    """Keys in files of the signer's folder, mode 0600; with a passphrase they are encrypted."""

    def __init__(
        self, home: Disk, passphrase: bytes | None = None, *, plaintext_allowed: bool = True
    ) -> None:
        self._home = home
        self._passphrase = passphrase
        self._plaintext_allowed = plaintext_allowed

    def exists(self) -> bool:
        """Tell whether there is a key at all."""
        return (self._home.root / KEY).exists()

    def create(self, origin: str) -> None:
        """Make the first key."""
        self._write(KEY, origin)

    def load(self) -> tuple[LineSigner, ...]:
        """Return the key in use, and its successor; raises LogKeyInvalid, SignerRefused."""
        keys = [self._read(name) for name in (KEY, NEXT_KEY) if (self._home.root / name).exists()]
        # A retirement that was cut off leaves the successor under both names.
        return tuple({key.vkey: key for key in keys}.values())

    def mark(self) -> object:
        """Return size and times of the key files."""
        found = [(self._home.root / name) for name in (KEY, NEXT_KEY)]
        return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None for path in found]

    def add_next(self, origin: str) -> LineSigner:
        """Make the successor; the same one when there is one already."""
        if not (self._home.root / NEXT_KEY).exists():
            self._write(NEXT_KEY, origin)
        return self._read(NEXT_KEY)

    def retire(self) -> None:
        """Overwrite the old key with its successor."""
        self._home.write(KEY, self._home.read(NEXT_KEY), mode=0o600)
        self._home.remove(NEXT_KEY)

    def _read(self, name: str) -> LineSigner:
        text = self._home.read(name).decode("ascii", "replace")
        if is_sealed(text):
            if self._passphrase is None:
                raise SignerRefused("signer.passphrase", "the key is encrypted: set signer_passphrase_file")
            return open_sealed(text, self._passphrase)
        if self._passphrase is None:
            self._refuse_plaintext()
            return parse_note_key(text, name)
        signer, seed = parse_note_seed(text, name)
        self._home.write(name, seal_seed(signer, seed, self._passphrase).encode(), mode=0o600)
        log.warning("%s lay open on the disk until now; it is encrypted from here on", name)
        return signer

    def _write(self, name: str, origin: str) -> None:
        signer, seed = new_note_key(origin)
        if self._passphrase is None:
            self._refuse_plaintext()
            text = format_note_key(signer, seed)
        else:
            text = seal_seed(signer, seed, self._passphrase)
        self._home.write(name, text.encode(), mode=0o600)

    def _refuse_plaintext(self) -> None:
        if not self._plaintext_allowed:
            why = "set signer_passphrase_file or signer_pkcs11_module (or signer_allow_plaintext_key)"
            raise SignerRefused("signer.plaintext_key", f"in production the key may not lie open: {why}")


def open_key_store(settings: SignerSettings, home: Disk) -> KeyStore:
    """Return where these settings keep the key; passphrase and PIN are read now. Raises LogKeyInvalid."""
    if settings.signer_pkcs11_module is not None:
        from stackwitness.log.signer.hsm import TokenKeys  # loads python-pkcs11, only for those who have one

        if settings.signer_pkcs11_pin_file is None:
            raise LogKeyInvalid("signer_pkcs11_module needs signer_pkcs11_pin_file")
        pin = read_secret(settings.signer_pkcs11_pin_file).decode()
        return TokenKeys(home, settings.signer_pkcs11_module, settings.signer_pkcs11_token, pin)
    if settings.signer_passphrase_file is None:
        return KeyFiles(home, plaintext_allowed=settings.plaintext_key_allowed)
    passphrase = read_secret(settings.signer_passphrase_file)
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise LogKeyInvalid(f"the passphrase has less than {MIN_PASSPHRASE_BYTES} bytes")
    return KeyFiles(home, passphrase, plaintext_allowed=settings.plaintext_key_allowed)


def read_secret(path: Path) -> bytes:
    """Return the first line of a file; raises LogKeyInvalid when it cannot be read or is empty."""
    try:
        secret = path.read_bytes().split(b"\n", 1)[0]
    except OSError as error:
        raise LogKeyInvalid(f"{path} cannot be read: {error.strerror}") from None
    if not secret:
        raise LogKeyInvalid(f"{path} is empty")
    return secret
