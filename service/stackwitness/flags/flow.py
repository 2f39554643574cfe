"""Raise flags, extend them, show them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from emdi.encoding import b64u_decode, b64u_encode
from emdi.errors import EmdiError
from emdi.keys import Signer
from stackwitness.errors import BadRequest, NotFound
from stackwitness.flags import queries
from stackwitness.flags.domain import Cursor, Extension, Flag, FlagState, Provenance
from stackwitness.log.events import append_event, lock_subject
from stackwitness.stations.domain import subject_of

if TYPE_CHECKING:  # the API shows flags and must not load numpy for it
    from stackwitness_detectors.contract import Finding

DETECTION = "detection"
# JSON knows no infinity, and nobody's decision changes between 1e18 and more.
MAX_E_VALUE = 1e18
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def raise_flag(
    conn: Connection, signer: Signer, finding: Finding, provenance: Provenance, *, again: bool = False
) -> Flag | None:
    """Store a finding as a flag, or as an extension of the flag its episode has, in one transaction.

    `again`: an episode known is told whatever its end, since what it was made of has changed. Returns the flag as it stands then, or None when the finding adds nothing to what is stored (a scan
    repeated after a crash gives the same findings again).
    """
    # 1 The station's subject: its lock also keeps a second scan from raising the same episode.
    head = lock_subject(conn, subject_of(provenance.stn))
    known = queries.find_episode(conn, provenance.stn, finding.episode)
    to_at = at_of(finding.to_ms)
    # 2 A known episode that is not longer now says nothing new.
    if known is not None and to_at <= known.to_at and not again:
        return None
    # 3 Event and row.
    plot = plot_text(finding.plot)
    if known is not None:
        _extend(conn, signer, known, finding, provenance, plot)
        return queries.find_flag(conn, known.flag_id)
    flag_id = f"{provenance.stn}-{0 if head is None else head.sseq + 1}"
    event = append_event(
        conn,
        signer,
        typ="flag.raised",
        subj=subject_of(provenance.stn),
        act=DETECTION,
        data=claims_of(flag_id, finding, provenance, plot),
    )
    queries.insert_flag(
        conn,
        {
            "flag_id": flag_id,
            "stn": provenance.stn,
            "detector": finding.detector,
            "detector_version": finding.version,
            "kind": finding.kind,
            "verdict": finding.verdict,
            "from_at": at_of(finding.from_ms),
            "to_at": to_at,
            "channels": list(finding.channels),
            "e_value": _e_value(finding),
            "episode": finding.episode,
            "text_en": finding.text_en,
            "text_zh": finding.text_zh,
            "plot": plot,
            "raised_at": at_of(event.ts_ms),
            "event_id": event.event_id,
        },
    )
    return queries.find_flag(conn, flag_id)


def _extend(
    conn: Connection, signer: Signer, known: Flag, finding: Finding, provenance: Provenance, plot: str
) -> None:
    event = append_event(
        conn,
        signer,
        typ="flag.extended",
        subj=subject_of(provenance.stn),
        act=DETECTION,
        ref=(known.event_id.hex(),),
        data=claims_of(known.flag_id, finding, provenance, plot),
    )
    queries.insert_extension(
        conn,
        {
            "event_id": event.event_id,
            "flag_id": known.flag_id,
            "to_at": at_of(finding.to_ms),
            "e_value": _e_value(finding),
            "text_en": finding.text_en,
            "text_zh": finding.text_zh,
            "plot": plot,
        },
    )


def lapse_flag(
    conn: Connection, signer: Signer, stn: str, raised_id: bytes, claims: Mapping[str, Any]
) -> None:
    """Say that a flag, raised by the event of that id, is not found any more: event and row in one transaction."""
    event = append_event(
        conn,
        signer,
        typ="flag.lapsed",
        subj=subject_of(stn),
        act=DETECTION,
        ref=(raised_id.hex(),),
        data=claims,
    )
    queries.insert_lapse(
        conn,
        {
            "event_id": event.event_id,
            "flag_id": claims["flag_id"],
            "to_at": at_of(claims["to_ms"]),
            "lapsed_at": at_of(event.ts_ms),
        },
    )


def claims_of(flag_id: str, finding: Finding, provenance: Provenance, plot: str) -> dict[str, Any]:
    """Return what the event of a flag says, the same for whoever runs the detectors again."""
    name, value = finding.statistic
    return {
        "flag_id": flag_id,
        "detector": finding.detector,
        "detector_version": finding.version,
        "kind": finding.kind,
        "kinds": list(finding.kinds),
        "verdict": finding.verdict,
        "from_ms": int(finding.from_ms),
        "to_ms": int(finding.to_ms),
        "channels": list(finding.channels),
        "statistic": {"name": name, "value": plain(value)},
        "e_value": _e_value(finding),
        "numbers": {key: plain(number) for key, number in finding.numbers.items()},
        "text_en": finding.text_en,
        "text_zh": finding.text_zh,
        "innocent": list(finding.innocent),
        "look_at_en": finding.look_at_en,
        "look_at_zh": finding.look_at_zh,
        "episode": finding.episode,
        "config_hash": provenance.config_hash,
        "state_hash": provenance.state_hash,
        "input": {
            "ep": provenance.ep,
            "seq_first": provenance.seq_first,
            "seq_last": provenance.seq_last,
        },
        "plot_sha256": hashlib.sha256(plot.encode()).hexdigest(),
    }


def list_flags(
    conn: Connection, *, stn: str | None, state: FlagState | None, after: str | None, limit: int
) -> tuple[list[Flag], str | None]:
    """Return one page of flags, newest first, and the cursor of the next page (None at the end)."""
    found = queries.list_flags(
        conn, stn=stn, state=state, after=read_cursor(after) if after else None, limit=limit + 1
    )
    page = found[:limit]
    return page, write_cursor(page[-1]) if len(found) > limit else None


def find_flag(conn: Connection, flag_id: str) -> Flag:
    """Return a flag as it stands now. Raises NotFound."""
    flag = queries.find_flag(conn, flag_id)
    if flag is None:
        raise NotFound("flag.unknown", "There is no such flag")
    return flag


def find_extensions(conn: Connection, flag_id: str) -> list[Extension]:
    """Return how a flag grew, oldest first."""
    return queries.list_extensions(conn, flag_id)


def find_plot(conn: Connection, flag_id: str) -> dict[str, Any]:
    """Return the newest plot of a flag (JSON-able). Raises NotFound."""
    plot = queries.find_plot(conn, flag_id)
    if plot is None:
        raise NotFound("flag.unknown", "There is no such flag")
    members: dict[str, Any] = json.loads(plot)
    return members


def count_flags(conn: Connection, stn: str | None = None) -> Mapping[str, int]:
    """Count flags: {"open": n, "decided": n}."""
    return queries.count_flags(conn, stn)


def find_event(conn: Connection, event_id: bytes) -> bytes:
    """Return the JWS of an event by its id. Raises NotFound."""
    jws = queries.find_event(conn, event_id)
    if jws is None:
        raise NotFound("event.unknown", "There is no such event")
    return jws


def write_cursor(flag: Flag) -> str:
    """Spell the place behind a flag."""
    raised_us = (flag.raised_at - EPOCH) // timedelta(microseconds=1)
    return b64u_encode(f"{raised_us}:{flag.flag_id}".encode())


def read_cursor(cursor: str) -> Cursor:
    """Read a cursor back. Raises BadRequest."""
    try:
        raised_us, _, flag_id = b64u_decode(cursor).decode().partition(":")
        return Cursor(EPOCH + timedelta(microseconds=int(raised_us)), flag_id)
    except (EmdiError, ValueError, OverflowError):
        raise BadRequest("flags.cursor", "after is not a cursor this list gave") from None


def plot_text(plot: Mapping[str, Any]) -> str:
    """Spell a plot as the JSON text whose hash stands in the event."""
    return json.dumps(plain(plot), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Turn numbers as numpy gives them into what JSON can say; not-a-number becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    number = float(value)
    if math.isnan(number):
        return None
    return max(-MAX_E_VALUE, min(MAX_E_VALUE, number)) if math.isinf(number) else number


def _e_value(finding: Finding) -> float:
    number = float(finding.e_value)
    return 0.0 if math.isnan(number) else min(number, MAX_E_VALUE)


def at_of(at_ms: int) -> datetime:
    """Return the aware UTC datetime of Unix milliseconds."""
    return EPOCH + timedelta(milliseconds=int(at_ms))
