"""What an insider writes where the checker reads, to make it stop, hang or say too little; every one is named instead."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from stackwitness.db.embedded import Cluster
from stackwitness.log.fsck import Report, fsck
from tests.insider.scene import Scene, build_scene, copied


@pytest.fixture(scope="module")
def first(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build_scene(cluster, template, tmp_path_factory.mktemp("insider"))


@pytest.fixture
def scene(first: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(first, tmp_path) as copy:
        yield copy


def check(scene: Scene) -> Report:
    return fsck(scene.engine, scene.settings.log_dir, scene.policy, signer_dir=scene.settings.signer_dir)


# What is written, and where it must be found. Columns that are never null lose that constraint first.
ROWS = {
    "account.display_name = NULL": "account",
    "review.decided_at = 'infinity'": "review",
    "review.reason = NULL": "review",
    "flag.from_at = '0044-03-15 BC'": "flag",
    "flag.plot = NULL": "flag",
    "envelope.first_at = '200000-01-01'": "envelope",
    "envelope.env_id = NULL": "envelope",
    "log_entry.entry_id = NULL": "log_genesis",
    "log_entry.recv_ms = NULL": "log_genesis",
    "log_head.root = NULL": "log_head",
    "station_head.last_at = '-infinity'": "station_head",
    "station_head.env_id = NULL": "station_head",
    "subject_head.event_id = NULL": "subject_head",
    "reading.status = '\\303'": "reading",
}


def test_values_no_program_of_ours_writes_are_named(scene: Scene) -> None:
    constraints = (
        "SELECT conrelid::regclass::text AS place, conname FROM pg_constraint WHERE contype IN ('c', 'f')"
        " AND connamespace = 'public'::regnamespace AND conparentid = 0"
    )
    with scene.engine.begin() as conn:
        for row in conn.execute(sa.text(constraints)).all():
            conn.execute(sa.text(f'ALTER TABLE {row.place} DROP CONSTRAINT IF EXISTS "{row.conname}"'))
        for table, column in (change.split(" ")[0].split(".") for change in ROWS if change.endswith("NULL")):
            conn.execute(sa.text(f"ALTER TABLE {table} ALTER {column} DROP NOT NULL"))
    for change in ROWS:
        table, _, rest = change.partition(".")
        one = f"SELECT tableoid, ctid FROM {table} ORDER BY 1, 2 LIMIT 1"
        scene.run(f"UPDATE {table} SET {rest} WHERE (tableoid, ctid) = ({one})")
    report = check(scene)
    assert report.exit_code == 1
    places = {"column", "constraint", "trigger", "integrity"}
    assert set(ROWS.values()) <= {f.table for f in report.findings if f.code.split(".")[0] not in places}


def test_a_row_beyond_the_end_of_the_log_is_named_at_once(scene: Scene) -> None:
    far = (10**9, 2**63 - 1)
    for seq, idx in zip((17, 18), far, strict=True):
        scene.run(f"UPDATE log_entry SET idx = {idx} WHERE idx = {scene.idx_of(seq)}")
    assert set(far) <= {finding.idx for finding in check(scene).findings if finding.code == "log_entry.place"}


def test_a_reading_that_stands_twice_is_named(scene: Scene) -> None:
    """The primary key forbids it, until its index is told not to look."""
    with scene.engine.begin() as conn:
        part = conn.scalar(sa.text("SELECT tableoid::regclass::text FROM reading LIMIT 1"))
        index = f"(SELECT indexrelid FROM pg_index WHERE indrelid = '{part}'::regclass AND indisprimary)"
        row = f"(SELECT ctid FROM {part} ORDER BY ctid DESC LIMIT 1)"
        conn.execute(sa.text(f"UPDATE pg_index SET indisready = false WHERE indexrelid = {index}"))
    with scene.engine.begin() as conn:
        columns = "at, channel_no, envelope_no, value, status"
        conn.execute(
            sa.text(f"INSERT INTO {part} ({columns}) SELECT {columns} FROM {part} WHERE ctid = {row}")
        )
    with scene.engine.begin() as conn:
        conn.execute(sa.text(f"UPDATE pg_index SET indisready = true WHERE indexrelid = {index}"))
    scene.engine.dispose()
    assert "reading.surplus" in {finding.code for finding in check(scene).findings}


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sparse(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(1 << 40)


PUT: list[dict[str, Callable[[Path], None]]] = [
    {"tile/entries/000": pipe, "tile/0/000": folder, "heads/*": pipe},
    {"tile/entries/000": sparse, "tile/0/000": pipe, "checkpoint": folder},
]


@pytest.mark.parametrize("put", PUT)
def test_what_is_no_file_of_ours_is_a_file_that_is_gone(
    scene: Scene, put: dict[str, Callable[[Path], None]]
) -> None:
    for name, spoil in put.items():
        spoil(sorted(scene.settings.log_dir.glob(name))[0])
    report = check(scene)
    assert report.exit_code
    assert "disk" in {finding.table for finding in report.findings}


def test_a_checkpoint_of_any_size_is_not_believed_without_its_files(scene: Scene) -> None:
    path = scene.settings.log_dir / "checkpoint"
    origin, _, rest = path.read_bytes().split(b"\n", 2)
    path.write_bytes(b"\n".join([origin, b"%d" % 2**62, rest]))
    report = check(scene)
    assert {"checkpoint.root", "disk.missing"} <= {finding.code for finding in report.findings}
