"""The station SDK: record readings, and they are signed, chained, kept on disk and pushed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path

from emdi.envelope import Envelope, Skip, seal_envelope
from emdi.errors import EmdiError
from emdi.keys import Signer
from emdi.pack import Record
from emdi.policy import Policy
from stackwitness_client.errors import RecordError
from stackwitness_client.http import ServerLink
from stackwitness_client.pusher import PushAccount, Pusher
from stackwitness_client.spool import Link, Spool

# What the JSON of one pack may take so that the JWS stays below emdi.envelope.MAX_JWS_BYTES (base64url adds a
# third), with room for the other claims.
PACK_BYTES = 35_000
RECORD_BYTES = len('{"n":"","u":"","v":},')
STATUS_BYTES = len(',"st":"N"')
MISSING_BYTES = len('"vs":"missing"') - len('"v":')
ROW_BYTES = len('"bt":253402300799.999,')
MAX_READINGS = 720

Value = Decimal | float | int | str | None


@dataclass(frozen=True)
class Reading:
    """Give a value its unit and status letter; unit None = the channel's own, value None = missing."""

    value: Value
    unit: str | None = None
    status: str = "N"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Station:
    """Record for one station. `home` holds its spool; `signer` signs; `policy` pins the log's key.

    `units` names the unit of each channel, for values given without one.
    """

    def __init__(
        self,
        home: Path,
        stn: str,
        signer: Signer,
        server_url: str,
        policy: Policy,
        *,
        units: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = _now_ms,
        link: ServerLink | None = None,
    ) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stn = stn
        self.spool = Spool(home / "spool.db", stn)
        self.link = link or ServerLink(server_url)
        self.pusher = Pusher(self.spool, self.link, policy)
        self.signer = signer
        self._units = dict(units or {})
        self._now_ms = now_ms

    def close(self) -> None:
        """Close spool and connection; what is recorded stays recorded."""
        self.spool.close()
        self.pusher.close()
        self.link.close()

    def record(
        self, values: Mapping[str, Value | Reading], at: datetime | int, status: str = "N"
    ) -> Envelope:
        """Sign and keep the readings of one instant (aware datetime, or Unix ms); return the sealed envelope.

        It is on disk when this returns. Nothing is sent yet: call `push`, or let another process do so.
        """
        at_ms = instant_ms(at)
        return self.record_pack([self._record(name, at_ms, value, status) for name, value in values.items()])

    def record_pack(self, records: Sequence[Record]) -> Envelope:
        """Sign and keep one envelope of ready records, in the order given."""
        return self.record_packs([records])[0]

    def record_packs(self, packs: Iterable[Sequence[Record]]) -> list[Envelope]:
        """Sign and keep several envelopes with one write to disk; all of them, or none."""
        try:
            return self.spool.append_many(partial(self._seal, records) for records in packs)
        except EmdiError as error:
            raise RecordError(error.code, f"cannot seal the readings: {error}") from error

    def push(self, *, give_up_s: float | None = None) -> PushAccount:
        """Send what waits and free what has a verified receipt by now."""
        return self.pusher.push(give_up_s=give_up_s) + self.pusher.collect(give_up_s=give_up_s)

    def skip(self, lost: int, why: str) -> Skip:
        """Go on behind the server's head after a loss: the next envelope admits that `lost` envelopes are gone.

        `lost` must cover every number that may have been signed after the server's head: a number is never
        signed twice. Raises SpoolError, ServerError; RecordError("record.skip") when the server knows nothing.
        """
        head = self.link.station_head(self.stn)
        if head is None:
            raise RecordError(
                "record.skip", "the server holds no envelope of this station: nothing to skip from"
            )
        return self.spool.skip_to(head, head[1] + lost, why)

    def _seal(self, records: Sequence[Record], link: Link) -> Envelope:
        return seal_envelope(
            self.signer,
            stn=link.stn,
            ep=link.ep,
            seq=link.seq,
            prev=link.prev,
            iat_ms=self._now_ms(),
            cp=link.cp,
            records=tuple(records),
            skip=link.skip,
        )

    def _record(self, name: str, at_ms: int, given: Value | Reading, status: str) -> Record:
        reading = given if isinstance(given, Reading) else Reading(given, None, status)
        unit = reading.unit or self._units.get(name)
        if unit is None:
            raise RecordError("record.unit", f"channel {name!r} has no unit: give Reading(value, unit)")
        value = exact(reading.value)
        if value is None and reading.status == "N":
            raise RecordError(
                "record.missing", f"channel {name!r}: a missing value needs a status other than N"
            )
        return Record(name=name, at_ms=at_ms, unit=unit, value=value, status=reading.status)


def instant_ms(at: datetime | int) -> int:
    """Return Unix milliseconds of an aware datetime (or of an int, which is taken as milliseconds)."""
    if isinstance(at, int):
        return at
    if at.tzinfo is None:
        raise RecordError("record.time", "a time without its zone says nothing: give an aware datetime")
    return round(at.timestamp() * 1000)


def exact(value: Value) -> Decimal | None:
    """Return the decimal a value stands for: text as written, floats by their shortest text, "" as None."""
    if value is None or value == "":
        return None
    try:
        number = (
            value
            if isinstance(value, Decimal)
            else Decimal(repr(value) if isinstance(value, float) else value)
        )
    except InvalidOperation as error:
        raise RecordError("record.number", f"{value!r} is no number") from error
    if not number.is_finite():
        raise RecordError("record.number", f"{value!r} is not finite")
    return number


def packs(rows: Iterable[Sequence[Record]], max_readings: int = MAX_READINGS) -> Iterator[list[Record]]:
    """Group rows (records of one time) into packs that fit one envelope; a row is split only when it must be."""
    pack: list[Record] = []
    size = 0
    for row in rows:
        if pack and (len(pack) + len(row) > max_readings or size + row_bytes(row) > PACK_BYTES):
            yield pack
            pack, size = [], 0
        size += ROW_BYTES
        for record in row:
            if pack and (len(pack) >= max_readings or size + record_bytes(record) > PACK_BYTES):
                yield pack
                pack, size = [], ROW_BYTES
            pack.append(record)
            size += record_bytes(record)
    if pack:
        yield pack


def row_bytes(row: Sequence[Record]) -> int:
    """Return, from above, what the records of one time take in a pack."""
    return ROW_BYTES + sum(record_bytes(record) for record in row)


def record_bytes(record: Record) -> int:
    """Return, from above, what a record takes in a pack, its time aside."""
    value = MISSING_BYTES if record.value is None else len(str(record.value))
    status = 0 if record.status == "N" else STATUS_BYTES
    return RECORD_BYTES + len(record.name) + len(record.unit) + value + status
