"""The log's key inside a PKCS#11 token: this process can ask for signatures, nobody can take the key away.

The file `log.token` in the signer's folder names the keys in use by their labels, one a line.
"""

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.types import SignMixin
from pkcs11.util.ec import encode_named_curve_parameters

from emdi.encoding import b64_encode
from emdi.note import KIND_ED25519, VerifierKey, check_name
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid, SignerUnavailable
from stackwitness.log.signer.keys import LineSigner

LABELS = "log.token"
ED25519 = "1.3.101.112"
POINT_PREFIX = b"\x04\x20"  # EC_POINT is a DER octet string of 32 bytes


class TokenSigner:
    """A note signer (kind 1) whose private half stays in the token."""

    def __init__(self, name: str, private: SignMixin, public: bytes) -> None:
        check_name(name)
        self._private = private
        self.verifier = VerifierKey(name, KIND_ED25519, public)

    @property
    def vkey(self) -> str:
        """The public half as text."""
        return self.verifier.format()

    def sign(self, text: str) -> str:
        """Return the signature line; raises SignerUnavailable when the token does not sign."""
        with token_errors():
            blob = self._private.sign(text.encode(), mechanism=Mechanism.EDDSA)
        return f"\u2014 {self.verifier.name} {b64_encode(self.verifier.keyid + blob)}\n"


class TokenKeys:
    """Keys of one log in one token; `pin` is the user's. The session lasts as long as the process."""

    def __init__(self, home: Disk, module: Path, token: str, pin: str) -> None:
        self._home = home
        self._module = module
        self._token = token
        self._pin = pin
        self._session: pkcs11.Session | None = None

    def exists(self) -> bool:
        """Tell whether there is a key at all."""
        return (self._home.root / LABELS).exists()

    def create(self, origin: str) -> None:
        """Make the first key."""
        self._write([self._generate(origin)])

    def load(self) -> tuple[LineSigner, ...]:
        """Return the key in use, and its successor; raises LogKeyInvalid, SignerUnavailable."""
        self._close()  # after a failure the old session may be dead
        return tuple(self._find(label) for label in self._labels())

    def mark(self) -> object:
        """Return inode and time of the file of labels."""
        path = self._home.root / LABELS
        return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None

    def add_next(self, origin: str) -> LineSigner:
        """Make the successor; the same one when there is one already."""
        if len(self._labels()) == 1:
            self._write([*self._labels(), self._generate(origin)])
        return self._find(self._labels()[1])

    def retire(self) -> None:
        """Forget the old key's label; the key itself is left to the token's owner to destroy."""
        self._write(self._labels()[1:])

    def _labels(self) -> list[str]:
        return self._home.read(LABELS).decode().splitlines()

    def _write(self, labels: list[str]) -> None:
        self._home.write(LABELS, "".join(f"{label}\n" for label in labels).encode(), mode=0o600)

    def _open(self) -> pkcs11.Session:
        if self._session is None:
            with token_errors():
                token = pkcs11.lib(str(self._module)).get_token(token_label=self._token)
                try:
                    self._session = token.open(user_pin=self._pin, rw=True)
                except pkcs11.UserAlreadyLoggedIn:  # a login holds for all sessions of a process
                    self._session = token.open(rw=True)
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):
                session.close()

    def _generate(self, origin: str) -> str:
        label, curve = f"{origin} {secrets.token_hex(4)}", encode_named_curve_parameters(ED25519)
        session = self._open()
        with token_errors():
            parameters = session.create_domain_parameters(
                KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: curve}, local=True
            )
            parameters.generate_keypair(
                mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                label=label,
                store=True,
                private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )
        return label

    def _find(self, label: str) -> TokenSigner:
        session = self._open()
        with token_errors():
            private = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label)
            public = session.get_key(object_class=ObjectClass.PUBLIC_KEY, label=label)
            point: bytes = public[Attribute.EC_POINT]
        if len(point) != 34 or not point.startswith(POINT_PREFIX) or not isinstance(private, SignMixin):
            raise LogKeyInvalid(f"{label!r} in the token is no Ed25519 key")
        return TokenSigner(label.rpartition(" ")[0], private, point[2:])


@contextmanager
def token_errors() -> Iterator[None]:
    """Turn the token's errors into ours: a missing key needs a person, anything else may pass."""
    try:
        yield
    except (
        pkcs11.NoSuchKey,
        pkcs11.NoSuchToken,
        pkcs11.PinIncorrect,
        pkcs11.MultipleObjectsReturned,
    ) as error:
        raise LogKeyInvalid(f"the token: {type(error).__name__} {error}".rstrip()) from None
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise SignerUnavailable(f"the token: {type(error).__name__} {error}".rstrip()) from None
