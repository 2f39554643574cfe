"""Seal an export: events of the log name its MANIFEST; the bundle gets the receipt, and is zipped."""

import hashlib
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from emdi.bundle import write_bundle
from emdi.encoding import b64_encode
from emdi.event import Event, parse_event
from emdi.policy import parse_policy
from emdi.scope import bounds_of, head_to_json
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import LogUnavailable
from stackwitness.evidence import queries
from stackwitness.evidence.bundle.plan import Plan
from stackwitness.evidence.domain import Export, at_of, ms_of
from stackwitness.evidence.members import members_in
from stackwitness.log.events import append_event, lock_subject
from stackwitness.log.policies import read_policy
from stackwitness.log.queries import find_places
from stackwitness.wiring import Wiring

LOG_WITHIN_S = 60.0


class KeyChanged(Exception):
    """The service's key changed behind the part of the log that is exported: choose again."""


def seal(wiring: Wiring, export: Export, plan: Plan, manifest: bytes) -> None:
    """Append export.made to the first station's chain and export.covers to the others', in one transaction.

    Raises KeyChanged when the key that would sign it is one the bundle does not know.
    """
    digest = hashlib.sha256(manifest).digest()
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        lock_subject(conn, f"station:{export.stn}")  # from here on the service's key stays what it is
        if find_late_key(conn, plan.head_idx):
            raise KeyChanged
        event = _append(wiring, conn, export, "export.made", export.stn, _seal_data(export, plan, digest))
        for stn in export.stns[1:]:
            data = {"export_id": export.export_id, "event": event.event_id.hex()}
            _append(wiring, conn, export, "export.covers", stn, data)
        queries.insert_export(conn, export.export_id, export.stn, digest, at_of(event.ts_ms), event.event_id)


def find_late_key(conn: Connection, head_idx: int) -> bool:
    """Tell whether the service's key changed behind an index."""
    event_id = queries.find_newest_key(conn)
    places = [] if event_id is None else find_places(conn, [event_id], (2,))
    return event_id is not None and not any(place.idx <= head_idx for place in places)


def finish(wiring: Wiring, export_id: str, folder: Path, target: Path) -> None:
    """Wait for the seal's receipt, add it with its proof of consistency, and zip. Raises LogUnavailable."""
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        sealed = queries.find_sealed_event(conn, export_id)
    if sealed is None or not (folder / "MANIFEST").exists():
        raise LogUnavailable("export.lost", "The members of this export are lost; ask for it again")
    event_id, jws = sealed
    if wiring.log_reader.await_receipt(event_id, LOG_WITHIN_S) is None:
        raise LogUnavailable(detail="the log does not publish the export's event")
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        place = find_places(conn, [event_id], (2,))[0]
        policy = parse_policy(read_policy(conn) or "")
    snapshot = wiring.log_reader.await_quorum(policy)
    path = snapshot.consistency(int(parse_event(jws).data["size"]))
    (folder / "export.jws").write_bytes(jws + b"\n")
    (folder / "export.tlog-proof").write_bytes(snapshot.receipt(place))
    (folder / "consistency.txt").write_text("".join(b64_encode(item) + "\n" for item in path))
    zip_members(folder, target)


def zip_members(folder: Path, target: Path) -> None:
    """Zip all members of the folder: the bundle is there whole, or not at all."""
    draft = target.with_suffix(".tmp")
    write_bundle(draft, members_in(folder))
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def sync_folder(folder: Path) -> None:
    """Put every member on the disk itself: the log is about to name them for ever."""
    for _, part in members_in(folder):
        with open(part, "rb") as file:
            os.fsync(file.fileno())


def _append(
    wiring: Wiring, conn: Connection, export: Export, typ: str, stn: str, data: dict[str, Any]
) -> Event:
    subj = f"station:{stn}"
    return append_event(conn, wiring.service_key, typ=typ, subj=subj, act=export.account_id, data=data)


def _seal_data(export: Export, plan: Plan, digest: bytes) -> dict[str, Any]:
    first = plan.stations[0]
    return {
        "export_id": export.export_id,
        "manifest_sha256": digest.hex(),
        "stns": list(export.stns),
        "from_ms": ms_of(export.from_at),
        "to_ms": ms_of(export.to_at),
        "entries": None if export.entries is None else list(export.entries),
        **bounds_of(first),
        "head": head_to_json(first.head),
        "head_as_of": plan.head_as_of,
        "redacted": export.redacted,
        "size": plan.size,
    }
