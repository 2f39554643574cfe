"""HTTP of stations, channels, keys, limits and epochs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection

from emdi.encoding import b64u_encode
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account, require
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Forbidden, NotFound
from stackwitness.stations import flow, forms, keys, queries
from stackwitness.stations.domain import Limit, StationKey, Suspicion

router = APIRouter(prefix="/v1/stations", tags=["stations"])
Reader = Annotated[Account, Depends(current_account)]
Operator = Annotated[Account, Depends(require("operator"))]
Inspector = Annotated[Account, Depends(require("inspector"))]


@router.post("", status_code=201)
def register_station(
    form: forms.StationForm, account: Operator, request: Request, response: Response
) -> forms.StationDetail:
    """Register a station with its channels."""
    if account.agency not in (None, form.agency):
        raise Forbidden("station.agency", f"You register stations of {account.agency} only")
    wiring = request.app.state.wiring
    channels = [channel.to_channel() for channel in form.channels]
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        flow.register_station(conn, wiring.service_key, form.to_station(), channels, act=account.account_id)
        response.headers["Location"] = f"/v1/stations/{form.stn}"
        return _detail(conn, form.stn)


@router.get("")
def list_stations(account: Reader, request: Request) -> forms.StationList:
    """List every station."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        stations = [forms.StationView(**station.to_json()) for station in queries.list_stations(conn)]
    return forms.StationList(stations=stations)


@router.get("/{stn}")
def read_station(stn: forms.StnPath, account: Reader, request: Request) -> forms.StationDetail:
    """Return a station and its channels."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return _detail(conn, stn)


@router.put("/{stn}/channels")
def set_channels(
    stn: forms.StnPath, form: forms.ChannelsForm, account: Operator, request: Request
) -> forms.StationDetail:
    """Add channels; those that exist must be given unchanged or not at all."""
    wiring = request.app.state.wiring
    channels = [channel.to_channel() for channel in form.channels]
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        flow.set_channels(conn, wiring.service_key, stn, channels, act=account.account_id)
        return _detail(conn, stn)


@router.get("/{stn}/keys")
def list_keys(stn: forms.StnPath, account: Reader, request: Request) -> forms.KeyList:
    """List the keys of a station, revoked ones too."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return _keys(conn, stn)


@router.post("/{stn}/keys", status_code=202)
def request_key(
    stn: forms.StnPath, form: forms.KeyForm, account: Operator, request: Request, response: Response
) -> forms.KeyStateView:
    """Ask for a key of a station: it signs nothing before another operator approves."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        state = keys.request_key(
            conn,
            wiring.service_key,
            stn,
            form.to_key(),
            act=account.account_id,
            approvals=wiring.settings.key_approvals,
            test_keys=_takes_test_keys(request),
        )
    response.status_code = 201 if state == "registered" else 202
    return forms.KeyStateView(kid=form.kid, state=state)


@router.post("/{stn}/keys/{kid}/approve", status_code=201)
def approve_key(stn: forms.StnPath, kid: forms.KidPath, account: Operator, request: Request) -> forms.KeyList:
    """Pin a key that another operator asked for."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        keys.approve_key(conn, wiring.service_key, stn, kid, act=account.account_id)
        return _keys(conn, stn)


@router.post("/{stn}/keys/{kid}/rotate", status_code=201)
def rotate_key(
    stn: forms.StnPath, kid: forms.KidPath, form: forms.RotationForm, account: Operator, request: Request
) -> forms.KeyList:
    """Replace a key by the successor it named itself: from now on the old one signs nothing."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        keys.rotate_key(
            conn,
            wiring.service_key,
            stn,
            kid,
            form.new.to_key(),
            form.old_proof,
            act=account.account_id,
            test_keys=_takes_test_keys(request),
        )
        return _keys(conn, stn)


@router.post("/{stn}/keys/{kid}/revoke")
def revoke_key(
    stn: forms.StnPath, kid: forms.KidPath, form: forms.WhyForm, account: Operator, request: Request
) -> forms.KeyList:
    """Revoke a key: from now on it signs nothing."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        keys.revoke_key(conn, wiring.service_key, stn, kid, form.why, act=account.account_id)
        return _keys(conn, stn)


@router.post("/{stn}/keys/{kid}/compromise")
def compromise_key(
    stn: forms.StnPath, kid: forms.KidPath, form: forms.CompromiseForm, account: Operator, request: Request
) -> forms.KeyList:
    """End a key and mark suspect what it signed from a log index on; nothing is deleted."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        keys.compromise_key(
            conn, wiring.service_key, stn, kid, form.why, form.suspect_from_idx, act=account.account_id
        )
        return _keys(conn, stn)


@router.get("/{stn}/limits")
def list_limits(stn: forms.StnPath, account: Reader, request: Request) -> forms.LimitList:
    """List every channel's limits, in the order they were set."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return _limits(conn, stn)


@router.post("/{stn}/limits", status_code=201)
def change_limit(
    stn: forms.StnPath, form: forms.LimitForm, account: Operator, request: Request
) -> forms.LimitList:
    """Give a channel another limit from a time on; the earlier ones stay known."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        flow.change_limit(
            conn,
            wiring.service_key,
            stn,
            form.channel,
            Limit(form.limit, form.from_at, form.why),
            act=account.account_id,
        )
        return _limits(conn, stn)


@router.get("/{stn}/epochs")
def list_epochs(stn: forms.StnPath, account: Reader, request: Request) -> forms.EpochList:
    """List the epochs that followed another, newest first, and who acknowledged them."""
    with unit_of_work(request.app.state.wiring.engine, "sw_read", account.sees) as conn:
        return _epochs(conn, stn)


@router.post("/{stn}/epochs/{ep}/ack", status_code=201)
def acknowledge_epoch(
    stn: forms.StnPath, ep: forms.EpochPath, form: forms.WhyForm, account: Inspector, request: Request
) -> forms.EpochList:
    """Note that you looked at why the station began a new epoch."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine, "sw_review", account.sees) as conn:
        flow.acknowledge_epoch(conn, wiring.service_key, stn, ep, form.why, act=account.account_id)
        return _epochs(conn, stn)


def _takes_test_keys(request: Request) -> bool:
    settings = request.app.state.wiring.settings
    return bool(settings.test_keys) or settings.mode == "test"


def _detail(conn: Connection, stn: str) -> forms.StationDetail:
    station = queries.find_station(conn, stn)
    if station is None:
        raise NotFound("station.unknown", "There is no such station")
    channels = [forms.ChannelView(**channel.to_json()) for channel in queries.list_channels(conn, stn)]
    return forms.StationDetail(**station.to_json(), channels=channels)


def _known(conn: Connection, stn: str) -> None:
    if queries.find_station(conn, stn) is None:
        raise NotFound("station.unknown", "There is no such station")


def _keys(conn: Connection, stn: str) -> forms.KeyList:
    _known(conn, stn)
    suspicions = queries.list_suspicions(conn, stn)
    return forms.KeyList(
        keys=[_key(key, suspicions.get(key.kid)) for key in queries.list_keys(conn, stn)],
        requested=[
            forms.KeyRequestView(
                kid=one.kid,
                alg=one.public.alg,
                public_b64u=b64u_encode(one.public.raw),
                account_id=one.account_id,
            )
            for one in queries.list_requests(conn, stn)
        ],
    )


def _key(key: StationKey, suspicion: Suspicion | None) -> forms.KeyView:
    return forms.KeyView(
        kid=key.kid,
        alg=key.public.alg,
        public_b64u=b64u_encode(key.public.raw),
        revoked=key.revoked,
        suspect_from_idx=suspicion.from_idx if suspicion else None,
        compromised_kid=suspicion.compromised_kid if suspicion else None,
    )


def _limits(conn: Connection, stn: str) -> forms.LimitList:
    _known(conn, stn)
    return forms.LimitList(
        limits=[
            forms.LimitView(channel=name, limit=limit.value, from_at=limit.from_at, why=limit.why)
            for name, limits in queries.list_limits(conn, stn).items()
            for limit in limits
        ]
    )


def _epochs(conn: Connection, stn: str) -> forms.EpochList:
    _known(conn, stn)
    return forms.EpochList(
        epochs=[
            forms.EpochView(
                ep=epoch.ep,
                prev_ep=epoch.prev_ep,
                env_id=epoch.env_id.hex(),
                opened_ms=epoch.opened_ms,
                acknowledged_by=epoch.acknowledged_by,
            )
            for epoch in queries.list_epochs(conn, stn)
        ]
    )
