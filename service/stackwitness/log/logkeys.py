"""Which keys have signed this log: that of leaf 0, then those of its `log.key` events."""

import sqlalchemy as sa

from emdi.errors import EmdiError
from emdi.event import Event, parse_event
from emdi.note import VerifierKey
from emdi.policy import parse_policy
from stackwitness.log.errors import LogForked
from stackwitness.log.genesis import Genesis, read_genesis

LOG_KEY = "log.key"


class LogKeys:
    """The keys of one log in the order they came: that of leaf 0, then those of its `log.key` events."""

    def __init__(self, genesis: Genesis) -> None:
        self.policy = genesis.policy
        self.vkeys = [log.key.format() for log in parse_policy(genesis.policy).logs]

    def take(self, event: Event) -> None:
        """Add the key of a `log.key` event; one that does not continue the line of keys adds nothing."""
        if event.typ != LOG_KEY:
            return
        old, new = event.data.get("vkey_old"), event.data.get("vkey_new")
        if old != self.vkeys[-1] or not isinstance(new, str) or new in self.vkeys:
            return
        try:
            same_log = VerifierKey.parse(new).name == VerifierKey.parse(self.vkeys[0]).name
        except EmdiError:
            return
        if same_log:
            self.vkeys.append(new)

    def policy_text(self) -> str:
        """Return the policy of leaf 0 with a line for each later key."""
        text = self.policy
        for vkey in self.vkeys[1:]:
            text = add_log_line(text, vkey)
        return text


def add_log_line(policy: str, vkey: str) -> str:
    """Return a policy text that names one more key of the log, behind those it names already."""
    lines = policy.split("\n")
    last = max((n for n, line in enumerate(lines) if line.split()[:1] == ["log"]), default=-1)
    text = "\n".join([*lines[: last + 1], f"log {vkey}", *lines[last + 1 :]])
    parse_policy(text)
    return text


def read_log_keys(conn: sa.Connection, genesis: Genesis | None = None) -> LogKeys:
    """Return the log's keys as the database has them; raises LogForked without a leaf 0."""
    genesis = genesis or read_genesis(conn)
    if genesis is None:
        raise LogForked("this database has no leaf 0")
    keys = LogKeys(genesis)
    query = "SELECT jws FROM event WHERE subj = 'log' AND typ = :typ ORDER BY sseq"
    for jws in conn.execute(sa.text(query), {"typ": LOG_KEY}).scalars():
        keys.take(parse_event(bytes(jws)))
    return keys
