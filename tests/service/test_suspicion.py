"""Which envelopes are suspect: the server's SQL says what the key ring learns from the same log, whatever happened."""

import random
from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from emdi.event import parse_event, seal_key_proof, seal_succession
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict
from stackwitness.log.loop import LogLoop
from stackwitness.readings.queries import select_suspects
from stackwitness.settings import Settings
from stackwitness.stations import keys
from stackwitness.stations.domain import NewKey
from stackwitness.stations.queries import list_suspicions
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log

STATIONS, ACTS = 10, 12


@dataclass
class Life:
    """One station whose keys come and go at random; the thief and the officer draw from one hat."""

    station: SmallStation
    chance: random.Random
    known: list[str] = field(default_factory=list)
    live: bool = True

    def act(self, log: SmallLog, loop: LogLoop) -> None:
        self.chance.choice([self.push, self.push, self.rotate, self.rotate, self.replace, self.compromise])(
            log
        )
        if self.chance.random() < 0.8:
            loop.sequence()

    def push(self, log: SmallLog) -> None:
        if self.live:
            self.station.push(self.chance.randint(1, 3))

    def rotate(self, log: SmallLog) -> None:
        if not self.live:
            return
        old, new = self.station.key, self.make_key()
        proof = seal_succession(old, self.station.stn, new.kid, new.public)
        with log.engine.begin() as conn:
            offered = self.offer(new)
            keys.rotate_key(
                conn,
                log.service_key,
                self.station.stn,
                old.kid,
                offered,
                proof,
                act="operator-1",
                test_keys=True,
            )
        self.station.key = new

    def replace(self, log: SmallLog) -> None:
        """Revoke the key in use, and have two officers register another."""
        new, stn = self.make_key(), self.station.stn
        with log.engine.begin() as conn:
            if self.live:
                keys.revoke_key(conn, log.service_key, stn, self.station.key.kid, "worn", act="operator-1")
            keys.request_key(conn, log.service_key, stn, self.offer(new), act="operator-1", test_keys=True)
            keys.approve_key(conn, log.service_key, stn, new.kid, act="operator-2")
        self.station.key, self.live = new, True

    def compromise(self, log: SmallLog) -> None:
        kid, stn = self.chance.choice(self.known), self.station.stn
        with log.engine.begin() as conn:
            size = conn.scalar(sa.text("SELECT coalesce(max(size), 0) FROM log_head"))
            assert size is not None
            try:
                from_idx = self.chance.randint(0, size)
                keys.compromise_key(conn, log.service_key, stn, kid, "stolen", from_idx, act="operator-1")
            except Conflict:
                return  # it is suspect from an earlier index already
        self.live = self.live and kid != self.station.key.kid

    def make_key(self) -> LocalKey:
        kid = f"{self.station.stn}-{len(self.known)}"
        self.known.append(kid)
        return LocalKey.from_seed(kid.encode().ljust(32, b"."), kid)

    def offer(self, key: LocalKey) -> NewKey:
        return NewKey(key.kid, key.public.alg, key.public.raw, seal_key_proof(key, self.station.stn))


def test_sql_and_key_ring_suspect_the_same_envelopes(settings: Settings, engine: sa.Engine) -> None:
    log = make_log(settings, engine)
    loop = log.start()
    lives = []
    for number in range(STATIONS):
        life = Life(SmallStation(log, f"S{number}"), random.Random(number))
        life.station.key = life.make_key()
        life.station.register()
        lives.append(life)
    loop.sequence()
    for _ in range(ACTS):
        for life in lives:
            life.act(log, loop)
    loop.sequence()
    ring = learn(engine, log)
    followers = 0
    for life in lives:
        stn = life.station.stn
        with unit_of_work(engine, "sw_export", EVERY_AGENCY) as conn:
            found = {one.kid: one for one in select_suspects(conn, stn)}
            listed = list_suspicions(conn, stn)
            places = conn.execute(
                sa.text(
                    "SELECT v.kid, e.idx FROM envelope_seen v JOIN log_entry e ON e.entry_id = v.env_id WHERE stn = :s"
                ),
                {"s": stn},
            ).all()
        marked = {span.kid: span for span in ring.spans(stn) if span.suspect_from_idx is not None}
        assert {kid: one.from_idx for kid, one in listed.items()} == {
            kid: span.suspect_from_idx for kid, span in marked.items()
        }
        suspect = Counter(row.kid for row in places if ring.suspect(stn, row.kid, row.idx))
        assert {kid: one.envelopes for kid, one in found.items()} == suspect
        for one in found.values():
            assert (one.from_idx, one.compromised_kid) == (
                listed[one.kid].from_idx,
                listed[one.kid].compromised_kid,
            )
            followers += one.compromised_kid != one.kid
    assert followers >= 3, "the histories drawn say nothing of rotations"


def learn(engine: sa.Engine, log: SmallLog) -> KeyRing:
    """Let a key ring take the log's own events, in the log's order."""
    ring = KeyRing()
    with engine.begin() as conn:
        rows = conn.execute(
            sa.text(
                "SELECT e.idx, w.jws FROM event w JOIN log_entry e ON e.entry_id = w.event_id ORDER BY e.idx"
            )
        ).all()
    for row in rows:
        ring.take_event(row.idx, parse_event(bytes(row.jws)))
    return ring
