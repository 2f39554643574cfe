"""Exports of several stations, of parts of the log, without texts; the same bytes again; builds that are killed."""

import os
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from emdi.bundle import BundleReader, parse_disclosure
from emdi.keys import LocalKey
from emdi.scope import parse_scope
from stackwitness.accounts.domain import Account
from stackwitness.db.unit import unit_of_work
from stackwitness.evidence import build as build_module
from stackwitness.evidence import flow
from stackwitness.evidence.domain import Export
from stackwitness.settings import Settings
from stackwitness_client.verify import Report, verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.service.log_station import SmallStation

DAY = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
REGULATOR = Account("regulator-1", "r", "regulator")


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def ask(shop: Shop, account: Account = REGULATOR, **wanted: object) -> Export:
    given = {"stn": "S1", "from_at": DAY[0], "to_at": DAY[1], "purpose": "audit", "defer": False, **wanted}
    with unit_of_work(shop.engine) as conn:
        return flow.request_export(conn, shop.service_key, account, **given)  # type: ignore[arg-type]


def build(shop: Shop, export: Export) -> Path:
    with shop.running_log():
        return flow.build_export(shop, export.export_id)  # type: ignore[arg-type]


def verify(shop: Shop, bundle: Path) -> Report:
    return verify_bundle(bundle, shop.policy_text)


def second_station(shop: Shop) -> SmallStation:
    station = SmallStation(shop.log, key=LocalKey.from_seed(b"2" * 32, "S2-key"), stn="S2")
    station.register()
    station.push(7)
    station.raise_flag()
    shop.loop.sequence()
    shop.loop.publish()
    return station


def test_two_stations_in_one_bundle(shop: Shop) -> None:
    second_station(shop)
    report = verify(shop, build(shop, ask(shop, stn=["S2", "S1"])))
    assert report.exit_code == 0, report.text()
    assert (report.counts["envelopes"], report.counts["flags"]) == (47, 3)
    assert report.scope["stns"] == ["S1", "S2"]
    # The other station's own chain says that it was exported, and the next bundle's custody shows it.
    later = build(shop, ask(shop, stn="S2"))
    with BundleReader(later) as reader:
        rows = list(reader.lines("custody.csv"))
    acts = [row.split(",")[3] for row in rows[1:]]
    assert acts == ["export.requested", "export.covers", "export.requested"]
    assert verify(shop, later).exit_code == 0


def test_a_part_of_the_log_by_its_indexes(shop: Shop) -> None:
    with shop.engine.connect() as conn:
        query = "SELECT e.idx FROM envelope v JOIN log_entry e ON e.entry_id = v.env_id WHERE v.seq IN (5, 10) ORDER BY 1"
        first, end = conn.execute(sa.text(query)).scalars()
    report = verify(shop, build(shop, ask(shop, entries=(first, end))))
    assert report.exit_code == 0, report.text()
    assert report.counts["envelopes"] == 7  # seq 5 to 9, and one on either side
    assert report.scope["entries"] == (first, end)


@pytest.mark.parametrize(
    ("account", "redact", "shown"),
    [
        (REGULATOR, False, True),
        (REGULATOR, True, False),
        (Account("auditor-1", "a", "auditor"), False, False),
    ],
)
def test_who_may_read_the_texts(shop: Shop, account: Account, redact: bool, shown: bool) -> None:
    if account.role == "auditor":
        shop.grant(account)
    bundle = build(shop, ask(shop, account, redact=redact))
    report = verify(shop, bundle)
    assert report.exit_code == 0, report.text()
    with BundleReader(bundle) as reader:
        texts = [parse_disclosure(line).text for line in reader.lines("disclosures.jsonl")]
        assert parse_scope(reader.read("scope.json")).redacted is not shown
    assert ("The analyser was held by hand." in texts) is shown
    assert ("withheld from this bundle: " in report.text()) is not shown
    if not shown:
        assert texts == []


def members_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_same_request_at_the_same_size_gives_the_same_bytes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    export = ask(shop)
    folder = shop.settings.export_dir / f"{export.export_id}.parts"
    monkeypatch.setattr(build_module, "seal", stop)
    made = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            build(shop, export)
        made.append(members_of(folder))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert made[0].keys() == made[1].keys()
    assert [name for name in made[0] if made[0][name] != made[1][name]] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from stackwitness.settings import Settings
from stackwitness.evidence import flow, members
from stackwitness.wiring import wire
write = members._write
def write_until(bench, name, chunks):
    if name == sys.argv[4]:
        def some(chunks):
            for chunk in chunks:
                yield chunk
                os.kill(os.getpid(), signal.SIGKILL)
        chunks = some(chunks)
    write(bench, name, chunks)
members._write = write_until
settings = Settings(mode="test", home=Path(sys.argv[1]), database_url=sys.argv[2], log_origin=sys.argv[5])
flow.build_export(wire(settings), sys.argv[3])
"""


@pytest.mark.parametrize("member", ["entries.bin", "flags.csv"])
def test_a_killed_build_goes_on_with_what_is_finished(shop: Shop, member: str) -> None:
    export = ask(shop)
    url = shop.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", KILLED, str(shop.settings.home), url, export.export_id, member]
    with shop.running_log():
        killed = subprocess.run([*command, shop.settings.log_origin], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    folder = shop.settings.export_dir / f"{export.export_id}.parts"
    finished = {
        path: path.stat().st_mtime_ns
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith(".part")
    }
    assert (folder / "checkpoint") in finished
    assert ((folder / "entries.bin") in finished) is (member == "flags.csv")
    with unit_of_work(shop.engine) as conn:
        found = flow.find_export(conn, export.export_id)
    of = 2 * 54  # an entry is written once, and counted again for its readings
    assert (found.state, found.entries_of) == ("building", of)
    seen: list[tuple[int, int]] = []
    with shop.running_log():
        bundle = flow.build_export(shop, export.export_id, lambda done, of: seen.append((done, of)))  # type: ignore[arg-type]
    assert seen[-1] == (of, of)
    report = verify(shop, bundle)
    assert report.exit_code == 0, report.text()
    assert not folder.exists()


def test_the_zip_holds_nothing_of_the_build(shop: Shop) -> None:
    with zipfile.ZipFile(build(shop, ask(shop))) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".part") or name == "plan.json"]
