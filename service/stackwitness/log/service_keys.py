"""Which key signs events now: the one the database's newest `service.key` made, loaded from this machine's folder.

A key's file is `service.pem` for the first and `<kid>.pem` for each later one; `<kid>.next.pem` while it takes over.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from emdi.event import parse_event
from emdi.keyring import KeyRing
from emdi.keys import LocalKey, PublicKey, Signer
from emdi.service_keys import SERVICE_EVENTS, ServiceSpan
from stackwitness.db.embedded import locked
from stackwitness.log.errors import ServiceKeyUnusable

FIRST_KID = "service-1"
NEXT = ".next.pem"
_LIVE = """
    SELECT kid FROM service_key k WHERE NOT EXISTS (SELECT FROM service_key n WHERE n.old_kid = k.kid)
"""
# Where an event stands in the log; what waits comes after all that stands there, in the order it will be taken.
PLACE = """coalesce((SELECT idx FROM log_entry WHERE kind = 2 AND entry_id = {id}),
    (SELECT qid + 4611686018427387904 FROM log_pending WHERE kind = 2 AND entry_id = {id}))"""
_EVENTS = f"""
    SELECT w.jws, {PLACE.format(id="w.event_id")} AS idx FROM event w
    WHERE w.subj = 'log' AND w.typ = ANY(:types) ORDER BY w.sseq
"""


class ServiceKey:
    """Sign events with the key in use, which another process may have changed meanwhile."""

    def __init__(self, key_dir: Path, key: LocalKey) -> None:
        self.key_dir = key_dir
        self._key = key

    @property
    def kid(self) -> str:
        """Name the key used last."""
        return self._key.kid

    @property
    def public(self) -> PublicKey:
        """Return its public half."""
        return self._key.public

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature."""
        return self._key.sign(data)

    def load(self, kid: str) -> LocalKey:
        """Go on with another key of the folder and return it; raises ServiceKeyUnusable."""
        if self._key.kid != kid:
            self._key = load_key(self.key_dir, kid)
        return self._key


def open_service_key(key_dir: Path) -> ServiceKey:
    """Return the service's key, made at the first start; two processes agree on one."""
    key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = key_dir / "service.pem"
    with locked(key_dir / "lock"):
        if not path.exists() and not any(key_dir.glob("service-*.pem")):
            save_key(LocalKey.generate("Ed25519", FIRST_KID), path)
    kids = (
        [FIRST_KID]
        if path.exists()
        else sorted(file.name.partition(".")[0] for file in key_dir.glob("service-*.pem"))
    )
    return ServiceKey(key_dir, load_key(key_dir, kids[0]))


def save_key(key: LocalKey, path: Path) -> None:
    """Write a key so that the file is whole or not there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    key.save(draft)
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_key(key_dir: Path, kid: str) -> LocalKey:
    """Read the key of this id; raises ServiceKeyUnusable when this machine has none."""
    lasting = "service.pem" if kid == FIRST_KID else f"{kid}.pem"
    for name in (lasting, f"{kid}{NEXT}", lasting):  # it may be given its lasting name between two looks
        with suppress(FileNotFoundError):
            return LocalKey.load(key_dir / name, kid)
    raise ServiceKeyUnusable(f"events are signed with key {kid} now, and {key_dir} does not hold it")


def read_live_kid(conn: sa.Connection) -> str | None:
    """Return the id of the key in use; None while it is still the one of leaf 0."""
    kid: str | None = conn.scalar(sa.text(_LIVE))
    return kid


def live_key(conn: sa.Connection, signer: Signer) -> Signer:
    """Return the signer with the key in use. Raises ServiceKeyUnusable for one that holds an ended key only."""
    kid = read_live_kid(conn)
    if isinstance(signer, ServiceKey):
        return signer.load(kid) if kid is not None else signer
    if kid is not None and kid != signer.kid:
        raise ServiceKeyUnusable(f"key {signer.kid} signs no events any more: {kid} follows it")
    return signer


def read_spans(conn: sa.Connection, signer: Signer) -> tuple[ServiceSpan, ...]:
    """Return the service's keys by leaf 0 and the log's events, vouched for by the one this machine holds.

    Each signed which one it follows, so that rows written by hand add none. Raises ServiceKeyUnusable when the line of
    keys does not lead to the one held here, EmdiError.
    """
    genesis = conn.execute(sa.text("SELECT body FROM log_genesis")).scalar()
    if genesis is None:  # before the log process has written leaf 0
        return (ServiceSpan(signer.kid, signer.public, 0),)
    rows = conn.execute(sa.text(_EVENTS), {"types": sorted(SERVICE_EVENTS)}).all()
    spans = _follow(bytes(genesis), tuple((bytes(row.jws), row.idx) for row in rows if row.idx is not None))
    key = live_key(conn, signer)
    if (spans[-1].kid, spans[-1].public) != (key.kid, key.public):
        raise ServiceKeyUnusable(f"the log's events do not lead to key {key.kid}, the one held here")
    return spans


@lru_cache(maxsize=8)
def _follow(genesis: bytes, events: tuple[tuple[bytes, int], ...]) -> tuple[ServiceSpan, ...]:
    """Remembered, since every request asks again."""
    ring = KeyRing()
    ring.take_genesis(0, genesis)
    for jws, idx in events:
        ring.take_event(idx, parse_event(jws))
    return tuple(ring.service.spans())


def find_public(spans: Sequence[ServiceSpan], kid: str, idx: int | None) -> PublicKey | None:
    """Return the key that could sign an event at `idx` (None: nowhere) and is not suspect there."""
    for span in spans:
        if span.kid != kid or idx is None:
            continue
        ended = span.until_idx is not None and span.until_idx < idx
        suspect = span.suspect_from_idx is not None and span.suspect_from_idx <= idx
        return None if ended or suspect or idx <= span.since_idx else span.public
    return None
