"""Gather what a page shows from the other slices. The console stores nothing and has no SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from emdi.chain import StationHead
from emdi.event import parse_event
from emdi.keys import PublicKey
from stackwitness.accounts import queries as accounts
from stackwitness.console.views import (
    ChannelView,
    EpochView,
    FlagDetail,
    FlagView,
    KeyRequestView,
    KeyView,
    LimitView,
    LogView,
    LookView,
    ReviewView,
    StationView,
    SuspectView,
    severity,
)
from stackwitness.errors import NotFound
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Flag, FlagState, Lapse
from stackwitness.ingest import queries as ingest
from stackwitness.log import custody
from stackwitness.log.queries import find_places
from stackwitness.readings import queries as readings
from stackwitness.reviews import flow as reviews
from stackwitness.reviews.domain import Review
from stackwitness.stations import queries as stations
from stackwitness.stations.domain import Channel, Station
from stackwitness.wiring import Wiring

KIND_EVENT = 2
PAGE = 1000
MOST_FLAGS = 5000


def ms_of(at: datetime) -> int:
    """Return Unix milliseconds of an aware time."""
    return round(at.timestamp() * 1000)


def at_of(at_ms: int) -> datetime:
    """Return the aware UTC time of Unix milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def list_stations(conn: Connection) -> list[StationView]:
    """Return every station, by name."""
    heads = ingest.list_heads(conn)
    found = [_view_station(conn, station, heads) for station in stations.list_stations(conn)]
    return sorted(found, key=lambda station: (station.name, station.stn))


def find_station(conn: Connection, stn: str) -> StationView:
    """Return a station. Raises NotFound."""
    station = stations.find_station(conn, stn)
    if station is None:
        raise NotFound("station.unknown", "There is no such station")
    return _view_station(conn, station, ingest.list_heads(conn))


def list_keys(conn: Connection, stn: str) -> list[KeyView]:
    """Return a station's keys, those in use first."""
    suspicions = stations.list_suspicions(conn, stn)
    keys = []
    for key in stations.list_keys(conn, stn):
        one = suspicions.get(key.kid)
        why = (one.from_idx, one.compromised_kid) if one else (None, None)
        keys.append(KeyView(key.kid, key.public.alg, fingerprint(key.public), key.revoked, *why))
    return sorted(keys, key=lambda key: (key.revoked, key.kid))


def fingerprint(public: PublicKey) -> str:
    """Return SHA-256 of a public key, hex: what two officers read to each other."""
    return hashlib.sha256(public.raw).hexdigest()


def list_key_requests(conn: Connection, stn: str | None = None) -> list[KeyRequestView]:
    """Return the keys (of one station) that wait for a second operator."""
    found = []
    for one in stations.list_requests(conn, stn):
        account = accounts.find_account(conn, one.account_id)
        name = account.display_name if account else one.account_id
        found.append(
            KeyRequestView(one.stn, one.kid, one.public.alg, fingerprint(one.public), one.account_id, name)
        )
    return found


def list_pending_epochs(conn: Connection, stn: str | None = None) -> list[EpochView]:
    """Return the epochs (of one station) that no inspector acknowledged yet, newest first."""
    epochs = stations.list_epochs(conn, stn, pending=True)
    return [EpochView(one.stn, one.ep, one.prev_ep, one.opened_ms) for one in epochs]


def list_limit_changes(conn: Connection, stn: str) -> list[LimitView]:
    """Return the limits of the channels whose limit ever changed, in the order they were set."""
    return [
        LimitView(name, limit.value, ms_of(limit.from_at) if limit.from_at else None, limit.why)
        for name, limits in stations.list_limits(conn, stn).items()
        for limit in limits
        if len(limits) > 1
    ]


def list_suspects(conn: Connection, stn: str) -> list[SuspectView]:
    """Return what compromised keys of a station, and keys that follow them, signed from the suspect index on."""
    return [
        SuspectView(
            one.kid, one.from_idx, one.compromised_kid, one.envelopes, ms_of(one.first_at), ms_of(one.last_at)
        )
        for one in readings.select_suspects(conn, stn)
    ]


def list_flags(conn: Connection, *, state: FlagState | None = None, stn: str | None = None) -> list[FlagView]:
    """Return flags, gravest first; the newest MOST_FLAGS when there are more."""
    found: list[Flag] = []
    after: str | None = None
    while len(found) < MOST_FLAGS:
        page, after = flags.list_flags(conn, stn=stn, state=state, after=after, limit=PAGE)
        found += page
        if after is None:
            break
    named = {station.stn: station for station in stations.list_stations(conn)}
    return sorted((_view_flag(flag, named[flag.stn]) for flag in found), key=severity)


def find_flag(conn: Connection, flag_id: str) -> FlagDetail:
    """Return a flag with its signed claims, picture, provenance and decisions. Raises NotFound."""
    flag = flags.find_flag(conn, flag_id)
    extensions = flags.find_extensions(conn, flag_id)
    # The newest event says the most: it covers the longest interval.
    event_id = extensions[-1].event_id if extensions else flag.event_id
    claims: Mapping[str, Any] = flags.plain(parse_event(flags.find_event(conn, event_id)).data)
    station = stations.find_station(conn, flag.stn)
    assert station is not None, "a flag refers to a station by foreign key"
    places = find_places(conn, [event_id], [KIND_EVENT])
    given, statistic = claims.get("input") or {}, claims.get("statistic") or {}
    return FlagDetail(
        _view_flag(flag, station),
        plot=flags.plot_text(flags.find_plot(conn, flag_id)),
        event_id=event_id.hex(),
        log_index=places[0].idx if places else None,
        detector_version=flag.detector_version,
        state_hash=claims.get("state_hash") or "",
        config_hash=claims.get("config_hash") or "",
        statistic=(statistic["name"], statistic["value"]) if statistic else None,
        numbers=claims.get("numbers") or {},
        kinds=tuple(claims.get("kinds") or ()),
        innocent=tuple(claims.get("innocent") or ()),
        look_at_en=claims.get("look_at_en") or "",
        look_at_zh=claims.get("look_at_zh") or "",
        input_range=(given["ep"], given["seq_first"], given["seq_last"]) if given else None,
        extensions=len(extensions),
        reviews=tuple(_list_reviews(conn, flag_id)),
        lapse_ids=_lapse_ids(flag.lapse),
    )


def read_log(wiring: Wiring) -> LogView | None:
    """Return the published checkpoint and when it was written; None before the first."""
    try:
        checkpoint = wiring.log_reader.snapshot().checkpoint
        written_ns = (wiring.settings.log_dir / "checkpoint").stat().st_mtime_ns
    except (NotFound, FileNotFoundError):
        return None
    return LogView(checkpoint.origin, checkpoint.size, checkpoint.root.hex(), written_ns // 1_000_000)


def _view_station(
    conn: Connection, station: Station, heads: Mapping[str, tuple[StationHead, datetime | None]]
) -> StationView:
    head, last_at = heads.get(station.stn, (None, None))
    return StationView(
        station.stn,
        station.name,
        station.agency,
        station.industry,
        station.lat,
        station.lon,
        station.utc_offset_min,
        tuple(_view_channel(channel) for channel in stations.list_channels(conn, station.stn)),
        ms_of(last_at) if last_at else None,
        (head.ep, head.seq, head.env_id.hex()) if head else None,
    )


def _lapse_ids(lapse: Lapse | None) -> tuple[str, str | None] | None:
    if lapse is None:
        return None
    return lapse.event_id.hex(), None if lapse.run_id is None else lapse.run_id.hex()


def _list_reviews(conn: Connection, flag_id: str) -> list[ReviewView]:
    name_of = _namer(conn)
    return [_view_review(review, name_of) for review in reversed(reviews.list_reviews(conn, flag_id))]


def _namer(conn: Connection) -> Callable[[str], str]:
    """Return a function from account ids to names that asks once for each."""
    names: dict[str, str] = {}

    def name_of(account_id: str) -> str:
        if account_id not in names:
            account = accounts.find_account(conn, account_id)
            names[account_id] = account.display_name if account else account_id
        return names[account_id]

    return name_of


def list_looks(conn: Connection, what: custody.What, object_id: str) -> list[LookView]:
    """Return who looked at a flag or an export, oldest first."""
    name_of = _namer(conn)
    return [
        LookView(look.act, name_of(look.account_id), ms_of(look.at), look.event_id.hex())
        for look in custody.list_looks(conn, what, object_id)
    ]


def _view_review(review: Review, name_of: Callable[[str], str]) -> ReviewView:
    return ReviewView(
        review.review_id,
        review.decision,
        review.reason,
        name_of(review.account_id),
        ms_of(review.decided_at),
        review.event_id.hex(),
    )


def _view_channel(channel: Channel) -> ChannelView:
    return ChannelView(channel.name, channel.quantity, channel.unit, channel.role, channel.limit)


def _view_flag(flag: Flag, station: Station) -> FlagView:
    return FlagView(
        flag.detector,
        flag.kind,
        flag.verdict,
        ms_of(flag.from_at),
        ms_of(flag.to_at),
        flag.channels,
        flag.e_value,
        flag.text_en,
        flag.text_zh,
        flag.flag_id,
        flag.stn,
        station.name,
        station.utc_offset_min,
        ms_of(flag.raised_at),
        flag.decision,
        ms_of(flag.lapse.at) if flag.lapse else None,
    )
