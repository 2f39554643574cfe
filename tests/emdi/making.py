"""Make a small honest log and its export bundle, so that tests can spoil it piece by piece."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from emdi import bundle, merkle
from emdi.chain import StationHead
from emdi.encoding import b64_encode
from emdi.entry import KIND_EVENT, KIND_READING, PREFIX_BYTES
from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.errors import EmdiError
from emdi.layout import LOGGED, head_names
from emdi.note import format_note
from emdi.pack import Record
from emdi.paths import prove_lines
from emdi.receipt import Receipt, format_receipt
from emdi.scope import (
    Run,
    Scope,
    StationScope,
    bounds_of,
    format_scope,
    frozen_export_id,
    head_to_json,
)
from tests.emdi.making_log import (
    OFFICERS,
    ORIGIN,
    SALT,
    START_MS,
    STN,
    Log,
    SteadyKey,
    honest_log,
    name_of,
    seed,
)

__all__ = [
    "OFFICERS",
    "ORIGIN",
    "SALT",
    "START_MS",
    "STN",
    "Log",
    "SteadyKey",
    "frozen_members_of",
    "head_members",
    "hidden_ids",
    "honest_log",
    "members_of",
    "name_of",
    "note_alone",
    "refused",
    "remanifest",
    "scope_of",
    "seal",
    "seed",
    "shown",
    "texts_of",
    "write_zip",
    "zip_of",
]


def scope_of(log: Log, without: frozenset[int] = frozenset()) -> Scope:
    """Return the scope of an export of the whole log; its last head is the one that counts."""
    head, runs = None, ()
    hidden = {log.entries[idx][PREFIX_BYTES:] for idx in without}
    envelopes = [envelope for envelope in log.envelopes if envelope.jws not in hidden]
    if envelopes:
        first, last = envelopes[0], envelopes[-1]
        head = StationHead(last.ep, last.seq, last.env_id)
        runs = (Run(first.ep, first.seq, last.ep, last.seq),)
    return Scope(
        export_id="export-1",
        stations=(StationScope(STN, runs, head),),
        from_ms=log.period_ms[0],
        to_ms=log.period_ms[1],
        entries=None,
        requester="regulator-1",
        purpose="inspection",
        redacted=False,
        size=len(log.entries),
        heads=tuple(log.heads),
        head_as_of=max(log.heads),
        readings=len(shown(log.rows["readings"], without)),
        envelopes=len(envelopes),
        flags=len(shown(log.rows["flags"], without)),
        reviews=len(shown(log.rows["reviews"], without)),
    )


def shown(rows: list[str], without: frozenset[int]) -> list[str]:
    """Return the rows of a table that are not of hidden entries."""
    return [row for row in rows if int(row.partition(",")[0]) not in without]


def head_members(log: Log) -> dict[str, bytes]:
    """Return the lines of the heads with their proofs."""
    names = [
        ("station", STN),
        *(("subject", subj) for subj in (f"station:{STN}", "database", "detector", "log")),
    ]
    names += [
        ("subject", f"account:{who}") for who in sorted({event.act for event in log.events} - {"system"})
    ]
    members = {}
    for as_of, lines in log.heads.items():
        proven = prove_lines(lines, names)
        file, proofs = head_names(as_of)
        members[file] = "".join(f"{line}\n" for line, _, _ in proven).encode()
        members[proofs] = "".join(bundle.format_proof(index, path) for _, index, path in proven).encode()
    return members


def texts_of(log: Log) -> list[bundle.Disclosure]:
    """Return the texts behind the salted hashes of decisions, grants and other acts."""
    decisions = [event for event in log.events if "reason_sha256" in event.data]
    texts = [bundle.Disclosure(event.event_id, SALT, "Send someone.") for event in decisions]
    names = [(event.event_id, name_of(event.data["account_id"])) for event in log.grants]
    return texts + [
        bundle.Disclosure(event_id, SALT, text) for event_id, text in [*names, *log.explained.items()]
    ]


def hidden_ids(log: Log, without: frozenset[int]) -> set[bytes]:
    """Return the ids of the events that stand at these indexes."""
    jws = {log.entries[idx][PREFIX_BYTES:] for idx in without}
    return {event.event_id for event in (*log.events, *log.grants) if event.jws in jws}


def members_of(
    log: Log,
    more: Callable[[Log], dict[str, bytes]] = lambda log: {},
    without: frozenset[int] = frozenset(),
) -> dict[str, bytes]:
    """Return the members of the export bundle of the whole log, which gets a head as its last entry; with those
    that `more` gives. A dishonest exporter leaves the entries `without` out and seals what is left.
    """
    if len(log.entries) - 1 not in log.heads:
        log.head()
    scope = scope_of(log, without)
    members = content_of(log, scope, more, without)
    seal(log, members, scope)
    return members


def frozen_members_of(
    log: Log, without: frozenset[int] = frozenset(), change: Callable[[Scope], Scope] = lambda scope: scope
) -> dict[str, bytes]:
    """Return the members of the bundle of the whole log, which `end` froze: its scope as `change` leaves it, sealed
    by the export key alone.
    """
    scope = scope_of(log, without)
    asked = (scope.stns, (scope.from_ms, scope.to_ms), scope.entries, scope.requester, scope.purpose)
    scope = replace(scope, export_id=frozen_export_id(ORIGIN, scope.size, *asked, redacted=scope.redacted))
    members = content_of(log, change(scope), without=without)
    note_alone(log, members, change(scope))
    return members


def note_alone(log: Log, members: dict[str, bytes], scope: Scope) -> None:
    """Add MANIFEST and bundle.note: all that whoever holds the export key can make without the log."""
    for name in LOGGED:
        members.pop(name, None)
    members["MANIFEST"] = bundle.make_manifest(members.items())
    text = bundle.bundle_note_text(scope.export_id, members["MANIFEST"], ORIGIN, scope.size)
    members["bundle.note"] = format_note(text, [log.export_key.sign(text)])


def content_of(
    log: Log,
    scope: Scope,
    more: Callable[[Log], dict[str, bytes]] = lambda log: {},
    without: frozenset[int] = frozenset(),
) -> dict[str, bytes]:
    """Return the members that say what is in the log, without those that seal them."""
    size, leaves, note = len(log.entries), log.leaves(), log.checkpoint()
    texts = [text for text in texts_of(log) if text.event_id not in hidden_ids(log, without)]
    return {
        "README.txt": b"how to verify\n",
        "scope.json": format_scope(scope),
        "checkpoint": note,
        "policy.txt": log.policy.encode(),
        "entries.bin": b"".join(
            bundle.pack_entries(item for item in enumerate(log.entries) if item[0] not in without)
        ),
        "proofs.txt": "".join(
            bundle.format_proof(idx, merkle.inclusion_path(leaves, idx))
            for idx in range(size)
            if idx not in without
        ).encode(),
        "readings.csv": (bundle.READINGS_HEADER + "".join(shown(log.rows["readings"], without))).encode(),
        "flags.csv": (bundle.FLAGS_HEADER + "".join(shown(log.rows["flags"], without))).encode(),
        "reviews.csv": (bundle.REVIEWS_HEADER + "".join(shown(log.rows["reviews"], without))).encode(),
        "custody.csv": bundle.CUSTODY_HEADER.encode(),
        "disclosures.jsonl": "".join(map(bundle.format_disclosure, texts)).encode(),
        **head_members(log),
        **more(log),
    }


def seal(log: Log, members: dict[str, bytes], scope: Scope) -> None:
    """Add MANIFEST, export.made with its receipt, consistency proof and bundle.note, as the service would."""
    manifest = bundle.make_manifest(members.items())
    station = scope.stations[0]
    data = {
        "export_id": scope.export_id,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "from_ms": scope.from_ms,
        "to_ms": scope.to_ms,
        **bounds_of(station),
        "head": head_to_json(station.head),
        "size": scope.size,
        "stns": list(scope.stns),
        "entries": scope.entries,
        "head_as_of": scope.head_as_of,
        "redacted": scope.redacted,
    }
    event = log.make_event("export.made", data, act=scope.requester)
    other = seal_envelope(
        log.station,
        stn=STN,
        ep=9,
        seq=0,
        prev=ZERO_HASH,
        iat_ms=START_MS,
        cp=None,
        records=[Record("so2", START_MS, "mg/m3", Decimal(1), "N")],
    )
    later = replace(log, entries=list(log.entries))
    later.append(KIND_READING, other.jws)
    idx = later.append(KIND_EVENT, event.jws)
    leaves = later.leaves()
    path = tuple(merkle.inclusion_path(leaves, idx))
    receipt = Receipt(later.entries[idx][:PREFIX_BYTES], idx, path, later.checkpoint())
    text = bundle.bundle_note_text(scope.export_id, manifest, ORIGIN, scope.size)
    members |= {
        "MANIFEST": manifest,
        "export.jws": event.jws,
        "export.tlog-proof": format_receipt(receipt),
        "consistency.txt": "".join(
            f"{b64_encode(item)}\n" for item in merkle.consistency_path(leaves, scope.size)
        ).encode(),
        "bundle.note": format_note(text, [log.export_key.sign(text)]),
    }


def remanifest(members: dict[str, bytes]) -> None:
    """Do what a forger can: make MANIFEST fit again."""
    members["MANIFEST"] = bundle.make_manifest(members.items())


def zip_of(members: dict[str, bytes]) -> io.BytesIO:
    target = io.BytesIO()
    bundle.write_bundle(target, members.items())
    return target


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.write_bytes(zip_of(members).getvalue())
    return path


def refused(code: str, call: Callable[..., object], *arguments: object) -> None:
    """Check that a call raises an EmdiError with this code."""
    with pytest.raises(EmdiError) as caught:
        call(*arguments)
    assert caught.value.code == code
