"""The whole-state checker: everything that must hold of database and disk, whatever happened before.

It shares no code with the server: the format's own functions and plain SQL only.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from emdi.chain import StationHead, check_next, check_subject
from emdi.checkpoint import parse_checkpoint
from emdi.encoding import b64u_decode
from emdi.entry import encode_entry
from emdi.envelope import parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.head import HeadsBuilder, format_head, head_root
from emdi.merkle import CompactRange, leaf_hash
from emdi.note import parse_note
from emdi.runs import parse_run
from emdi.tiles import TileReader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BODIES = {
    0: "SELECT entry_id, recv_ms, body FROM log_genesis",
    1: "SELECT env_id AS entry_id, recv_ms, jws AS body FROM envelope",
    2: "SELECT event_id AS entry_id, recv_ms, jws AS body FROM event",
    3: "SELECT env_id AS entry_id, recv_ms, jws AS body FROM quarantine",
}
# table -> (event types that make a row, the row's subject, the id that the event's sseq must give)
MADE_BY_EVENTS = {
    "station": ({"station.register"}, "'station:' || t.stn", None),
    "channel": ({"channel.set", "station.register"}, "'station:' || t.stn", None),
    "station_key": ({"key.register", "key.rotate"}, "'station:' || t.stn", None),
    "key_revocation": (
        {"key.revoke", "key.rotate", "key.compromise"},
        "(SELECT 'station:' || k.stn FROM station_key k WHERE k.kid = t.kid)",
        None,
    ),
    "key_request": ({"key.request"}, "'station:' || t.stn", None),
    "key_compromise": (
        {"key.compromise"},
        "(SELECT 'station:' || k.stn FROM station_key k WHERE k.kid = t.kid)",
        None,
    ),
    "epoch": ({"epoch.open"}, "'station:' || t.stn", None),
    "epoch_ack": ({"epoch.ack"}, "'station:' || t.stn", None),
    "gap": ({"gap.opened"}, "'station:' || t.stn", None),
    "channel_limit": ({"limit.change"}, "'station:' || t.stn", None),
    "explanation": (
        {
            *("key.revoke", "key.compromise", "limit.change", "epoch.ack", "access.revoke", "log.freeze"),
            *("service.compromise", "export.requested"),
        },
        "e.subj",
        None,
    ),
    "service_key": ({"service.key"}, "'log'", None),
    "account": ({"access.grant"}, "'account:' || t.account_id", None),
    "access_token": ({"access.token"}, "'account:' || t.account_id", None),
    "flag": ({"flag.raised"}, "'station:' || t.stn", "t.flag_id"),
    "flag_extension": (
        {"flag.extended"},
        "(SELECT 'station:' || f.stn FROM flag f WHERE f.flag_id = t.flag_id)",
        None,
    ),
    "flag_lapse": (
        {"flag.lapsed"},
        "(SELECT 'station:' || f.stn FROM flag f WHERE f.flag_id = t.flag_id)",
        None,
    ),
    "review": (
        {"review.decision"},
        "(SELECT 'station:' || f.stn FROM flag f WHERE f.flag_id = t.flag_id)",
        "t.review_id",
    ),
    "export_request": ({"export.requested"}, "'station:' || t.stn", None),
    "export_station": ({"export.requested"}, "'station:' || t.stn", None),
    "export": ({"export.made"}, "'station:' || t.stn", None),
    "head_daily": ({"head.daily"}, "'log'", None),
    "custody": ({"evidence.viewed", "evidence.downloaded"}, "'station:' || t.stn", None),
    "ddl_event": ({"db.ddl"}, "'database'", None),
    "catalog_baseline": ({"catalog.baseline"}, "'database'", None),
}


def check(engine: Engine, log_dir: Path) -> list[str]:
    """Return what does not hold, one line each; empty when all is well."""
    with engine.connect() as conn:
        found = [
            *check_leaves(conn),
            *check_log(conn, log_dir),
            *check_anchored(conn, log_dir),
            *check_heads(conn, log_dir),
            *check_runs(conn),
            *check_stations(conn),
            *check_readings(conn),
            *check_subjects(conn),
            *check_made_by_events(conn),
        ]
        conn.rollback()
    return found


def check_leaves(conn: Connection) -> Iterator[str]:
    """Every stored body is in the log or waits, exactly once, with the right bytes; nothing else is there."""
    wanted = {
        (kind, bytes(row.entry_id)): encode_entry(kind, row.recv_ms, bytes(row.body))
        for kind, query in BODIES.items()
        for row in conn.execute(text(query))
    }
    placed: Counter[tuple[int, bytes]] = Counter()
    for row in conn.execute(text("SELECT kind, entry_id, leaf FROM log_pending")):
        key = (row.kind, bytes(row.entry_id))
        placed[key] += 1
        if key in wanted and leaf_hash(wanted[key]) != bytes(row.leaf):
            yield f"log_pending {key[0]} {key[1].hex()} is not the leaf of its row"
    for row in conn.execute(text("SELECT idx, kind, entry_id, leaf FROM log_entry")):
        key = (row.kind, bytes(row.entry_id))
        placed[key] += 1
        if key not in wanted or leaf_hash(wanted[key]) != bytes(row.leaf):
            yield f"log_entry {row.idx} is not the leaf of its row"
    for key in wanted.keys() | placed.keys():
        if placed[key] != 1 or key not in wanted:
            yield f"entry {key[0]} {key[1].hex()} stands {placed[key]} times in the log"


def check_log(conn: Connection, log_dir: Path) -> Iterator[str]:
    """Indexes are contiguous, every head's root recomputes, the disk's checkpoint and tiles agree."""
    tree, roots = CompactRange(), {0: CompactRange().root()}
    for row in conn.execute(text("SELECT idx, leaf FROM log_entry ORDER BY idx")):
        if row.idx != tree.size:
            yield f"log_entry jumps from {tree.size - 1} to {row.idx}"
            return
        tree.append(bytes(row.leaf))
        roots[tree.size] = tree.root()
    last = 0
    for row in conn.execute(text("SELECT size, prev, root FROM log_head ORDER BY size")):
        if row.prev != last or roots.get(row.size) != bytes(row.root):
            yield f"log_head {row.size} does not follow {last}, or its root is wrong"
        last = row.size
    if last != tree.size:
        yield f"log_head ends at {last}, log_entry at {tree.size}"
    if (log_dir / "checkpoint").exists():
        published = parse_checkpoint(parse_note((log_dir / "checkpoint").read_bytes()).text)
        if roots.get(published.size) != published.root:
            yield f"the checkpoint of {published.size} has another root than the database"
        reader = TileReader(lambda path: (log_dir / path).read_bytes(), published.size)
        if published.size and reader.root() != published.root:
            yield f"the tiles on disk do not give the checkpoint's root at {published.size}"


def check_anchored(conn: Connection, log_dir: Path) -> Iterator[str]:
    """Every anchor's files are on disk as its event names them, and its note is of this log."""
    for row in conn.execute(text("SELECT jws FROM event WHERE typ = 'anchor.tsa'")):
        said = parse_event(bytes(row.jws)).data
        note, response = f"{said['size']}.note", f"{said['size']}.{said['k']}.tsr"
        for name, digest in ((note, said["note_sha256"]), (response, said["tsr_sha256"])):
            path = log_dir / "anchors" / name
            if not path.exists() or sha256(path.read_bytes()).hexdigest() != digest:
                yield f"anchored file {name} is gone or changed"


def check_heads(conn: Connection, log_dir: Path) -> Iterator[str]:
    """Every head is what the entries below it say; its file is there."""
    signed = {
        event.data["as_of"]: event.data
        for row in conn.execute(text("SELECT jws FROM event WHERE typ = 'head.daily'"))
        if (event := parse_event(bytes(row.jws)))
    }
    builder, size = HeadsBuilder(), max(signed, default=0)
    query = (
        "SELECT l.idx, l.kind, coalesce(v.jws, e.jws) AS jws FROM log_entry l"
        " LEFT JOIN envelope v ON l.kind = 1 AND v.env_id = l.entry_id"
        " LEFT JOIN event e ON l.kind = 2 AND e.event_id = l.entry_id WHERE l.idx <= :size ORDER BY l.idx"
    )
    for row in conn.execute(text(query), {"size": size}).all():
        if row.idx in signed:
            yield from check_head(signed.pop(row.idx), row.idx, builder.lines(), log_dir)
        if row.jws is not None and row.kind in (1, 2):
            jws = bytes(row.jws)
            builder.take(parse_envelope(jws) if row.kind == 1 else parse_event(jws), row.idx)
    for as_of, data in signed.items():
        yield from check_head(data, as_of, builder.lines(), log_dir)


def check_head(data: dict[str, Any], as_of: int, lines: list[str], log_dir: Path) -> Iterator[str]:
    """Compare one head with the lines that its entries give."""
    if (data["lines"], b64u_decode(data["root_b64u"])) != (len(lines), head_root(lines)):
        yield f"the head of {as_of} entries is not what they say"
    if (log_dir / "heads" / str(as_of)).read_bytes() != format_head(lines):
        yield f"the file of the head of {as_of} entries is not what they say"


def check_runs(conn: Connection) -> Iterator[str]:
    """The last run of each station left the memory that is kept, and ended where it ends."""
    query = (
        "SELECT d.stn, (extract(epoch FROM d.upto) * 1000)::bigint AS upto_ms, d.state_hash, e.jws"
        " FROM detection_state d LEFT JOIN LATERAL (SELECT jws FROM event WHERE typ = 'detector.run'"
        " AND subj = 'station:' || d.stn ORDER BY sseq DESC LIMIT 1) e ON true"
    )
    for row in conn.execute(text(query)):
        last = parse_run(parse_event(bytes(row.jws))) if row.jws is not None else None
        if last is None or (last.upto_ms, last.state_after) != (row.upto_ms, bytes(row.state_hash).hex()):
            yield f"the detectors' memory of {row.stn} is not what the last run left: {last}"


def check_stations(conn: Connection) -> Iterator[str]:
    """Envelopes of a station form one chain, columns say what the bytes say, the head is the last one."""
    heads: dict[str, StationHead] = {}
    last_at: dict[str, datetime] = {}
    for row in conn.execute(text("SELECT * FROM envelope ORDER BY stn, ep, seq")):
        envelope = parse_envelope(bytes(row.jws))
        columns = (row.stn, row.ep, row.seq, row.kid, row.iat_ms, bytes(row.env_id), row.reading_count)
        inside = (envelope.stn, envelope.ep, envelope.seq, envelope.kid, envelope.iat_ms, envelope.env_id,
                  len(envelope.records))  # fmt: skip
        if columns != inside:
            yield f"envelope {row.envelope_no}: columns {columns} but bytes say {inside}"
        try:
            check_next(heads.get(row.stn), envelope)
        except EmdiError as error:
            yield f"envelope {row.stn} {row.ep}/{row.seq}: {error}"
        heads[row.stn] = StationHead(row.ep, row.seq, bytes(row.env_id))
        last_at[row.stn] = max(row.last_at, last_at.get(row.stn, row.last_at))
    stored = {
        row.stn: (StationHead(row.ep, row.seq, bytes(row.env_id)), row.last_at)
        for row in conn.execute(text("SELECT * FROM station_head"))
    }
    if stored != {stn: (head, last_at[stn]) for stn, head in heads.items()}:
        yield f"station_head {stored} is not the last envelopes {heads} {last_at}"


def check_readings(conn: Connection) -> Iterator[str]:
    """The projection is what the envelopes say, row by row, and nothing else."""
    channels = {(row.stn, row.name): row.channel_no for row in conn.execute(text("SELECT * FROM channel"))}
    stored: dict[int, Counter[Any]] = {}
    for row in conn.execute(text("SELECT envelope_no, channel_no, at, value, status::text FROM reading")):
        stored.setdefault(row.envelope_no, Counter())[(row.channel_no, row.at, row.value, row.status)] += 1
    for row in conn.execute(text("SELECT envelope_no, stn, first_at, last_at, jws FROM envelope")):
        records = parse_envelope(bytes(row.jws)).records
        wanted = Counter(
            (
                channels.get((row.stn, record.name)),
                EPOCH + timedelta(milliseconds=record.at_ms),
                None if record.value is None else float(record.value),
                record.status,
            )
            for record in records
        )
        if stored.pop(row.envelope_no, Counter()) != wanted:
            yield f"readings of envelope {row.envelope_no} are not what it says"
        times = [EPOCH + timedelta(milliseconds=record.at_ms) for record in records]
        if (row.first_at, row.last_at) != (min(times), max(times)):
            yield f"envelope {row.envelope_no}: first_at or last_at is wrong"
    if stored:
        yield f"readings without envelope: {sorted(stored)}"


def check_subjects(conn: Connection) -> Iterator[str]:
    """Events of a subject form one chain from 0, and the head is the last one."""
    heads: dict[str, tuple[int, bytes]] = {}
    for row in conn.execute(text("SELECT * FROM event ORDER BY subj, sseq")):
        event = parse_event(bytes(row.jws))
        if (row.typ, row.subj, row.sseq, bytes(row.sprev), bytes(row.event_id)) != (
            event.typ, event.subj, event.sseq, event.sprev, event.event_id
        ):  # fmt: skip
            yield f"event {row.subj} {row.sseq}: columns are not what the bytes say"
        try:
            check_subject(heads.get(row.subj), event)
        except EmdiError as error:
            yield f"event {row.subj} {row.sseq}: {error}"
        heads[row.subj] = (row.sseq, bytes(row.event_id))
    stored = {
        row.subj: (row.sseq, bytes(row.event_id)) for row in conn.execute(text("SELECT * FROM subject_head"))
    }
    if stored != heads:
        yield f"subject_head {stored} is not the last events {heads}"


def check_made_by_events(conn: Connection) -> Iterator[str]:
    """Every row of governance names the event that made it, of the right type and subject."""
    for table, (types, subject, row_id) in MADE_BY_EVENTS.items():
        query = (
            f"SELECT t.event_id, e.typ, e.subj, e.sseq, {subject} AS subject, {row_id or 'NULL'} AS row_id"
            f" FROM {table} t LEFT JOIN event e USING (event_id)"
        )
        for row in conn.execute(text(query)):
            if row.typ not in types or row.subj != row.subject:
                yield f"{table}: row of event {bytes(row.event_id).hex()} was made by {row.typ} of {row.subj}"
            elif row_id and row.row_id != f"{row.subj.removeprefix('station:')}-{row.sseq}":
                yield f"{table} {row.row_id}: its id is not that of event {row.subj} {row.sseq}"
