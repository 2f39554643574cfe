"""Leaf 0 of the log: its name, the policy, and the keys everything later is checked with."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from emdi.encoding import b64u_decode, b64u_encode, load_json
from emdi.keyring import OFFICERS
from emdi.keys import PublicKey
from emdi.policy import parse_policy
from stackwitness.log.errors import LogForked

VERSION = 1


@dataclass(frozen=True)
class Genesis:
    """What leaf 0 says. `policy` is the policy file's text; `created_ms` is Unix milliseconds.

    `key_approvals` is how many officers stand behind a station's key: two, unless a log of development says one.
    `previous` commits to the shard before this one (emdi.shard).
    """

    origin: str
    policy: str
    service_kid: str
    service_public_b64u: str
    export_vkey: str
    created_ms: int
    key_approvals: int = OFFICERS
    previous: dict[str, Any] | None = None

    def body(self) -> bytes:
        """Return the leaf's bytes: JSON, sorted names, no spaces; the usual number of officers goes unsaid."""
        members = {"v": VERSION, **asdict(self)}
        if self.key_approvals == OFFICERS:
            del members["key_approvals"]
        if self.previous is None:
            del members["previous"]
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()

    @property
    def service_public(self) -> PublicKey:
        """The Ed25519 key that signs events."""
        return PublicKey.from_bytes("Ed25519", b64u_decode(self.service_public_b64u))


def parse_genesis(body: bytes) -> Genesis:
    """Read leaf 0; raises EmdiError for malformed JSON and LogForked for another version."""
    members = load_json(body)
    if not isinstance(members, dict) or members.pop("v", None) != VERSION:
        raise LogForked("leaf 0 is of another version")
    return Genesis(**members)


def make_genesis(
    origin: str,
    log_vkey: str,
    service_kid: str,
    service_public: PublicKey,
    export_vkey: str,
    created_ms: int,
    key_approvals: int = OFFICERS,
    previous: dict[str, Any] | None = None,
) -> Genesis:
    """Put together leaf 0 of a new log, with the policy every reader starts from: this log, no witness
    yet.
    """
    policy = f"log {log_vkey}\nquorum none\n"
    parse_policy(policy)
    public_b64u = b64u_encode(service_public.raw)
    return Genesis(origin, policy, service_kid, public_b64u, export_vkey, created_ms, key_approvals, previous)


def read_genesis(conn: sa.Connection) -> Genesis | None:
    """Return leaf 0 as stored; None in a database that never had a log."""
    row = conn.execute(sa.text("SELECT body FROM log_genesis")).one_or_none()
    return None if row is None else parse_genesis(bytes(row.body))


def store_genesis(conn: sa.Connection, genesis: Genesis) -> None:
    """Queue leaf 0; the caller holds the log's lock, and there is none yet."""
    body = genesis.body()
    conn.execute(
        sa.text("INSERT INTO log_genesis (entry_id, body, recv_ms) VALUES (:entry_id, :body, :recv_ms)"),
        {"entry_id": hashlib.sha256(body).digest(), "body": body, "recv_ms": genesis.created_ms},
    )
