"""Keys and channels in memory; the authority is the committing transaction, which compares versions."""

from sqlalchemy import Connection, Engine

from stackwitness.db.unit import unit_of_work
from stackwitness.ingest.domain import Roster, Standing
from stackwitness.ingest.queries import load_roster


class Rosters:
    """Remember the roster of every station seen; replaced whole, so readers need no lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rosters: dict[str, Roster] = {}

    def remembered(self, stn: str) -> Roster | None:
        """Return what memory holds."""
        return self._rosters.get(stn)

    def read(self, stn: str) -> Roster | None:
        """Return what the database holds now. Raises DatabaseUnavailable."""
        with unit_of_work(self._engine, "sw_ingest") as conn:
            return self._load(conn, stn)

    def current(self, conn: Connection, stn: str, standing: Standing) -> Roster | None:
        """Return the roster that holds inside this transaction."""
        roster = self._rosters.get(stn)
        if roster is not None and roster.version == standing.version:
            return roster
        return self._load(conn, stn)

    def _load(self, conn: Connection, stn: str) -> Roster | None:
        roster = load_roster(conn, stn)
        if roster is not None:
            self._rosters[stn] = roster
        return roster
