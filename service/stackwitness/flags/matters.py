"""Matters: flags of one station that tell of one forgery, made from the flags alone, so that nothing new is signed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from emdi.event import parse_event
from stackwitness.flags import queries
from stackwitness.flags.domain import Flag, sseq_of
from stackwitness.flags.flow import find_flag, plain
from stackwitness_detectors.matters import Matter, Member, group
from stackwitness_detectors.severity import Hidden, hidden_of

# What flags tell, by their events, which never change.
_MOST_KEPT = 20_000
_KEPT: WeakKeyDictionary[Engine, dict[bytes, Told]] = WeakKeyDictionary()
# Names of matters by station, with the counts they were made at.
_NAMES: WeakKeyDictionary[Engine, dict[str, tuple[tuple[int, int], dict[str, str]]]] = WeakKeyDictionary()
_LOCK = Lock()


@dataclass(frozen=True)
class Told:
    """Hold what the newest event of a flag tells beyond its row: the kinds it ranks, and what its channel hides."""

    detector: str
    kinds: tuple[str, ...]
    hidden: Hidden | None


def member_of(flag: Flag) -> Member:
    """Return what grouping needs of a flag."""
    return Member(
        flag.flag_id,
        flag.stn,
        flag.kind,
        flag.verdict,
        round(flag.from_at.timestamp() * 1000),
        round(flag.to_at.timestamp() * 1000),
        flag.channels,
        flag.e_value,
        sseq_of(flag.flag_id),
    )


def list_matters(conn: Connection, stns: Sequence[str]) -> tuple[Matter, ...]:
    """Return the matters of some stations, in the order in which their first flags were raised."""
    return group(member_of(flag) for flag in queries.list_brief(conn, stns))


def name_matters(conn: Connection, flags: Iterable[Flag]) -> Mapping[str, str]:
    """Return for each of these flags (and others of their stations) the name of its matter: its first flag's id.

    Kept until a station gets another flag or extension: whoever pages through all flags asks for every page.
    """
    stamps = queries.count_told(conn, sorted({flag.stn for flag in flags}))
    with _LOCK:
        kept = dict(_NAMES.setdefault(conn.engine, {}))
    stale = [stn for stn, stamp in stamps.items() if stn not in kept or kept[stn][0] != stamp]
    made: dict[str, dict[str, str]] = {stn: {} for stn in stale}
    for matter in list_matters(conn, stale) if stale else ():
        made[matter.lead.stn].update({member.key: matter.matter_id for member in matter.members})
    kept |= {stn: (stamps[stn], names) for stn, names in made.items()}
    with _LOCK:
        _NAMES[conn.engine] = kept
    return {flag_id: name for stn in stamps for flag_id, name in kept[stn][1].items()}


def find_matter(conn: Connection, flag_id: str) -> Matter:
    """Return the matter that a flag belongs to. Raises NotFound."""
    stn = find_flag(conn, flag_id).stn
    return next(
        matter
        for matter in list_matters(conn, [stn])
        if any(member.key == flag_id for member in matter.members)
    )


def read_told(conn: Connection, flag_ids: Sequence[str]) -> Mapping[str, Told]:
    """Return what each flag's newest event and picture tell; kept by event, so that lists stay quick."""
    newest = queries.list_newest_events(conn, flag_ids)
    with _LOCK:
        kept = _KEPT.setdefault(conn.engine, {})
        missing = [event_id for event_id in newest.values() if event_id not in kept]
    made = {row.event_id: _read(row) for row in queries.list_evidence(conn, missing)} if missing else {}
    with _LOCK:
        if len(kept) > _MOST_KEPT:
            kept.clear()
        kept.update(made)
        return {flag_id: kept[event_id] for flag_id, event_id in newest.items() if event_id in kept}


def _read(row: queries.Evidence) -> Told:
    claims = plain(parse_event(row.jws).data)
    channels = claims.get("channels") or [""]
    hidden = hidden_of(
        channels[0],
        claims["from_ms"],
        claims["to_ms"],
        claims.get("numbers") or {},
        json.loads(row.plot) if row.plot else {},
    )
    return Told(claims["detector"], tuple(claims.get("kinds") or ()), hidden)
