"""The schema as SQLModel classes, for typed statements; migrations/sql is the truth, a test compares.

Times in `*_ms` are Unix milliseconds, `*_at` aware UTC, hashes raw SHA-256.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

Instant = DateTime(timezone=True)


def _col(kind: Any, **options: Any) -> Any:
    """Return a NOT NULL column of this type, unless told otherwise."""
    options.setdefault("nullable", False)
    foreign, identity = options.pop("foreign_key", None), options.pop("identity", False)
    parts: list[Any] = [ForeignKey(foreign)] if foreign else []
    if identity:
        parts.append(Identity(always=True))
    return Field(sa_column=Column(kind, *parts, **options))


def _event() -> Any:
    """Return the column that points at the event which made the row."""
    return _col(LargeBinary, foreign_key="event.event_id", unique=True)


class Event(SQLModel, table=True):
    """A governance act: a signed JWS, and a leaf of the log."""

    __tablename__ = "event"
    __table_args__ = (UniqueConstraint("subj", "sseq"),)

    event_id: bytes = _col(LargeBinary, primary_key=True)
    typ: str = _col(Text)
    subj: str = _col(Text)
    sseq: int = _col(BigInteger)
    sprev: bytes = _col(LargeBinary)
    jws: bytes = _col(LargeBinary)
    recv_ms: int = _col(BigInteger)


class SubjectHead(SQLModel, table=True):
    """Cache: the last event of a subject."""

    __tablename__ = "subject_head"

    subj: str = _col(Text, primary_key=True)
    sseq: int = _col(BigInteger)
    event_id: bytes = _col(LargeBinary, foreign_key="event.event_id")


class Account(SQLModel, table=True):
    """A person or programme that may sign in."""

    __tablename__ = "account"

    account_id: str = _col(Text, primary_key=True)
    display_name: str = _col(Text)
    role: str = _col(Text)
    created_at: datetime = _col(Instant, server_default=func.now())


class AccessToken(SQLModel, table=True):
    """The SHA-256 of a token; the token itself is never kept."""

    __tablename__ = "access_token"

    token_hash: bytes = _col(LargeBinary, primary_key=True)
    account_id: str = _col(Text, foreign_key="account.account_id")
    kind: str = _col(Text)
    expires_at: datetime = _col(Instant)
    used_at: datetime | None = _col(Instant, nullable=True)


class Station(SQLModel, table=True):
    """A monitored stack."""

    __tablename__ = "station"

    stn: str = _col(Text, primary_key=True)
    name: str = _col(Text)
    agency: str = _col(Text)
    industry: str = _col(Text)
    lat: float | None = _col(Double, nullable=True)
    lon: float | None = _col(Double, nullable=True)
    utc_offset_min: int = _col(Integer, server_default="0")
    event_id: bytes = _event()


class Channel(SQLModel, table=True):
    """One measured quantity of a station."""

    __tablename__ = "channel"
    __table_args__ = (UniqueConstraint("stn", "name"),)

    channel_no: int | None = _col(Integer, primary_key=True, identity=True)
    stn: str = _col(Text, foreign_key="station.stn")
    name: str = _col(Text)
    quantity: str = _col(Text)
    unit: str = _col(Text)
    role: str = _col(Text)
    limit_value: float | None = _col(Double, nullable=True)
    resolution: float | None = _col(Double, nullable=True)
    event_id: bytes = _col(LargeBinary, foreign_key="event.event_id")


class StationKey(SQLModel, table=True):
    """A public key pinned to a station."""

    __tablename__ = "station_key"

    kid: str = _col(Text, primary_key=True)
    stn: str = _col(Text, foreign_key="station.stn")
    alg: str = _col(Text)
    public_key: bytes = _col(LargeBinary)
    event_id: bytes = _event()


class KeyRevocation(SQLModel, table=True):
    """The end of a key."""

    __tablename__ = "key_revocation"

    kid: str = _col(Text, foreign_key="station_key.kid", primary_key=True)
    event_id: bytes = _event()


class Envelope(SQLModel, table=True):
    """What a station signed, byte for byte."""

    __tablename__ = "envelope"
    __table_args__ = (
        UniqueConstraint("stn", "ep", "seq"),
        Index("envelope_stn_first_at", "stn", "first_at"),
    )

    envelope_no: int = _col(BigInteger, primary_key=True)
    env_id: bytes = _col(LargeBinary, unique=True)
    stn: str = _col(Text, foreign_key="station.stn")
    ep: int = _col(BigInteger)
    seq: int = _col(BigInteger)
    kid: str = _col(Text, foreign_key="station_key.kid")
    iat_ms: int = _col(BigInteger)
    recv_ms: int = _col(BigInteger)
    first_at: datetime = _col(Instant)
    last_at: datetime = _col(Instant)
    reading_count: int = _col(Integer)
    jws: bytes = _col(LargeBinary)


class StationHead(SQLModel, table=True):
    """Cache: where a station's chain stands."""

    __tablename__ = "station_head"

    stn: str = _col(Text, foreign_key="station.stn", primary_key=True)
    ep: int = _col(BigInteger)
    seq: int = _col(BigInteger)
    env_id: bytes = _col(LargeBinary)
    last_at: datetime = _col(Instant)


class Quarantine(SQLModel, table=True):
    """Validly signed and not accepted: evidence of equivocation."""

    __tablename__ = "quarantine"

    env_id: bytes = _col(LargeBinary, primary_key=True)
    stn: str = _col(Text, foreign_key="station.stn")
    ep: int = _col(BigInteger)
    seq: int = _col(BigInteger)
    kid: str = _col(Text)
    why: str = _col(Text)
    recv_ms: int = _col(BigInteger)
    jws: bytes = _col(LargeBinary)


class Reading(SQLModel, table=True):
    """A projection of envelopes; value null means none, status says why."""

    __tablename__ = "reading"

    channel_no: int = _col(Integer, primary_key=True)
    at: datetime = _col(Instant, primary_key=True)
    envelope_no: int = _col(BigInteger, primary_key=True)
    value: float | None = _col(Double, nullable=True)
    status: str = _col(String)


class DetectionState(SQLModel, table=True):
    """Cache: the detectors' memory of a station."""

    __tablename__ = "detection_state"

    stn: str = _col(Text, foreign_key="station.stn", primary_key=True)
    upto: datetime = _col(Instant)
    state: bytes = _col(LargeBinary)
    state_hash: bytes = _col(LargeBinary)


class Flag(SQLModel, table=True):
    """A finding raised for a person to judge."""

    __tablename__ = "flag"
    __table_args__ = (
        UniqueConstraint("stn", "episode"),
        Index("flag_raised_at", text("raised_at DESC"), text("flag_id DESC")),
    )

    flag_id: str = _col(Text, primary_key=True)
    stn: str = _col(Text, foreign_key="station.stn")
    detector: str = _col(Text)
    detector_version: str = _col(Text)
    kind: str = _col(Text)
    verdict: str = _col(Text)
    from_at: datetime = _col(Instant)
    to_at: datetime = _col(Instant)
    channels: list[str] = _col(ARRAY(Text))
    e_value: float = _col(Double)
    episode: str = _col(Text)
    text_en: str = _col(Text)
    text_zh: str = _col(Text)
    plot: str = _col(Text)
    raised_at: datetime = _col(Instant)
    event_id: bytes = _event()


class FlagExtension(SQLModel, table=True):
    """The same finding, seen longer."""

    __tablename__ = "flag_extension"
    __table_args__ = (Index("flag_extension_flag", "flag_id"),)

    event_id: bytes = _col(LargeBinary, foreign_key="event.event_id", primary_key=True)
    flag_id: str = _col(Text, foreign_key="flag.flag_id")
    to_at: datetime = _col(Instant)
    e_value: float = _col(Double)
    text_en: str = _col(Text)
    text_zh: str = _col(Text)
    plot: str = _col(Text)


class Review(SQLModel, table=True):
    """An inspector's decision on a flag."""

    __tablename__ = "review"
    __table_args__ = (Index("review_flag", "flag_id"),)

    review_id: str = _col(Text, primary_key=True)
    flag_id: str = _col(Text, foreign_key="flag.flag_id")
    account_id: str = _col(Text, foreign_key="account.account_id")
    decision: str = _col(Text)
    reason: str = _col(Text)
    salt: bytes = _col(LargeBinary)
    decided_at: datetime = _col(Instant)
    event_id: bytes = _event()


class ExportRequest(SQLModel, table=True):
    """Progress of an export job."""

    __tablename__ = "export_request"

    export_id: str = _col(Text, primary_key=True)
    stn: str = _col(Text, foreign_key="station.stn")
    from_at: datetime = _col(Instant)
    to_at: datetime = _col(Instant)
    purpose: str = _col(Text)
    account_id: str = _col(Text, foreign_key="account.account_id")
    state: str = _col(Text, server_default="queued")
    error: str | None = _col(Text, nullable=True)
    requested_at: datetime = _col(Instant)


class Export(SQLModel, table=True):
    """A finished bundle."""

    __tablename__ = "export"

    export_id: str = _col(Text, foreign_key="export_request.export_id", primary_key=True)
    stn: str = _col(Text, foreign_key="station.stn")
    manifest_sha256: bytes = _col(LargeBinary)
    made_at: datetime = _col(Instant)
    event_id: bytes = _event()


class LogGenesis(SQLModel, table=True):
    """Leaf 0: policy, first keys, inception."""

    __tablename__ = "log_genesis"

    entry_id: bytes = _col(LargeBinary, primary_key=True)
    body: bytes = _col(LargeBinary)
    recv_ms: int = _col(BigInteger)


class LogPending(SQLModel, table=True):
    """Waits for the sequencer."""

    __tablename__ = "log_pending"

    qid: int | None = _col(BigInteger, primary_key=True, identity=True)
    kind: int = _col(SmallInteger)
    entry_id: bytes = _col(LargeBinary)
    recv_ms: int = _col(BigInteger)
    leaf: bytes = _col(LargeBinary)


class LogEntry(SQLModel, table=True):
    """A leaf of the log."""

    __tablename__ = "log_entry"
    __table_args__ = (UniqueConstraint("entry_id", "kind"),)

    idx: int = _col(BigInteger, primary_key=True)
    kind: int = _col(SmallInteger)
    entry_id: bytes = _col(LargeBinary)
    recv_ms: int = _col(BigInteger)
    leaf: bytes = _col(LargeBinary)
    qid: int = _col(BigInteger, unique=True)


class LogHead(SQLModel, table=True):
    """The log's size and root after one integration."""

    __tablename__ = "log_head"

    size: int = _col(BigInteger, primary_key=True)
    prev: int = _col(BigInteger, unique=True)
    root: bytes = _col(LargeBinary)
    at: datetime = _col(Instant, server_default=func.now())
