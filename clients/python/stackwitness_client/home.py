"""A station's folder: its configuration, key, pinned policy and spool.

station.json    stn, kid, server URL, unit of each channel, file of the key
key.pem         private key (PKCS8, mode 0600); after a rotation key-<kid>.pem
policy.txt      the log's key and witnesses, pinned
spool.db        see stackwitness_client.spool
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from emdi.errors import EmdiError
from emdi.keys import Alg, LocalKey
from emdi.policy import parse_policy
from stackwitness_client.errors import KeyFileError
from stackwitness_client.station import Station

CONFIG, KEY, POLICY = "station.json", "key.pem", "policy.txt"


@dataclass(frozen=True)
class StationConfig:
    """Say who the station is and where it sends; `units` maps channel names to units, `key` names a file."""

    stn: str
    kid: str
    server: str
    units: Mapping[str, str]
    key: str = KEY


def make_home(home: Path, config: StationConfig, *, alg: Alg, policy_text: str) -> LocalKey:
    """Make a station's folder with a new key; raises KeyFileError when there is one already."""
    try:
        parse_policy(policy_text)
    except EmdiError as error:
        raise KeyFileError(error.code, f"the policy cannot be used: {error}") from error
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (home / KEY).exists():
        raise KeyFileError("home.exists", f"{home} has a key already; a key is never replaced in place")
    key = LocalKey.generate(alg, config.kid)
    write_private(home / POLICY, policy_text)
    key.save(home / KEY)
    # Written last: a folder with a configuration is complete.
    write_private(home / CONFIG, json.dumps(asdict(config), indent=2) + "\n")
    return key


def load_config(home: Path) -> StationConfig:
    """Read station.json; raises KeyFileError."""
    try:
        found = json.loads((home / CONFIG).read_text("utf-8"))
        units, key = dict(found["units"]), Path(found.get("key", KEY)).name
        return StationConfig(found["stn"], found["kid"], found["server"], units, key)
    except FileNotFoundError as error:
        raise KeyFileError(
            "home.missing", f"{home} is no station's folder; run: stackwitness-station init"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyFileError("home.config", f"{home / CONFIG} cannot be read: {error}") from error


def open_home(home: Path, *, server: str | None = None) -> Station:
    """Open the station of a folder; `server` overrides its URL. Raises KeyFileError or SpoolError."""
    config = load_config(home)
    try:
        signer = LocalKey.load(home / config.key, config.kid)
        policy = parse_policy((home / POLICY).read_text("utf-8"))
    except OSError as error:
        raise KeyFileError("home.incomplete", f"{error.filename}: {error.strerror}") from error
    except EmdiError as error:
        raise KeyFileError(error.code, str(error)) from error
    return Station(home, config.stn, signer, server or config.server, policy, units=config.units)


def make_successor(home: Path, kid: str, alg: Alg) -> LocalKey:
    """Make the key that is to follow, beside the one in use, or return it when it was made before."""
    path = home / f"key-{kid}.pem"
    try:
        if path.exists():
            return LocalKey.load(path, kid)
        key = LocalKey.generate(alg, kid)
        key.save(path)
    except (OSError, EmdiError) as error:
        raise KeyFileError("home.key", f"{path}: {error}") from error
    return key


def adopt_successor(home: Path, kid: str) -> None:
    """Sign with the new key from now on: one file is replaced, whole or not at all. The old key stays beside."""
    config = replace(load_config(home), kid=kid, key=f"key-{kid}.pem")
    write_private(home / CONFIG, json.dumps(asdict(config), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner may read; whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
