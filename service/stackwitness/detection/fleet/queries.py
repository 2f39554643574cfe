"""SQL of the comparison of neighbours."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC
from typing import Any

from sqlalchemy import Connection, Row, text

from stackwitness.db.timescale import bucket
from stackwitness.detection.domain import Unjudged
from stackwitness.detection.fleet.domain import Candidate, FleetFinding, FleetRun, Member
from stackwitness.detection.queries import HOUR_S

_COLUMNS = "agency, from_at, upto, heads, config_hash, version, findings, notes"


def list_members(conn: Connection) -> dict[str, list[Member]]:
    """Return the stations with readings, by agency and id."""
    query = (
        f"SELECT s.agency, s.stn, {bucket(HOUR_S, 'h.last_at')} AS closed, h.ep, h.seq"
        " FROM station s JOIN station_head h USING (stn) ORDER BY s.agency, s.stn"
    )
    members: dict[str, list[Member]] = {}
    for row in conn.execute(text(query)):
        one = Member(row.stn, row.agency, row.closed.astimezone(UTC), (row.ep, row.seq))
        members.setdefault(row.agency, []).append(one)
    return members


def list_candidates(conn: Connection) -> list[Candidate]:
    """Return every station, by id; a diluent or a flow is forged like a pollutant."""
    query = (
        "SELECT s.stn, s.name, s.agency, nullif(h.last_at, timestamptz 'epoch') AS last_at,"
        " (SELECT count(*) FROM channel c WHERE c.stn = s.stn AND c.role IN ('pollutant', 'diluent', 'flow')) AS judged"
        " FROM station s LEFT JOIN station_head h USING (stn) ORDER BY s.stn"
    )
    return [
        Candidate(row.stn, row.name, row.agency, row.last_at, row.judged) for row in conn.execute(text(query))
    ]


def save_run(conn: Connection, run: FleetRun, state: bytes) -> None:
    """Keep a comparison and its memory in place of the agency's one before."""
    columns = ("agency", "from_at", "upto", "heads", "config_hash", "version", "findings", "notes", "state")
    as_json = {"heads", "findings", "notes"}
    values = ", ".join(f"CAST(:{name} AS jsonb)" if name in as_json else f":{name}" for name in columns)
    update = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    query = (
        f"INSERT INTO fleet_run ({', '.join(columns)}) VALUES ({values})"
        f" ON CONFLICT (agency) DO UPDATE SET {update}"
    )
    given = asdict(run) | {"state": state}
    conn.execute(text(query), given | {name: json.dumps(given[name], sort_keys=True) for name in as_json})


def list_runs(conn: Connection) -> list[FleetRun]:
    """Return the last comparison of each agency, by its name."""
    return [_run(row) for row in conn.execute(text(f"SELECT {_COLUMNS} FROM fleet_run ORDER BY agency"))]


def find_run(conn: Connection, agency: str) -> tuple[FleetRun, bytes] | None:
    """Return an agency's last comparison and the memory it left."""
    query = f"SELECT {_COLUMNS}, state FROM fleet_run WHERE agency = :agency"
    row = conn.execute(text(query), {"agency": agency}).one_or_none()
    return None if row is None else (_run(row), bytes(row.state))


def _run(row: Row[Any]) -> FleetRun:
    return FleetRun(
        row.agency,
        row.from_at.astimezone(UTC),
        row.upto.astimezone(UTC),
        {stn: (ep, seq) for stn, (ep, seq) in row.heads.items()},
        row.config_hash,
        row.version,
        tuple(
            FleetFinding(**{**one, "channels": tuple(one["channels"]), "innocent": tuple(one["innocent"])})
            for one in row.findings
        ),
        tuple(map(Unjudged.read, row.notes)),
    )
