"""Accept signed envelopes, in the numbered steps of the verifier (evidence design, 3.2)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from emdi.envelope import Envelope, parse_columns, verify_signature
from emdi.errors import EmdiError
from stackwitness import clock
from stackwitness.errors import (
    BadRequest,
    Forbidden,
    StackwitnessError,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from stackwitness.ingest.committer import Committer
from stackwitness.ingest.domain import Checked, Failure, Roster, Verdict
from stackwitness.ingest.rows import pack_readings

__all__ = ["Committer", "accept"]

MAX_LINES = 256
# Up to here a request is checked on the event loop itself: handing it to a thread costs more than it frees.
INLINE_BYTES = 65_536
MAX_READING_AHEAD_MS = 300_000
MONTH_MS = 28 * 86_400_000
# What a roster in memory can be too old to know.
STALE_CODES = frozenset({"station.unknown", "key.station", "reading.channel"})

FindRoster = Callable[[str], Roster | None]


async def accept(body: bytes, committer: Committer) -> Verdict:
    """Check and store the envelopes of one request: one JWS, or one per line, of one station, in order.

    All are stored, or those before the first refusal; stored means committed. Raises BadRequest, TooLarge for
    the body as a whole, Unavailable when nothing could be decided.
    """
    lines = split_lines(body)
    rosters = committer.rosters
    if len(body) <= INLINE_BYTES:
        checks = check_lines(lines, rosters.remembered, committer.max_future_ms)
    else:
        # One at a time: a second would not be faster, and parsed readings take far more memory than their text.
        async with committer.large:
            checks = await asyncio.to_thread(check_lines, lines, rosters.remembered, committer.max_future_ms)
    if checks.failure is not None and checks.failure.error.code in STALE_CODES:
        read = _once(rosters.read)
        checks = await asyncio.to_thread(check_lines, lines, read, committer.max_future_ms)
    if not checks.envelopes:
        return Verdict(failure=checks.failure)
    verdict = await committer.submit(checks.envelopes)
    return verdict if verdict.failure is not None else replace(verdict, failure=checks.failure)


@dataclass(frozen=True, slots=True)
class Checks:
    """The envelopes that hold by themselves, and the first line that does not."""

    envelopes: tuple[Checked, ...]
    failure: Failure | None


def split_lines(body: bytes) -> list[bytes]:
    """(0) Return the lines of a body; one newline at the end is not a line. Raises BadRequest, TooLarge."""
    lines = body.removesuffix(b"\n").split(b"\n")
    if lines == [b""]:
        raise BadRequest("body.empty", "The body holds no envelope")
    if len(lines) > MAX_LINES:
        raise TooLarge("body.lines", f"At most {MAX_LINES} envelopes in one request")
    return lines


def check_lines(lines: Sequence[bytes], find: FindRoster, max_future_ms: int) -> Checks:
    """(1)-(6) Check every line, up to the first that fails."""
    envelopes: list[Checked] = []
    now_ms = clock.now_ms()
    for number, line in enumerate(lines, start=1):
        try:
            checked = check_line(line, find, now_ms, max_future_ms)
            if envelopes and checked.envelope.stn != envelopes[0].envelope.stn:
                raise Unprocessable("body.stations", "The envelopes of one request are of one station")
        except EmdiError as error:
            refusal = Unprocessable(error.code, "The envelope is not valid", detail=str(error))
            return Checks(tuple(envelopes), Failure(number, refusal))
        except Unavailable:
            raise
        except StackwitnessError as error:
            return Checks(tuple(envelopes), Failure(number, error))
        envelopes.append(checked)
    return Checks(tuple(envelopes), None)


def check_line(line: bytes, find: FindRoster, now_ms: int, max_future_ms: int) -> Checked:
    """(1)-(6) Check one envelope against its station's roster. Raises EmdiError, StackwitnessError.

    Step 4, the chain, and the revocation of keys are decided under the station's lock: see judge.py.
    """
    envelope, readings = parse_columns(line)  # 1
    roster = find(envelope.stn)  # 2
    if roster is None:
        raise Forbidden("station.unknown", "There is no such station")
    key = roster.keys.get(envelope.kid)
    if key is None:
        raise Forbidden("key.station", "The station has no such key")
    verify_signature(envelope, key.public)  # 3
    first_ms, last_ms = min(readings.at_ms), max(readings.at_ms)
    _check_clock(envelope, last_ms, now_ms, max_future_ms)  # 5
    rows = pack_readings(readings, roster.channels)  # 6
    # It may wait in a queue: the readings live on as rows only.
    return Checked(envelope, rows, first_ms, last_ms, spans_of(readings.at_ms, first_ms, last_ms))


def _check_clock(envelope: Envelope, last_ms: int, now_ms: int, max_future_ms: int) -> None:
    if envelope.iat_ms > now_ms + max_future_ms:
        raise Unprocessable(
            "clock.future",
            "The station's clock is ahead of ours",
            detail=f"iat {envelope.iat_ms} is {envelope.iat_ms - now_ms} ms ahead",
            now_ms=now_ms,
        )
    if last_ms > envelope.iat_ms + MAX_READING_AHEAD_MS:
        raise Unprocessable(
            "clock.reading", "A reading is later than its own signature", detail=f"Reading at {last_ms}"
        )


def spans_of(times: Sequence[int], first_ms: int, last_ms: int) -> tuple[tuple[int, int], ...]:
    """Return the stretches that times (ms) cover, cut where more than a month lies between two.

    `first_ms` and `last_ms` are the least and the greatest of them.
    """
    if last_ms - first_ms <= MONTH_MS:
        return ((first_ms, last_ms),)
    spans: list[tuple[int, int]] = []
    for at_ms in sorted(times):
        if spans and at_ms - spans[-1][1] <= MONTH_MS:
            spans[-1] = (spans[-1][0], at_ms)
        else:
            spans.append((at_ms, at_ms))
    return tuple(spans)


def _once(read: FindRoster) -> FindRoster:
    """Return `read`, asking the database once per station."""
    seen: dict[str, Roster | None] = {}

    def find(stn: str) -> Roster | None:
        if stn not in seen:
            seen[stn] = read(stn)
        return seen[stn]

    return find
