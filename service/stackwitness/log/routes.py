"""The log over HTTP: checkpoint and tiles as static files, policy, leaf 0, and receipts."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy import Engine

from emdi.anchor import is_anchor_file
from emdi.encoding import MAX_UINT, b64u_encode
from emdi.errors import TileError
from emdi.tiles import parse_tile_path
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import NotFound, Unprocessable
from stackwitness.log import heads
from stackwitness.log.genesis import Genesis, read_genesis
from stackwitness.log.policies import read_policy
from stackwitness.log.queries import is_stored
from stackwitness.log.reader import LogReader


def _reader(request: Request) -> LogReader:
    reader: LogReader = request.app.state.wiring.log_reader
    return reader


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.wiring.engine
    return engine


router = APIRouter(tags=["log"])
Reader = Annotated[LogReader, Depends(_reader)]
Database = Annotated[Engine, Depends(_engine)]
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
NEVER = {"Cache-Control": "no-cache"}
ENTRY_ID = r"^[0-9a-f]{64}$"


class ReceiptsWanted(BaseModel):
    """Ask for the receipts of up to 256 envelopes or events, by lowercase hex id."""

    env_ids: list[Annotated[str, Field(pattern=ENTRY_ID)]] = Field(min_length=1, max_length=256)


class ReceiptsFound(BaseModel):
    """Give each id its receipt, null while it waits or when it is unknown."""

    receipts: dict[str, str | None]


@router.get("/log/checkpoint", response_class=PlainTextResponse)
def get_checkpoint(reader: Reader) -> Response:
    """Return the newest signed checkpoint (c2sp.org/tlog-checkpoint)."""
    return PlainTextResponse(reader.checkpoint(), headers=NEVER)


@router.get("/log/tile/{path:path}", response_class=Response)
def get_tile(path: str, reader: Reader) -> Response:
    """Return a tile or entry bundle (c2sp.org/tlog-tiles); a published one never changes."""
    try:
        parse_tile_path("tile/" + path)
        data = reader.file("tile/" + path)
    except (TileError, FileNotFoundError):
        raise NotFound("log.no_tile", "There is no such tile") from None
    return Response(data, media_type="application/octet-stream", headers=FOREVER)


class HeadView(BaseModel):
    """Describe a head; its lines lie at `file`, the event that names it has the receipt of `event_id`."""

    as_of: int
    date: str
    lines: int
    root_b64u: str
    occasion: str
    event_id: str
    file: str


class HeadList(BaseModel):
    """List heads, largest first; `next` is the `before` of the next page, null at the end."""

    heads: list[HeadView]
    next: int | None


@router.get("/v1/heads")
def list_heads(
    engine: Database,
    before: Annotated[int | None, Query(ge=0, le=MAX_UINT)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> HeadList:
    """List the heads of the log: what the newest entry of every station and subject was."""
    with unit_of_work(engine, "sw_read") as conn:
        found = heads.list_heads(conn, before, limit + 1)
    page = found[:limit]
    return HeadList(
        heads=[_head_view(head) for head in page], next=page[-1].as_of if len(found) > limit else None
    )


@router.get("/v1/heads/{date}")
def get_head(date: str, engine: Database) -> HeadView:
    """Describe the newest head made on a UTC date (YYYY-MM-DD)."""
    if not heads.is_date(date):
        raise Unprocessable("head.date", "A date is YYYY-MM-DD")
    with unit_of_work(engine, "sw_read") as conn:
        head = heads.find_of_date(conn, date)
    if head is None:
        raise NotFound("head.unknown", "No head was made on that date")
    return _head_view(head)


@router.get("/log/heads/{as_of}", response_class=PlainTextResponse)
def get_head_file(as_of: Annotated[int, Path(ge=0, le=MAX_UINT)], reader: Reader) -> Response:
    """Return the lines of the head over the first `as_of` entries (see docs/formats.md)."""
    try:
        data = reader.head_file(as_of)
    except FileNotFoundError:
        raise NotFound("head.unknown", "There is no head of this size") from None
    return PlainTextResponse(data, headers=FOREVER)


@router.get("/log/previous/{name}", response_class=PlainTextResponse)
def get_previous(name: Literal["checkpoint", "head"], reader: Reader) -> Response:
    """Return the final checkpoint, or the final head, of the shard before this one; leaf 0 commits to both."""
    try:
        return PlainTextResponse(reader.file(f"previous/{name}"), headers=FOREVER)
    except FileNotFoundError:
        raise NotFound("log.no_tile", "This log is a first shard") from None


@router.get("/log/anchors/{name}", response_class=Response)
def get_anchor(name: str, reader: Reader) -> Response:
    """Return an anchored checkpoint (`<size>.note`) or a time stamp on it (`<size>.<k>.tsr`, RFC 3161)."""
    if not is_anchor_file(name):
        raise NotFound("log.no_anchor", "There is no such anchor")
    try:
        data = reader.file(f"anchors/{name}")
    except FileNotFoundError:
        raise NotFound("log.no_anchor", "There is no such anchor") from None
    media_type = "application/timestamp-reply" if name.endswith(".tsr") else "text/plain"
    return Response(data, media_type=media_type, headers=NEVER)


@router.get("/log/policy", response_class=PlainTextResponse)
def get_policy(engine: Database) -> Response:
    """Return the policy in force: the log's keys, its witnesses. A verifier keeps a copy of its own."""
    with unit_of_work(engine, "sw_read") as conn:
        policy = read_policy(conn)
    if policy is None:
        raise NotFound("log.empty", "The log has no leaf yet")
    return PlainTextResponse(policy, headers=NEVER)


@router.get("/log/genesis")
def get_genesis(engine: Database) -> Response:
    """Return leaf 0 exactly as hashed."""
    return Response(_genesis(engine).body(), media_type="application/json", headers=FOREVER)


@router.get("/v1/receipts/{env_id}", response_class=PlainTextResponse)
def get_receipt(env_id: str, reader: Reader, engine: Database) -> Response:
    """Return the receipt (c2sp.org/tlog-proof) of an envelope or event; 202 while it waits for the log."""
    entry_id = _entry_id(env_id)
    receipt = reader.receipt(entry_id)
    if receipt is not None:
        return PlainTextResponse(receipt, headers=NEVER)
    with unit_of_work(engine, "sw_ingest") as conn:
        stored = is_stored(conn, entry_id)
    if not stored:
        raise NotFound("receipt.unknown", "Nothing of this id is stored")
    return JSONResponse({"state": "pending"}, status_code=202, headers={"Retry-After": "1"})


@router.post("/v1/receipts")
def get_receipts(wanted: ReceiptsWanted, reader: Reader) -> ReceiptsFound:
    """Return many receipts at once, all against one checkpoint."""
    found = reader.receipts([bytes.fromhex(env_id) for env_id in wanted.env_ids])
    texts = {entry_id.hex(): receipt.decode() for entry_id, receipt in found.items()}
    return ReceiptsFound(receipts={env_id: texts.get(env_id) for env_id in wanted.env_ids})


def _head_view(head: heads.DailyHead) -> HeadView:
    return HeadView(
        as_of=head.as_of,
        date=head.date,
        lines=head.lines,
        root_b64u=b64u_encode(head.root),
        occasion=head.occasion,
        event_id=head.event_id.hex(),
        file=f"/log/{head.path}",
    )


def _entry_id(text: str) -> bytes:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Unprocessable("receipt.id", "An id is 64 lowercase hex digits")
    return bytes.fromhex(text)


def _genesis(engine: Engine) -> Genesis:
    with unit_of_work(engine, "sw_read") as conn:
        genesis = read_genesis(conn)
    if genesis is None:
        raise NotFound("log.empty", "The log has no leaf yet")
    return genesis
