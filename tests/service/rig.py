"""A station for tests: registers itself over HTTP, keeps its own chain, seals envelopes."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from emdi.encoding import b64u_encode
from emdi.envelope import ZERO_HASH, Envelope, Skip, seal_envelope
from emdi.event import seal_key_proof, seal_succession
from emdi.keys import Alg, LocalKey
from emdi.pack import Record
from stackwitness import clock
from tests.support.service import Service

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE_MS = 60_000
CHANNELS: list[dict[str, Any]] = [
    {
        "name": "nox",
        "quantity": "NOx",
        "unit": "mg/m3",
        "role": "pollutant",
        "limit": 50.0,
        "resolution": 0.1,
    },
    {
        "name": "so2",
        "quantity": "SO2",
        "unit": "mg/m3",
        "role": "pollutant",
        "limit": 35.0,
        "resolution": 0.1,
    },
    {"name": "load", "quantity": "power", "unit": "MW", "role": "load", "limit": None, "resolution": None},
]


def key_form(key: LocalKey, stn: str) -> dict[str, str]:
    """Return the body that registers a key at a station."""
    return {
        "kid": key.kid,
        "alg": key.public.alg,
        "public_b64u": b64u_encode(key.public.raw),
        "proof": seal_key_proof(key, stn),
    }


def station_form(stn: str, channels: Sequence[dict[str, Any]] = CHANNELS) -> dict[str, Any]:
    """Return the body that registers a station."""
    return {
        "stn": stn,
        "name": f"Stack {stn}",
        "agency": "Test bureau",
        "industry": "power",
        "lat": 31.2,
        "lon": 121.5,
        "utc_offset_min": 480,
        "channels": list(channels),
    }


def minute(at_ms: int, value: str = "12.5") -> list[Record]:
    """Return one record per channel at one time."""
    return [
        Record("nox", at_ms, "mg/m3", Decimal(value), "N"),
        Record("so2", at_ms, "mg/m3", Decimal("3.25"), "N"),
        Record("load", at_ms, "MW", None, "D"),
    ]


class Rig:
    """A registered station with one key and its chain, as a real station would keep it."""

    def __init__(
        self, service: Service, stn: str = "4711", alg: Alg = "Ed25519", form: dict[str, Any] | None = None
    ) -> None:
        self.service, self.client, self.stn = service, service.client, stn
        self.operator, self.approver = service.headers("operator"), service.headers("approver")
        answer = self.client.post("/v1/stations", json=form or station_form(stn), headers=self.operator)
        assert answer.status_code == 201, answer.text
        self.key = LocalKey.generate(alg, f"{stn}-1")
        self.register(self.key)
        self.ep, self.seq, self.prev = 1, 0, ZERO_HASH
        self.at_ms = START_MS

    def register(self, key: LocalKey) -> None:
        """Register a key: one operator asks, another one approves."""
        path = f"/v1/stations/{self.stn}/keys"
        answer = self.client.post(path, json=key_form(key, self.stn), headers=self.operator)
        assert (answer.status_code, answer.json()["state"]) == (202, "requested"), answer.text
        answer = self.client.post(f"{path}/{key.kid}/approve", headers=self.approver)
        assert answer.status_code == 201, answer.text

    def rotate(self, new: LocalKey) -> None:
        """Replace the station's key by one it names itself."""
        proof = seal_succession(self.key, self.stn, new.kid, new.public)
        path = f"/v1/stations/{self.stn}/keys/{self.key.kid}/rotate"
        form = {"new": key_form(new, self.stn), "old_proof": proof}
        answer = self.client.post(path, json=form, headers=self.operator)
        assert answer.status_code == 201, answer.text
        self.key = new

    def revoke(self, kid: str) -> None:
        """Revoke a key."""
        path = f"/v1/stations/{self.stn}/keys/{kid}/revoke"
        answer = self.client.post(path, json={"why": "test"}, headers=self.operator)
        assert answer.status_code == 200, answer.text

    def seal(self, **changes: Any) -> Envelope:
        """Return what would be the next envelope, with these claims changed; the chain does not move."""
        claims: dict[str, Any] = {
            "stn": self.stn,
            "ep": self.ep,
            "seq": self.seq,
            "prev": self.prev,
            "iat_ms": clock.now_ms(),
            "cp": None,
            "records": minute(self.at_ms),
        }
        signer = changes.pop("signer", self.key)
        return seal_envelope(signer, **{**claims, **changes})

    def next(self, **changes: Any) -> Envelope:
        """Return the next envelope and move the chain."""
        envelope = self.seal(**changes)
        self.ep, self.seq, self.prev = envelope.ep, envelope.seq + 1, envelope.env_id
        self.at_ms += MINUTE_MS
        return envelope

    def skip(self, count: int) -> Envelope:
        """Lose `count` envelopes and return the next, which admits it."""
        first = self.seq
        self.seq += count
        return self.next(skip=Skip(first, self.seq - 1, "spool lost"))

    def post(self, *envelopes: Envelope | bytes, **query: Any) -> Any:
        """Post envelopes as one request."""
        lines = [item.jws if isinstance(item, Envelope) else item for item in envelopes]
        return self.client.post("/v1/envelopes", content=b"\n".join(lines), params=query)

    def stored(self) -> list[tuple[int, int]]:
        """Return the (ep, seq) the database holds, in the order stored."""
        rows = self.service.rows(
            "SELECT ep, seq FROM envelope WHERE stn = :stn ORDER BY envelope_no", stn=self.stn
        )
        return [(row.ep, row.seq) for row in rows]
