"""Stations for the benches: registered in the database, envelopes sealed before the clock starts."""

from decimal import Decimal

from sqlalchemy import Connection

from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.event import seal_key_proof
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness import clock
from stackwitness.accounts.domain import Account
from stackwitness.accounts.flow import grant_access
from stackwitness.stations import flow, keys, queries
from stackwitness.stations.domain import Channel, NewKey, Station
from stackwitness.wiring import Wiring

CHANNEL_COUNT = 12
MINUTE_MS = 60_000
START_MS = 1_767_225_600_000  # 2026-01-01
CHANNELS = tuple(Channel(f"c{n:02d}", "NOx", "mg/m3", "pollutant") for n in range(CHANNEL_COUNT))


class BenchStation:
    """A registered station that seals minute after minute."""

    def __init__(self, wiring: Wiring, conn: Connection, stn: str) -> None:
        self.stn = stn
        self._key = LocalKey.generate("Ed25519", f"{stn}-1")
        self._seq, self._prev, self._at_ms = 0, ZERO_HASH, START_MS
        for name in ("bench", "bench-2"):
            grant_access(conn, wiring.service_key, Account(name, name, "operator"), act="service:bench")
        station = Station(stn, stn, "bench", "bench")
        flow.register_station(conn, wiring.service_key, station, CHANNELS, act="bench")
        proof = seal_key_proof(self._key, stn)
        key = NewKey(self._key.kid, "Ed25519", self._key.public.raw, proof)
        keys.request_key(conn, wiring.service_key, stn, key, act="bench")
        keys.approve_key(conn, wiring.service_key, stn, key.kid, act="bench-2")
        self.channel_nos = [channel.channel_no for channel in queries.list_channels(conn, stn)]

    def seal(self, minutes: int) -> tuple[bytes, str]:
        """Return the next envelope of so many minutes of 12 channels, and its id in hex."""
        records = [
            Record(channel.name, self._at_ms + m * MINUTE_MS, channel.unit, self._value(m, n), "N")
            for m in range(minutes)
            for n, channel in enumerate(CHANNELS)
        ]
        envelope = seal_envelope(
            self._key,
            stn=self.stn,
            ep=0,
            seq=self._seq,
            prev=self._prev,
            iat_ms=clock.now_ms(),
            cp=None,
            records=records,
        )
        self._seq, self._prev = self._seq + 1, envelope.env_id
        self._at_ms += minutes * MINUTE_MS
        return envelope.jws, envelope.env_id.hex()

    def _value(self, minute: int, channel: int) -> Decimal:
        return Decimal((self._seq * 37 + minute * 11 + channel * 101) % 9000 + 10).scaleb(-2)
