"""What the signer is told at its start: options, because it reads neither the environment nor the database."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

# Of the environment only this: a database's address and password are none of a signer's business.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SOFTHSM2_CONF", "PYTHONPATH")


class SignerSettings(Protocol):
    """What a signer must know; the service's settings have it, and so have the options below."""

    @property
    def signer_dir(self) -> Path:
        """The folder of key and state."""

    @property
    def log_dir(self) -> Path:
        """The folder of checkpoint and bundles."""

    @property
    def signer_socket(self) -> Path:
        """Where it answers."""

    @property
    def log_origin(self) -> str:
        """The log's name."""

    @property
    def signer_passphrase_file(self) -> Path | None:
        """The file whose text opens the key; None: the key is not encrypted."""

    @property
    def signer_pkcs11_module(self) -> Path | None:
        """The library of the token that holds the key; None: the key is a file."""

    @property
    def signer_pkcs11_token(self) -> str:
        """The token's label."""

    @property
    def signer_pkcs11_pin_file(self) -> Path | None:
        """The file with the token's PIN."""

    @property
    def plaintext_key_allowed(self) -> bool:
        """Whether a key file may lie open on the disk."""


@dataclass(frozen=True)
class SignerOptions:
    """The settings of a signer process; `home` is the folder it works in."""

    home: Path
    log_origin: str
    signer_passphrase_file: Path | None
    signer_pkcs11_module: Path | None
    signer_pkcs11_token: str
    signer_pkcs11_pin_file: Path | None
    plaintext_key_allowed: bool
    user: str | None
    user_required: bool
    log_json: bool
    init: date | None
    action: str

    # Relative: the process stands in its home. So a home below a closed folder stays within reach of the
    # signer's own user, and the socket's address is short however deep the home is.
    signer_dir = Path("signer")
    log_dir = Path("log")
    signer_socket = Path("sockets/signer.sock")


def parse_options(arguments: Sequence[str]) -> SignerOptions:
    """Read the command line; exits 2 where it cannot be read."""
    parser = argparse.ArgumentParser("python -m stackwitness.log.signer", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--origin", required=True)
    parser.add_argument("--user", help="OS user to run as; only root can change it")
    parser.add_argument("--user-required", action="store_true", help="refuse to run as root instead")
    parser.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--pkcs11-module", type=Path)
    parser.add_argument("--pkcs11-token", default="stackwitness")
    parser.add_argument("--pkcs11-pin-file", type=Path)
    parser.add_argument("--plaintext-key", action="store_true", help="the key may lie open on the disk")
    parser.add_argument("--log-json", action="store_true")
    parser.add_argument("--init", type=date.fromisoformat, metavar="GENESIS-DATE")
    parser.add_argument("action", nargs="?", choices=("serve", "next-key", "retire-key"), default="serve")
    given = parser.parse_args(arguments)
    return SignerOptions(
        home=given.home,
        log_origin=given.origin,
        signer_passphrase_file=given.passphrase_file,
        signer_pkcs11_module=given.pkcs11_module,
        signer_pkcs11_token=given.pkcs11_token,
        signer_pkcs11_pin_file=given.pkcs11_pin_file,
        plaintext_key_allowed=given.plaintext_key,
        user=given.user,
        user_required=given.user_required,
        log_json=given.log_json,
        init=given.init,
        action=given.action,
    )


class ServiceSettings(SignerSettings, Protocol):
    """What of the service's settings a signer's command line is made of."""

    @property
    def home(self) -> Path:
        """The folder of everything on disk."""

    @property
    def mode(self) -> str:
        """development, production or test."""

    @property
    def signer_user(self) -> str | None:
        """The OS user asked for."""

    @property
    def log_json(self) -> bool:
        """Whether logs are JSON lines."""


def signer_command(
    settings: ServiceSettings,
    action: str = "serve",
    *,
    init: date | None = None,
    default_user: str | None = None,
) -> list[str]:
    """Return the command that runs a signer, or one of its actions, for these settings."""
    user = settings.signer_user or default_user
    files = {
        "--passphrase-file": settings.signer_passphrase_file,
        "--pkcs11-module": settings.signer_pkcs11_module,
        "--pkcs11-pin-file": settings.signer_pkcs11_pin_file,
    }
    words = [sys.executable, "-m", "stackwitness.log.signer"]
    words += ["--home", str(settings.home.absolute()), "--origin", settings.log_origin]
    words += ["--user", user] if user else []
    words += ["--user-required"] if settings.signer_user or settings.mode == "production" else []
    for name, path in files.items():
        words += [name, str(path.absolute())] if path is not None else []
    words += ["--pkcs11-token", settings.signer_pkcs11_token] if settings.signer_pkcs11_module else []
    words += ["--plaintext-key"] if settings.plaintext_key_allowed else []
    words += ["--log-json"] if settings.log_json else []
    words += ["--init", init.isoformat()] if init is not None else []
    return [*words, action]


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a signer process gets."""
    return {name: environment[name] for name in PASSED_ON if name in environment}
