"""HTTP of stations, channels and keys."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection

from emdi.encoding import b64u_encode
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account, require
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound
from stackwitness.stations import flow, forms, queries

router = APIRouter(prefix="/v1/stations", tags=["stations"])
Reader = Annotated[Account, Depends(current_account)]
Operator = Annotated[Account, Depends(require("operator"))]


@router.post("", status_code=201)
def register_station(
    form: forms.StationForm, account: Operator, request: Request, response: Response
) -> forms.StationDetail:
    """Register a station with its channels."""
    wiring = request.app.state.wiring
    channels = [channel.to_channel() for channel in form.channels]
    with unit_of_work(wiring.engine) as conn:
        flow.register_station(conn, wiring.service_key, form.to_station(), channels, act=account.account_id)
        response.headers["Location"] = f"/v1/stations/{form.stn}"
        return _detail(conn, form.stn)


@router.get("")
def list_stations(account: Reader, request: Request) -> forms.StationList:
    """List every station."""
    with unit_of_work(request.app.state.wiring.engine) as conn:
        stations = [forms.StationView(**station.to_json()) for station in queries.list_stations(conn)]
    return forms.StationList(stations=stations)


@router.get("/{stn}")
def read_station(stn: forms.StnPath, account: Reader, request: Request) -> forms.StationDetail:
    """Return a station and its channels."""
    with unit_of_work(request.app.state.wiring.engine) as conn:
        return _detail(conn, stn)


@router.put("/{stn}/channels")
def set_channels(
    stn: forms.StnPath, form: forms.ChannelsForm, account: Operator, request: Request
) -> forms.StationDetail:
    """Add channels; those that exist must be given unchanged or not at all."""
    wiring = request.app.state.wiring
    channels = [channel.to_channel() for channel in form.channels]
    with unit_of_work(wiring.engine) as conn:
        flow.set_channels(conn, wiring.service_key, stn, channels, act=account.account_id)
        return _detail(conn, stn)


@router.get("/{stn}/keys")
def list_keys(stn: forms.StnPath, account: Reader, request: Request) -> forms.KeyList:
    """List the keys of a station, revoked ones too."""
    with unit_of_work(request.app.state.wiring.engine) as conn:
        return _keys(conn, stn)


@router.post("/{stn}/keys", status_code=201)
def register_key(
    stn: forms.StnPath, form: forms.KeyForm, account: Operator, request: Request
) -> forms.KeyList:
    """Pin a key to a station."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine) as conn:
        flow.register_key(
            conn,
            wiring.service_key,
            stn,
            form.to_key(),
            act=account.account_id,
            test_keys=_takes_test_keys(request),
        )
        return _keys(conn, stn)


@router.post("/{stn}/keys/{kid}/rotate", status_code=201)
def rotate_key(
    stn: forms.StnPath, kid: forms.KidPath, form: forms.RotationForm, account: Operator, request: Request
) -> forms.KeyList:
    """Replace a key by its successor: from now on the old one signs nothing."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine) as conn:
        flow.rotate_key(
            conn,
            wiring.service_key,
            stn,
            kid,
            form.new.to_key(),
            act=account.account_id,
            test_keys=_takes_test_keys(request),
        )
        return _keys(conn, stn)


@router.post("/{stn}/keys/{kid}/revoke")
def revoke_key(
    stn: forms.StnPath, kid: forms.KidPath, form: forms.RevocationForm, account: Operator, request: Request
) -> forms.KeyList:
    """Revoke a key: from now on it signs nothing."""
    wiring = request.app.state.wiring
    with unit_of_work(wiring.engine) as conn:
        flow.revoke_key(conn, wiring.service_key, stn, kid, form.why, act=account.account_id)
        return _keys(conn, stn)


def _takes_test_keys(request: Request) -> bool:
    settings = request.app.state.wiring.settings
    return bool(settings.test_keys) or settings.mode == "test"


def _detail(conn: Connection, stn: str) -> forms.StationDetail:
    station = queries.find_station(conn, stn)
    if station is None:
        raise NotFound("station.unknown", "There is no such station")
    channels = [forms.ChannelView(**channel.to_json()) for channel in queries.list_channels(conn, stn)]
    return forms.StationDetail(**station.to_json(), channels=channels)


def _keys(conn: Connection, stn: str) -> forms.KeyList:
    if queries.find_station(conn, stn) is None:
        raise NotFound("station.unknown", "There is no such station")
    return forms.KeyList(
        keys=[
            forms.KeyView(
                kid=key.kid, alg=key.public.alg, public_b64u=b64u_encode(key.public.raw), revoked=key.revoked
            )
            for key in queries.list_keys(conn, stn)
        ]
    )
