"""The policy in force: what verifiers are offered, and which witnesses are asked. Each change is an event."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.keys import Signer
from emdi.policy import Policy, parse_policy, read_change
from stackwitness.db.unit import unit_of_work
from stackwitness.log.errors import PolicyUnusable
from stackwitness.log.events import append_event, lock_subject
from stackwitness.log.genesis import Genesis, read_genesis
from stackwitness.log.logkeys import read_log_keys
from stackwitness.log.queries import find_successor

CHANGED = "policy.change"
SUBJECT = "log"


def read_policy(conn: sa.Connection) -> str | None:
    """Return the policy in force: the text logged last, with a line for each log key that came after it.

    A `policy.change` that no policy can be read from changes nothing: fsck, monitor and verifier name it. None in a database without a log.
    """
    genesis = read_genesis(conn)
    if genesis is None:
        return None
    return _with_keys(_newest(conn, genesis) or genesis.policy, read_log_keys(conn, genesis).vkeys)


def take_policy(engine: sa.Engine, service_key: Signer, vkey: str, policy_file: Path | None) -> Policy:
    """Return the policy in force; a file that differs from what was logged last is logged first.

    Raises PolicyUnusable when the file cannot be read or parsed, or does not name this log's key (`vkey`).
    """
    text = None if policy_file is None else _read(policy_file, vkey)
    with unit_of_work(engine, "sw_seq") as conn:
        lock_subject(conn, SUBJECT)
        genesis = read_genesis(conn)
        logged = None if genesis is None else _newest(conn, genesis) or genesis.policy
        if text is not None and find_successor(conn) is not None:
            return parse_policy(text)  # nothing is logged any more, but witnesses still cosign
        if text is not None and text != logged:
            data = {"policy": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
            append_event(conn, service_key, typ=CHANGED, subj=SUBJECT, act="service:log", data=data)
        return parse_policy(read_policy(conn) or "")


def _newest(conn: sa.Connection, genesis: Genesis) -> str | None:
    query = "SELECT jws FROM event WHERE subj = :subj AND typ = :typ ORDER BY sseq DESC"
    for jws in conn.scalars(sa.text(query), {"subj": SUBJECT, "typ": CHANGED}):
        with suppress(EmdiError):
            return read_change(parse_event(bytes(jws)).data, genesis.origin)
    return None


def _with_keys(text: str, vkeys: Sequence[str]) -> str:
    """Add the log keys a policy does not name yet, after its first line that names one."""
    named = {log.key.format() for log in parse_policy(text).logs}
    lines = text.split("\n")
    first = next(n for n, line in enumerate(lines, 1) if line.split()[:1] == ["log"])
    return "\n".join(
        [*lines[:first], *(f"log {vkey}" for vkey in vkeys if vkey not in named), *lines[first:]]
    )


def _read(path: Path, vkey: str) -> str:
    try:
        text = path.read_text("utf-8")
        policy = parse_policy(text)
    except (OSError, UnicodeDecodeError, EmdiError) as error:
        raise PolicyUnusable(f"{path}: {error}") from None
    if vkey not in {log.key.format() for log in policy.logs}:
        raise PolicyUnusable(f"{path} does not name this log's key {vkey}")
    return text
