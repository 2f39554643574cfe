"""A small honest log in memory, entry by entry, and whoever acts in it."""

import contextlib
import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from emdi import bundle, merkle
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode, dump_json
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_READING, encode_entry, parse_entry
from emdi.envelope import ZERO_HASH, Envelope, parse_envelope, seal_envelope
from emdi.errors import EmdiError
from emdi.event import Event, parse_event, seal_event, seal_key_proof, seal_succession
from emdi.head import HeadsBuilder, head_root
from emdi.keys import LocalKey
from emdi.note import NoteSigner, sign_note
from emdi.pack import Record

ORIGIN = "log.example/2026"
STN = "mill-1"
START_MS = 1_790_000_000_000
NEXT = "log.example/next"
SALT = bytes(range(32))


OFFICERS = {"operator-1": "operator", "operator-2": "operator", "inspector-1": "inspector"}


def name_of(account_id: str) -> str:
    """Return the display name of an account: no person's."""
    return account_id.replace("-", " ").capitalize()


def seed(word: str) -> bytes:
    return hashlib.sha256(f"only for tests: {word}".encode()).digest()


class SteadyKey(LocalKey):
    """An ES256 key whose signatures are the same each time (RFC 6979)."""

    @classmethod
    def of_word(cls, word: str, kid: str) -> "SteadyKey":
        return cls(kid, ec.derive_private_key(int.from_bytes(seed(word), "big") >> 1, ec.SECP256R1()))

    def sign(self, data: bytes) -> bytes:
        if not isinstance(self._private, ec.EllipticCurvePrivateKey):
            return super().sign(data)
        der = self._private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass
class Log:
    """A log in memory: entries by index, plus the two chains it feeds."""

    service: LocalKey = field(default_factory=lambda: LocalKey.from_seed(seed("service"), "service-1"))
    station: LocalKey = field(default_factory=lambda: LocalKey.from_seed(seed("station"), "mill-1-a"))
    log_key: NoteSigner = field(default_factory=lambda: NoteSigner(ORIGIN, seed("log")))
    export_key: NoteSigner = field(default_factory=lambda: NoteSigner(f"{ORIGIN}/export", seed("export")))
    entries: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    log_events: list[Event] = field(default_factory=list)
    grants: list[Event] = field(default_factory=list)
    explained: dict[bytes, str] = field(default_factory=dict)
    heads: dict[int, list[str]] = field(default_factory=dict)
    envelopes: list[Envelope] = field(default_factory=list)
    period_ms: tuple[int, int] = (START_MS, START_MS + 3_600_000)
    rows: dict[str, list[str]] = field(default_factory=lambda: {"readings": [], "flags": [], "reviews": []})

    @property
    def policy(self) -> str:
        return f"log {self.log_key.vkey}\nquorum none\n"

    def append(self, kind: int, body: bytes) -> int:
        self.entries.append(encode_entry(kind, START_MS + 1000 * len(self.entries), body))
        return len(self.entries) - 1

    def genesis(self) -> None:
        members = {
            "v": 1,
            "origin": ORIGIN,
            "policy": self.policy,
            "service_kid": self.service.kid,
            "service_public_b64u": b64u_encode(self.service.public.raw),
            "export_vkey": self.export_key.vkey,
            "created_ms": START_MS,
        }
        self.append(KIND_GENESIS, dump_json(members))

    def make_event(self, typ: str, data: dict[str, Any], act: str = "system") -> Event:
        last = self.events[-1] if self.events else None
        sseq, sprev = (last.sseq + 1, last.event_id) if last else (0, ZERO_HASH)
        return seal_event(
            self.service,
            typ=typ,
            subj=f"station:{STN}",
            sseq=sseq,
            sprev=sprev,
            act=act,
            ts_ms=START_MS,
            data=data,
        )

    def event(self, typ: str, data: dict[str, Any], act: str = "system") -> int:
        event = self.make_event(typ, data, act)
        self.events.append(event)
        return self.append(KIND_EVENT, event.jws)

    def explain(self, typ: str, data: dict[str, Any], why: str, act: str) -> int:
        """Append an event that names its reason by salted hash."""
        digest = bundle.Disclosure(b"", SALT, why).digest.hex()
        idx = self.event(typ, {**data, "why_sha256": digest}, act)
        self.explained[self.events[-1].event_id] = why
        return idx

    def grant(self, account_id: str, role: str) -> int:
        """Append the event that lets somebody in; the name behind it is disclosed in bundles."""
        data = {"account_id": account_id, "role": role, "agency": None}
        data |= {"display_sha256": bundle.Disclosure(b"", SALT, name_of(account_id)).digest.hex()}
        event = seal_event(
            self.service,
            typ="access.grant",
            subj=f"account:{account_id}",
            sseq=0,
            sprev=ZERO_HASH,
            act="service:command-line",
            ts_ms=START_MS,
            data=data,
        )
        self.grants.append(event)
        return self.append(KIND_EVENT, event.jws)

    def let_officers_in(self) -> None:
        """Append the grants of everybody who acts here."""
        for account_id, role in OFFICERS.items():
            self.grant(account_id, role)

    def register_key(self, key: LocalKey, succeeds: LocalKey | None = None) -> int:
        """Append the events of a key: asked for and approved by two officers, or vouched for by the old key."""
        data = {
            "stn": STN,
            "kid": key.kid,
            "alg": key.public.alg,
            "public_b64u": b64u_encode(key.public.raw),
            "proof": seal_key_proof(key, STN),
        }
        if succeeds is not None:
            proof = seal_succession(succeeds, STN, key.kid, key.public)
            return self.event(
                "key.rotate", {**data, "old_kid": succeeds.kid, "old_proof": proof}, "operator-1"
            )
        self.event("key.request", data, "operator-1")
        approved = {"approvals": ["operator-1", "operator-2"], "request": self.events[-1].event_id.hex()}
        return self.event("key.register", {**data, **approved}, "operator-2")

    def envelope(self, *, ep: int | None = None, count: int = 3) -> int:
        last = self.envelopes[-1] if self.envelopes else None
        if last is None or (ep is not None and ep != last.ep):
            place = {"ep": ep or 0, "seq": 0, "prev": ZERO_HASH}
        else:
            place = {"ep": last.ep, "seq": last.seq + 1, "prev": last.env_id}
        at_ms = START_MS + 60_000 * len(self.envelopes)
        records = [
            Record(f"nox-{number}", at_ms, "mg/m3", Decimal("40.25") + number, "N") for number in range(count)
        ]
        records.append(Record("so2", at_ms, "mg/m3", None, "D"))
        envelope = seal_envelope(self.station, stn=STN, iat_ms=at_ms, cp=None, records=records, **place)
        self.envelopes.append(envelope)
        idx = self.append(KIND_READING, envelope.jws)
        for item in sorted(records, key=lambda record: (record.at_ms, record.name)):
            value = None if item.value is None else float(item.value)
            row = (idx, STN, envelope.ep, envelope.seq, item.at_ms, item.name, item.unit, value, item.status)
            self.rows["readings"].append(bundle.readings_csv_row(*row))
        return idx

    def flag(self) -> str:
        flag_id = f"{STN}-{len(self.events)}"
        period = {"from_ms": START_MS, "to_ms": START_MS + 3_600_000}
        named = {"flag_id": flag_id, "detector": "hold", "kind": "hold", "verdict": "very unlikely"}
        texts = {"text_en": "NOx stands still.", "text_zh": "氮氧化物不变。"}
        data = {**named, **period, "channels": ["nox-0", "nox-1"], "e_value": 0.001, **texts}
        idx = self.event("flag.raised", data)
        digest = bundle.flag_text_sha256(texts["text_en"], texts["text_zh"])
        self.rows["flags"].append(
            bundle.flags_csv_row(idx, *named.values(), *period.values(), data["channels"], digest)
        )
        return flag_id

    def review(self, flag_id: str, reason: str) -> None:
        review_id = f"{STN}-{len(self.events)}"
        digest = hashlib.sha256(SALT + reason.encode()).hexdigest()
        data = {
            "review_id": review_id,
            "flag_id": flag_id,
            "decision": "needs_visit",
            "reason_sha256": digest,
        }
        idx = self.event("review.decision", data, act="inspector-1")
        self.rows["reviews"].append(
            bundle.reviews_csv_row(idx, review_id, flag_id, "needs_visit", "inspector-1")
        )

    def head(self) -> None:
        """Append the head of all entries so far, as an event on the log itself."""
        as_of = len(self.entries)
        lines = self.head_lines(as_of)
        data = {
            "as_of": as_of,
            "date": "2026-09-21",
            "lines": len(lines),
            "root_b64u": b64u_encode(head_root(lines)),
            "occasion": "demand",
        }
        last = self.log_events[-1] if self.log_events else None
        sseq, sprev = (last.sseq + 1, last.event_id) if last else (0, ZERO_HASH)
        event = seal_event(
            self.service,
            typ="head.daily",
            subj="log",
            sseq=sseq,
            sprev=sprev,
            act="service:log",
            ts_ms=START_MS,
            data=data,
        )
        self.log_events.append(event)
        self.append(KIND_EVENT, event.jws)
        self.heads[as_of] = lines

    def freeze(self, signer: LocalKey | None = None, **data: Any) -> int:
        """Append log.freeze as the log's next event and return its index; say otherwise in it what `data` says."""
        last = self.log_events[-1]
        said = {
            "final_size_before": len(self.entries),
            "successor_origin": NEXT,
            "why_sha256": "0" * 64,
            **data,
        }
        event = seal_event(
            signer or self.service,
            typ="log.freeze",
            subj="log",
            sseq=last.sseq + 1,
            sprev=last.event_id,
            act="service:service-1",
            ts_ms=START_MS,
            data=said,
        )
        self.log_events.append(event)
        return self.append(KIND_EVENT, event.jws)

    def end(self) -> int:
        """Append the last head and the freeze, as the service does; return the index of the freeze."""
        self.head()
        return self.freeze()

    def head_lines(self, as_of: int) -> list[str]:
        builder = HeadsBuilder()
        for idx, entry in enumerate(map(parse_entry, self.entries[:as_of])):
            # A forger's head is silent about what would give the forgery away.
            with contextlib.suppress(EmdiError):
                if entry.kind == KIND_READING:
                    builder.take(parse_envelope(entry.body), idx)
                elif entry.kind == KIND_EVENT:
                    builder.take(parse_event(entry.body), idx)
        return builder.lines()

    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(entry) for entry in self.entries]

    def checkpoint(self) -> bytes:
        leaves = self.leaves()
        return sign_note(Checkpoint(ORIGIN, len(leaves), merkle.root_of(leaves)).text(), self.log_key)


def honest_log(log: Log | None = None) -> Log:
    """Return a log with one station: officers, key, envelopes, a rotated key, a flag and a decision."""
    log = log or Log()
    log.genesis()
    log.let_officers_in()
    log.event("station.register", {"stn": STN, "name": "Mill"})
    log.register_key(log.station)
    for _ in range(3):
        log.envelope()
    flag_id = log.flag()
    log.review(flag_id, "Send someone.")
    old, log.station = log.station, SteadyKey.of_word("station b", "mill-1-b")
    log.register_key(log.station, old)
    for _ in range(3):
        log.envelope()
    log.envelope(ep=1)
    log.envelope()
    return log
