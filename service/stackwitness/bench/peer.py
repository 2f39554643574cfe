"""The peer: what one writes in an afternoon. FastAPI and SQLModel, no signature, one commit a request."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlmodel import Field, Session, SQLModel

PEER_URL = "STACKWITNESS_BENCH_PEER_URL"


class PeerReading(SQLModel, table=True):
    """A reading, as a tutorial would store it."""

    __tablename__ = "peer_reading"

    id: int | None = Field(default=None, primary_key=True)
    station: str = Field(index=True)
    channel: str
    at: datetime
    unit: str
    value: float | None = None
    status: str = "N"


class ReadingForm(BaseModel):
    """One reading of a request."""

    channel: str
    at: datetime
    unit: str
    value: float | None = None
    status: str = "N"


class PackForm(BaseModel):
    """The readings of one request."""

    station: str
    readings: list[ReadingForm]


def create_peer() -> FastAPI:
    """Return the peer application over the database of the environment."""
    engine = create_engine(os.environ[PEER_URL], pool_size=40)
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables["peer_reading"]])
    app = FastAPI()

    def open_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.post("/readings", status_code=201)
    def post_readings(pack: PackForm, session: Annotated[Session, Depends(open_session)]) -> dict[str, int]:
        session.add_all(PeerReading(station=pack.station, **item.model_dump()) for item in pack.readings)
        session.commit()
        return {"stored": len(pack.readings)}

    return app
