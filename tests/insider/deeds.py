"""What an insider does: with every right on the database, on the disk, with the service's keys, in the bundle."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from emdi.bundle import BundleReader, iter_entries, make_manifest, pack_entries, write_bundle
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode
from emdi.envelope import seal_envelope
from emdi.event import seal_key_proof, seal_succession
from emdi.head import format_head, head_root, parse_head
from emdi.keys import LocalKey
from emdi.layout import UNLISTED
from emdi.merkle import CompactRange
from emdi.note import sign_note
from emdi.pack import Record
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.notekeys import load_note_signer
from stackwitness.log.publisher import publish
from stackwitness.log.sequencer import read_head
from stackwitness.stations.domain import NewKey
from stackwitness.stations.keys import compromise_key, rotate_key
from tests.insider.scene import ENVELOPES, LATER, Scene
from tests.service.log_station import MINUTE_MS, START_MS

SEVENTEEN = "(SELECT envelope_no FROM envelope WHERE stn = 'S1' AND seq = 17)"
FLIP = "set_byte(jws, 90, 65 + (get_byte(jws, 90) + 1) % 26)"
LAST = ENVELOPES + LATER - 1


@dataclass(frozen=True)
class Sign:
    """A check that must find the deed: its code, and words that its line must hold."""

    check: str
    code: str
    says: str


@dataclass(frozen=True)
class Deed:
    """One manipulation: what is done, with which rights, and what must find it. `check` names the first of them."""

    name: str
    rights: str
    do: Callable[[Scene], None]
    signs: tuple[Sign, ...] = field(default_factory=tuple)


def edit_value(scene: Scene) -> None:
    """The immudb case: a stored value is edited while every root stays as it was."""
    scene.run(
        f"UPDATE reading SET value = 12.0 WHERE envelope_no = {SEVENTEEN} AND channel_no ="
        " (SELECT channel_no FROM channel WHERE stn = 'S1' AND name = 'SO2')"
    )


def relabel(scene: Scene) -> None:
    scene.run(f"UPDATE reading SET status = 'M' WHERE envelope_no = {SEVENTEEN}")


def edit_entry(scene: Scene) -> None:
    scene.run(f"UPDATE envelope SET jws = {FLIP} WHERE stn = 'S1' AND seq = 17")


def edit_entry_and_leaf(scene: Scene) -> None:
    edit_entry(scene)
    scene.run(
        "UPDATE log_entry e SET leaf = sha256('\\x00'::bytea || log_prefix(1, e.recv_ms) || v.jws)"
        " FROM envelope v WHERE v.env_id = e.entry_id AND v.stn = 'S1' AND v.seq = 17"
    )


def edit_database_consistently(scene: Scene) -> None:
    """Entry, leaf and every root of the database fit together again."""
    edit_entry_and_leaf(scene)
    with scene.engine.begin() as conn:
        leaves = [bytes(row.leaf) for row in conn.execute(sa.text("SELECT leaf FROM log_entry ORDER BY idx"))]
        sizes = [row.size for row in conn.execute(sa.text("SELECT size FROM log_head ORDER BY size"))]
    tree, roots = CompactRange(), {}
    for leaf in leaves:
        tree.append(leaf)
        roots[tree.size] = tree.root()
    scene.run(*(f"UPDATE log_head SET root = '\\x{roots[size].hex()}' WHERE size = {size}" for size in sizes))


def edit_disk_too(scene: Scene) -> None:
    """Database and every tile and bundle on disk tell the new story; only the old signature is left."""
    edit_database_consistently(scene)
    log_dir = scene.settings.log_dir
    note = (log_dir / "checkpoint").read_bytes()
    shutil.rmtree(log_dir / "tile")
    (log_dir / "checkpoint").unlink()
    with scene.engine.begin() as conn:
        publish(conn, log_dir, read_head(conn).size)
    (log_dir / "checkpoint").write_bytes(note)


def steal_the_log_key(scene: Scene) -> None:
    """As before, and the new tree is signed with the log's own key."""
    edit_disk_too(scene)
    with scene.engine.begin() as conn:
        head = read_head(conn)
    signer = load_note_signer(scene.settings.signer_dir / "log.key")
    text = Checkpoint(scene.settings.log_origin, head.size, head.root).text()
    (scene.settings.log_dir / "checkpoint").write_bytes(sign_note(text, signer))


def swap_entries(scene: Scene) -> None:
    first = scene.idx_of(16)
    scene.run(
        f"UPDATE log_entry SET idx = 99999 WHERE idx = {first}",
        f"UPDATE log_entry SET idx = {first} WHERE idx = {first + 1}",
        f"UPDATE log_entry SET idx = {first + 1} WHERE idx = 99999",
    )


def resequence(scene: Scene) -> None:
    """The whole history again without one envelope: a valid tree, only another one."""
    gone = scene.idx_of(17)
    scene.run(
        f"DELETE FROM reading WHERE envelope_no = {SEVENTEEN}",
        "DELETE FROM envelope WHERE stn = 'S1' AND seq = 17",
        f"DELETE FROM log_entry WHERE idx = {gone}",
        f"UPDATE log_entry SET idx = idx + 1000000 WHERE idx > {gone}",
        f"UPDATE log_entry SET idx = idx - 1000001 WHERE idx > {gone}",
        "DELETE FROM log_head",
    )
    tree = CompactRange()
    with scene.engine.begin() as conn:
        for row in conn.execute(sa.text("SELECT leaf FROM log_entry ORDER BY idx")):
            tree.append(bytes(row.leaf))
    scene.run(f"INSERT INTO log_head (size, prev, root) VALUES ({tree.size}, 0, '\\x{tree.root().hex()}')")
    log_dir = scene.settings.log_dir
    note = (log_dir / "checkpoint").read_bytes()
    shutil.rmtree(log_dir / "tile")
    (log_dir / "checkpoint").unlink()
    with scene.engine.begin() as conn:
        publish(conn, log_dir, tree.size)
    (log_dir / "checkpoint").write_bytes(note)


def truncate_tail(scene: Scene) -> None:
    size = scene.value("SELECT min(size) FROM log_head WHERE size > 300")
    scene.run(f"DELETE FROM log_entry WHERE idx >= {size}", f"DELETE FROM log_head WHERE size > {size}")


def restore_backup(scene: Scene) -> None:
    scene.restore_backup()


def delete_flag(scene: Scene) -> None:
    scene.run(f"DELETE FROM flag WHERE flag_id = '{scene.flags[1]}'")


def delete_flag_and_event(scene: Scene) -> None:
    event = f"(SELECT event_id FROM flag WHERE flag_id = '{scene.flags[1]}')"
    scene.run(
        f"DELETE FROM log_entry WHERE entry_id = {event}",
        f"DELETE FROM event WHERE event_id = {event}",
        f"DELETE FROM flag WHERE flag_id = '{scene.flags[1]}'",
    )


def delete_decision(scene: Scene) -> None:
    scene.run("DELETE FROM review")


def rewrite_reason(scene: Scene) -> None:
    scene.run("UPDATE review SET reason = 'All was well.'")


def shadow_a_view(scene: Scene) -> None:
    """Another view of the readings stands before ours on the search path; nothing of ours is touched, nobody is told."""
    _behind_the_alarms(
        scene,
        "CREATE SCHEMA before",
        "CREATE VIEW before.reading_seen AS SELECT at, channel_no, envelope_no, value / 2 AS value, status FROM reading",
        "GRANT USAGE ON SCHEMA before TO PUBLIC",
        "GRANT SELECT ON before.reading_seen TO PUBLIC",
        f"ALTER DATABASE {scene.engine.url.database} SET search_path = before, public",
    )
    scene.engine.dispose()


def rewrite_inserts(scene: Scene) -> None:
    """A rule makes every new flag vanish: no trigger, no grant, no function is changed."""
    _behind_the_alarms(scene, "CREATE RULE vanish AS ON INSERT TO flag DO INSTEAD NOTHING")


def _behind_the_alarms(scene: Scene, *statements: str) -> None:
    alarms = ("note_ddl_end", "note_ddl_drop")
    with scene.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        for statement in (
            *(f"ALTER EVENT TRIGGER {alarm} DISABLE" for alarm in alarms),
            *statements,
            *(f"ALTER EVENT TRIGGER {alarm} ENABLE ALWAYS" for alarm in alarms),
        ):
            conn.execute(sa.text(statement))


def disable_trigger(scene: Scene) -> None:
    with scene.engine.begin() as conn:
        conn.execute(sa.text("ALTER TABLE flag DISABLE TRIGGER append_only_row"))


def drop_month(scene: Scene) -> None:
    with scene.engine.begin() as conn:
        part = conn.scalar(sa.text("SELECT tableoid::regclass::text FROM reading LIMIT 1"))
        conn.execute(sa.text(f"DROP TABLE {part}"))


def edit_station_head(scene: Scene) -> None:
    scene.run("UPDATE station_head SET seq = 9000 WHERE stn = 'S1'")


def raise_limit(scene: Scene) -> None:
    scene.run("UPDATE channel SET limit_value = 350 WHERE stn = 'S1' AND name = 'SO2'")


def swap_key(scene: Scene) -> None:
    scene.run("UPDATE station_key SET public_key = sha256('mine') WHERE stn = 'S1'")


def promote(scene: Scene) -> None:
    scene.run("UPDATE account SET role = 'operator' WHERE account_id = 'auditor-1'")


def forge_reading(scene: Scene) -> None:
    """The service's key is stolen and signs a reading in the station's name; it goes in past the door."""
    station = scene.station
    at_ms = START_MS + station.seq * MINUTE_MS
    thief = LocalKey.from_seed(b"s" * 32, station.key.kid)
    record = Record("SO2", at_ms, "mg/m3", Decimal(1), "N")
    envelope = seal_envelope(
        thief, stn="S1", ep=0, seq=station.seq, prev=station.prev, iat_ms=at_ms, cp=None, records=[record]
    )
    with scene.engine.begin() as conn:
        station._store(conn, envelope)
    loop = scene.log.start()
    loop.sequence()
    loop.publish()


def rotate_a_stolen_key(scene: Scene) -> None:
    """A station's key is stolen and names the thief's own; he signs on, and only then is the theft declared."""
    station, service_key = scene.station, scene.log.service_key
    stolen, thief = station.key, LocalKey.from_seed(b"t" * 32, "k1-thief")
    offered = NewKey(thief.kid, thief.public.alg, thief.public.raw, seal_key_proof(thief, "S1"))
    proof = seal_succession(stolen, "S1", thief.kid, thief.public)
    loop = scene.log.start()
    with scene.engine.begin() as conn:
        from_idx = read_head(conn).size
        rotate_key(conn, service_key, "S1", stolen.kid, offered, proof, act="operator-1", test_keys=True)
    loop.sequence()
    station.key = thief
    station.push(3)
    loop.sequence()
    with scene.engine.begin() as conn:
        compromise_key(conn, service_key, "S1", stolen.kid, "stolen", from_idx, act="operator-1")
    loop.sequence()
    loop.publish()


def hide_in_a_head(scene: Scene) -> None:
    """The service's key signs a daily head as if a station had never sent."""
    [last, *_] = sorted((scene.settings.log_dir / "heads").iterdir(), key=lambda path: -int(path.name))
    lines = [line for line in parse_head(last.read_bytes()) if not line.startswith("station S2")]
    size = scene.log.reader.snapshot().size
    data = {
        "as_of": size, "date": "2026-01-02", "lines": len(lines), "root_b64u": b64u_encode(head_root(lines)),
        "occasion": "schedule",
    }  # fmt: skip
    with scene.engine.begin() as conn:
        append_event(conn, scene.log.service_key, typ="head.daily", subj="log", act="service:log", data=data)
    Disk(scene.settings.log_dir).write(f"heads/{size}", format_head(lines))
    loop = scene.log.start()
    loop.sequence()
    loop.publish()


def suppress_station(scene: Scene) -> None:
    """What one station sends vanishes: the answer says stored, nothing is."""
    with scene.engine.begin() as conn:
        conn.execute(sa.text(
            "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN IF NEW.stn = ''S2'' THEN RETURN NULL; END IF; RETURN NEW; END'"
        ))  # fmt: skip
        conn.execute(
            sa.text("CREATE TRIGGER vanish BEFORE INSERT ON envelope FOR EACH ROW EXECUTE FUNCTION vanish()")
        )


def frame_station(scene: Scene) -> None:
    """An honest envelope is set aside once more, as if the station had signed two for one place."""
    columns = "env_id, stn, ep, seq, kid, recv_ms, jws"
    with scene.engine.begin() as conn:
        conn.execute(sa.text(
            f"INSERT INTO quarantine ({columns}, why) SELECT {columns}, 'equivocation' FROM envelope"
            " WHERE stn = 'S1' AND seq = 17"
        ))  # fmt: skip
    loop = scene.log.start()
    loop.sequence()
    loop.publish()


def backdate(scene: Scene) -> None:
    scene.run("UPDATE envelope SET recv_ms = recv_ms - 3600000 WHERE stn = 'S1' AND seq = 17")


def serve_old_checkpoint(scene: Scene) -> None:
    """Everybody is shown the log as it was before the last envelopes."""
    shutil.copyfile(scene.kept / "old-checkpoint", scene.settings.log_dir / "checkpoint")


def two_trees(scene: Scene) -> None:
    """One auditor has seen the true log; this one is shown another tree of the same size, well signed."""
    steal_the_log_key(scene)


def edit_csv(scene: Scene) -> None:
    members = _unpack(scene)
    lines = members["readings.csv"].decode().splitlines(keepends=True)
    row = next(
        n for n, line in enumerate(lines) if f"{scene.idx_of(17)},S1,0,17," in line and ",SO2," in line
    )
    lines[row] = lines[row].replace(",52.1,", ",12.0,")
    _repack(scene, {**members, "readings.csv": "".join(lines).encode()})


def remove_envelope_from_bundle(scene: Scene) -> None:
    """An envelope goes with its proof and its rows, counts are lowered, and MANIFEST is made to fit."""
    members, gone = _unpack(scene), scene.idx_of(17)
    with BundleReader(scene.kept / "bundle.zip") as reader, reader.stream("entries.bin") as stream:
        kept = [(idx, data) for idx, data in iter_entries(stream) if idx != gone]
    lead = f"{gone},".encode()
    readings = members["readings.csv"].splitlines(keepends=True)
    proofs = members["proofs.txt"].splitlines(keepends=True)
    rows = [line for line in readings if not line.startswith(lead)]
    scope = json.loads(members["scope.json"])
    scope["envelopes"] -= 1
    scope["readings"] -= len(readings) - len(rows)
    members |= {
        "entries.bin": b"".join(pack_entries(kept)),
        "proofs.txt": b"".join(line for line in proofs if not line.startswith(f"{gone} ".encode())),
        "readings.csv": b"".join(rows),
        "scope.json": (json.dumps(scope, separators=(",", ":")) + "\n").encode(),
    }
    for name in [name for name in members if name.endswith(".parquet") or name.startswith("report.")]:
        del members[name]
    _repack(scene, members)


def cut_the_end_of_a_bundle(scene: Scene) -> None:
    """The newest envelope goes, where no later link misses it."""
    members, gone = _unpack(scene), scene.idx_of(LAST)
    lead = f"{gone},".encode()
    with BundleReader(scene.kept / "bundle.zip") as reader, reader.stream("entries.bin") as stream:
        kept = [(idx, data) for idx, data in iter_entries(stream) if idx != gone]
    members["entries.bin"] = b"".join(pack_entries(kept))
    members["proofs.txt"] = _without(members["proofs.txt"], f"{gone} ".encode())
    members["readings.csv"] = _without(members["readings.csv"], lead)
    for name in [name for name in members if name.endswith(".parquet") or name.startswith("report.")]:
        del members[name]
    _repack(scene, members)


def _without(data: bytes, lead: bytes) -> bytes:
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(lead))


def _unpack(scene: Scene) -> dict[str, bytes]:
    with zipfile.ZipFile(scene.kept / "bundle.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _repack(scene: Scene, members: dict[str, bytes]) -> None:
    listed = {name: data for name, data in members.items() if name not in UNLISTED}
    members = {**members, "MANIFEST": make_manifest(sorted(listed.items()))}
    write_bundle(Path(scene.kept / "bundle.zip"), members.items())


def edit_bundle_on_disk(scene: Scene) -> None:
    path = scene.settings.log_dir / "tile/entries/000"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def forget_what_was_signed(scene: Scene) -> None:
    (scene.settings.signer_dir / "state").unlink()
