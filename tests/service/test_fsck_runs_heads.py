"""The checker holds heads, runs and the detectors' memory against the entries."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from stackwitness.detection import flow
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.heads import make_head
from stackwitness_client.simulator import Cheat, Plant
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service

NIGHTS = (Cheat("hold", ("nox",), START_MS + 2 * DAY_MS, 9.0),)


@pytest.fixture
def judged(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    """Give a station judged in two runs, a head, and all of it published."""
    with pushed_plant(service, tmp_path, "glass-1", Plant(77, "glass"), NIGHTS) as pushed:
        for day in (0, 2):
            pushed.push(START_MS + day * DAY_MS, START_MS + (day + 2) * DAY_MS, 900)
            flow.scan(service.wiring, "glass-1")
        size = service.settle()
        make_head(service.wiring.engine, Disk(service.settings.log_dir), service.wiring.service_key, size)
        service.settle()
        yield pushed


def findings(service: Service) -> set[tuple[str, str, str]]:
    report = fsck(service.wiring.engine, service.settings.log_dir)
    return {(one.severity, one.code, one.table) for one in report.findings}


def run(service: Service, statement: str) -> None:
    """Do something as the owner of the database would: guards off, then on again."""
    with service.wiring.engine.begin() as conn:
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for name in ("event", "head_daily", "envelope"):
            conn.exec_driver_sql(f"ALTER TABLE {name} DISABLE TRIGGER ALL")
        conn.execute(sa.text(statement))
        for name in ("event", "head_daily", "envelope"):
            conn.exec_driver_sql(f"ALTER TABLE {name} ENABLE TRIGGER ALL")


def edit_file(service: Service) -> None:
    [path] = (service.settings.log_dir / "heads").iterdir()
    path.write_bytes(path.read_bytes().replace(b"station glass-1 ", b"station glass-2 "))


def remove_file(service: Service) -> None:
    [path] = (service.settings.log_dir / "heads").iterdir()
    path.unlink()


# Done one after the other to the same log; each adds something new.
TABLE: list[tuple[str | Callable[[Service], None], tuple[str, str, str]]] = [
    (edit_file, ("tampered", "head.file", "disk")),
    (remove_file, ("missing", "head.file_missing", "disk")),
    ("UPDATE head_daily SET lines = lines + 1", ("tampered", "head_daily.edited", "head_daily")),
    ("DELETE FROM head_daily", ("missing", "head_daily.missing", "head_daily")),
    ("UPDATE detection_kept SET upto = upto - interval '1 hour'", ("tampered", "detection_kept.edited", "detection_kept")),
    ("UPDATE detection_state SET late_from = upto - interval '1 day'", ("tampered", "detection_state.edited", "detection_state")),
    ("UPDATE detection_state SET late_from = NULL, upto = upto - interval '1 day'", ("tampered", "detection_state.edited", "detection_state")),
    ("DELETE FROM event WHERE typ = 'detector.run' AND sseq = (SELECT min(sseq) FROM event WHERE typ = 'detector.run')", ("tampered", "run.anew", "event")),
    ("DELETE FROM event WHERE typ = 'detector.run'", ("tampered", "detection_state.unvouched", "detection_state")),
    ("DELETE FROM envelope WHERE seq = (SELECT max(seq) FROM envelope)", ("tampered", "head.differs", "event")),
]  # fmt: skip


def test_what_an_insider_does_is_named(service: Service, judged: PushedPlant) -> None:
    assert findings(service) == set()
    for act, wanted in TABLE:
        run(service, act) if isinstance(act, str) else act(service)
        assert wanted in findings(service), act
    service.check = lambda: None  # type: ignore[method-assign]  # the state is spoilt on purpose
