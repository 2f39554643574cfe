"""The detectors' memory that a bundle carries when its envelopes do not begin at the station's first."""

from __future__ import annotations

from sqlalchemy import Connection

from emdi.entry import KIND_READING
from emdi.event import Event, parse_event
from emdi.runs import RUN, parse_run
from stackwitness.detection.queries import list_events, read_leaves
from stackwitness.evidence.rerun import Rerun


def find_state(conn: Connection, stn: str, first: tuple[int, int]) -> bytes | None:
    """Return the memory before the first run that needs no envelope before `first` (ep, seq), computed from the
    station's first reading on; None when there is no such run, when it begins anew, or when what stands before it
    cannot be run again to the memory it names.

    This is what a bundle whose envelopes begin at `first` carries as detector-state/<stn>.bin.
    """
    target = _first_from(conn, stn, first)
    again = Rerun(stn)
    for row in read_leaves(conn, stn) if target is not None else ():
        body = bytes(row.body)
        if row.kind == KIND_READING:
            again.take_envelope(body)
            continue
        event = parse_event(body)
        if target is not None and event.event_id == target.event_id:
            return again.state_for(parse_run(event))
        again.take_event(row.idx, event)
    return None


def _first_from(conn: Connection, stn: str, first: tuple[int, int]) -> Event | None:
    """Return the first run that needs no envelope before `first`, and that no later run goes back behind."""
    found: Event | None = None
    for event in list_events(conn, f"station:{stn}", (RUN,)):
        if parse_run(event).first < first:
            found = None
        elif found is None:
            found = event
    return found
