"""HTTP of flags and of the events behind them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from emdi.event import parse_event
from stackwitness.accounts.domain import Account
from stackwitness.accounts.routes import current_account
from stackwitness.db.unit import unit_of_work
from stackwitness.flags import flow, matters
from stackwitness.flags.domain import Flag, FlagState
from stackwitness.flags.schemas import CustodyList, EventView, ExtensionView, FlagDetail, FlagPage, FlagView
from stackwitness.log.custody import list_looks
from stackwitness.wiring import Wiring, get_wiring

router = APIRouter(tags=["flags"])
Reader = Annotated[Account, Depends(current_account)]
Wired = Annotated[Wiring, Depends(get_wiring)]
FlagId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}-[0-9]{1,19}$")]
EventId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/v1/flags")
def list_flags(
    account: Reader,
    wiring: Wired,
    station: Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = None,
    state: FlagState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> FlagPage:
    """List flags, newest first; `state` open = no decision yet."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        page, following = flow.list_flags(conn, stn=station, state=state, after=after, limit=limit)
        names = matters.name_matters(conn, page)
    return FlagPage(flags=[FlagView.of(flag, names[flag.flag_id]) for flag in page], next=following)


@router.get("/v1/flags/{flag_id}")
def read_flag(flag_id: FlagId, account: Reader, wiring: Wired) -> FlagDetail:
    """Return a flag with its signed claims and its extensions."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        flag = flow.find_flag(conn, flag_id)
        extensions = flow.find_extensions(conn, flag_id)
        # The newest event says the most: it covers the longest interval.
        newest = extensions[-1].event_id if extensions else flag.event_id
        claims = parse_event(flow.find_event(conn, newest)).data
        matter = matters.find_matter(conn, flag_id).matter_id
    note_view(wiring, account, flag)
    return FlagDetail(
        **FlagView.of(flag, matter).model_dump(),
        claims=floats(claims),
        extensions=[ExtensionView.of(extension) for extension in extensions],
    )


@router.get("/v1/flags/{flag_id}/plot")
def read_plot(flag_id: FlagId, account: Reader, wiring: Wired) -> dict[str, Any]:
    """Return what to draw: series, band, limit, flagged interval, matched stretch, histogram."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        flag, plot = flow.find_flag(conn, flag_id), flow.find_plot(conn, flag_id)
    note_view(wiring, account, flag)
    return plot


@router.get("/v1/flags/{flag_id}/custody")
def read_custody(flag_id: FlagId, account: Reader, wiring: Wired) -> CustodyList:
    """List who looked at a flag, once per account and UTC day, each a signed event."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        flow.find_flag(conn, flag_id)
        return CustodyList.of(list_looks(conn, "flag", flag_id))


def note_view(wiring: Wiring, account: Account, flag: Flag) -> None:
    """Have the log know that this account sees this flag."""
    wiring.custody.note(
        "evidence.viewed",
        stns=[flag.stn],
        what="flag",
        object_id=flag.flag_id,
        account_id=account.account_id,
        agency=account.sees,
    )


@router.get("/v1/events/{event_id}")
def read_event(event_id: EventId, account: Reader, wiring: Wired) -> EventView:
    """Return a signed event of the log."""
    with unit_of_work(wiring.engine, "sw_read", account.sees) as conn:
        event = parse_event(flow.find_event(conn, bytes.fromhex(event_id)))
    return EventView(
        event_id=event.event_id.hex(),
        typ=event.typ,
        subj=event.subj,
        sseq=event.sseq,
        sprev=event.sprev.hex(),
        act=event.act,
        ts_ms=event.ts_ms,
        ref=list(event.ref),
        data=floats(event.data),
        jws=event.jws.decode("ascii"),
    )


def floats(claims: dict[str, Any]) -> dict[str, Any]:
    """Turn the exact decimals of a parsed event into JSON numbers; the JWS keeps the exact ones."""
    shown: dict[str, Any] = flow.plain(claims)
    return shown
