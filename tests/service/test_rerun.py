"""Findings can be made again from the leaves alone; what was silenced, deleted or edited comes out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from sqlalchemy import text

from emdi.entry import KIND_EVENT, KIND_READING, parse_entry
from emdi.envelope import parse_envelope
from emdi.event import Event, parse_event, seal_event
from emdi.runs import parse_run
from stackwitness.db.unit import unit_of_work
from stackwitness.detection import flow, tasks
from stackwitness.evidence.carried import find_state
from stackwitness.evidence.command import Wanted, run_export, run_rerun
from stackwitness.evidence.differences import RerunReport
from stackwitness.evidence.rerun import rerun_leaves
from stackwitness.flags import flow as flags
from stackwitness_client.simulator import Cheat, Plant
from stackwitness_client.verify import findings, verify_bundle
from stackwitness_client.verify.report import Report
from stackwitness_detectors import state_hash
from tests.support.plants import DAY_MS, START_MS, PushedPlant, pushed_plant
from tests.support.service import Service

STN = "glass-1"
FORGED_MS = START_MS + 7 * DAY_MS
END_MS = START_MS + 9 * DAY_MS
STEP_S = 900
NIGHTS = (Cheat("hold", ("nox",), FORGED_MS, 9.0),)
Leaf = tuple[int | None, int, bytes]


@pytest.fixture
def forging(service: Service, tmp_path: Path) -> Iterator[PushedPlant]:
    with pushed_plant(service, tmp_path, STN, Plant(77, "glass"), NIGHTS) as pushed:
        yield pushed


def scan(service: Service) -> int:
    return flow.scan(service.wiring, STN)


def leaves(service: Service) -> list[Leaf]:
    """Return the published leaves, as anyone reads them from the log."""
    size, tiles = service.settle(), service.wiring.log_reader.tiles()
    found: list[Leaf] = []
    for idx in range(size):
        entry = parse_entry(tiles.entry(idx))
        found.append((idx, entry.kind, entry.body))
    return found


def rerun(given: list[Leaf], state: bytes | None = None) -> RerunReport:
    return rerun_leaves(STN, given, state)


def codes(report: RerunReport) -> set[str]:
    return {difference.code for difference in report.differences}


def events(given: list[Leaf], typ: str) -> list[tuple[int, Event]]:
    """Return (place, event) of the events of a type."""
    parsed = [(place, parse_event(body)) for place, (_, kind, body) in enumerate(given) if kind == KIND_EVENT]
    return [(place, event) for place, event in parsed if event.typ == typ]


def resealed(service: Service, event: Event, **data: Any) -> bytes:
    """Return the event with other data, signed with the service's own key: what an insider could do."""
    spoilt = {**event.data, **data}
    return seal_event(
        service.wiring.service_key, typ=event.typ, subj=event.subj, sseq=event.sseq, sprev=event.sprev,
        act=event.act, ts_ms=event.ts_ms, ref=event.ref, data=flags.plain(spoilt),
    ).jws  # fmt: skip


def test_the_same_leaves_give_the_same_flags_byte_for_byte(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "CHUNK", timedelta(hours=31))
    raised = 0
    for day in range(0, 9, 3):
        forging.push(START_MS + day * DAY_MS, START_MS + (day + 3) * DAY_MS, STEP_S)
        raised += scan(service)
    given = leaves(service)
    report = rerun(given)
    assert report.lines()[1:] == []
    assert report.ok
    assert report.flags == raised > 0
    runs = [parse_run(event) for _, event in events(given, "detector.run")]
    assert report.runs == len(runs) > 6
    assert all(one.upto_ms == two.from_ms for one, two in pairwise(runs))
    assert report.readings == sum(one.count for one in runs)
    # Every reading of the hours that are over was judged once.
    judged = service.rows("SELECT count(*) FROM reading WHERE at < :upto", upto=flags.at_of(runs[-1].upto_ms))
    assert judged[0][0] == report.readings


def test_late_readings_are_logged_and_a_rerun_goes_back_to_them(
    service: Service, forging: PushedPlant
) -> None:
    late_ms = START_MS + 2 * DAY_MS + 3 * 3_600_000 + 1000
    forging.push(START_MS, START_MS + 2 * DAY_MS, STEP_S)
    scan(service)
    forging.push(START_MS + 2 * DAY_MS, START_MS + 3 * DAY_MS, STEP_S)
    scan(service)
    [before] = service.rows("SELECT upto, state_hash FROM detection_state")
    honest = Plant(78, "glass")
    for at_ms in (late_ms, late_ms + 3_600_000):
        forging.station.record_pack(honest.readings(at_ms))
    forging.station.pusher.push(give_up_s=5)
    assert tasks.list_lagging(service.wiring) == [STN]
    scan(service)
    assert tasks.list_lagging(service.wiring) == []
    forging.push(END_MS, END_MS + DAY_MS, STEP_S)
    scan(service)
    given = leaves(service)
    [(_, late)] = events(given, "late.arrival")
    runs = [parse_run(event) for _, event in events(given, "detector.run")]
    ends = [one.upto_ms for one in runs]
    assert [ends.index(one.from_ms) for one in runs[1:]] == [0, 0, 1]
    assert (late.data["envelopes"], late.data["seq_last"] - late.data["seq"]) == (2, 1)
    assert late.data["from_ms"] == late_ms
    assert flags.at_of(late.data["to_ms"]) == before.upto
    report = rerun(given)
    assert report.lines()[1:] == []
    # Left out, the event is missed: the readings came before a run and behind the one that judged their time.
    silenced = [leaf for leaf in given if leaf[2] != late.jws]
    assert codes(rerun(silenced)) == {"late.unlogged", "run.back"}


def test_a_lost_or_edited_memory_is_made_anew_in_view_of_all(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    scan(service)
    [honest] = service.rows("SELECT upto, state_hash FROM detection_state")
    with unit_of_work(service.wiring.engine) as conn:
        # The memory of another time: detectors that remember nothing of the forgery.
        conn.exec_driver_sql("UPDATE detection_state SET upto = '2099-01-01'")
    scan(service)
    [healed] = service.rows("SELECT upto, state_hash FROM detection_state")
    assert healed == honest
    given = leaves(service)
    runs = [parse_run(event) for _, event in events(given, "detector.run")]
    assert [one.state_before for one in runs].count("") == 2
    assert rerun(given).lines()[1:] == []


def test_a_limit_changed_on_the_way_is_used_again(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, START_MS + 2 * DAY_MS, STEP_S)
    scan(service)
    answer = service.client.post(
        f"/v1/stations/{STN}/limits",
        json={
            "channel": "nox",
            "limit": 30.0,
            "from": flags.at_of(START_MS + 2 * DAY_MS).isoformat(),
            "why": "the permit of 2026",
        },
        headers=service.headers("operator"),
    )
    assert answer.status_code == 201, answer.text
    forging.push(START_MS + 2 * DAY_MS, START_MS + 4 * DAY_MS, STEP_S)
    scan(service)
    given = leaves(service)
    assert len(events(given, "limit.change")) == 1
    assert rerun(given).lines()[1:] == []


def test_what_an_insider_does_to_findings_is_named(service: Service, forging: PushedPlant) -> None:
    for day in range(0, 9, 3):
        forging.push(START_MS + day * DAY_MS, START_MS + (day + 3) * DAY_MS, STEP_S)
        scan(service)
    given = leaves(service)
    place, flag = events(given, "flag.raised")[0]
    milder = "very unlikely" if flag.data["verdict"] == "cannot be" else "possible"
    run_place, run = events(given, "detector.run")[1]

    def replaced(at: int, jws: bytes) -> list[Leaf]:
        return [(idx, kind, jws if k == at else body) for k, (idx, kind, body) in enumerate(given)]

    def without(at: int) -> list[Leaf]:
        return [leaf for k, leaf in enumerate(given) if k != at]

    table: list[tuple[list[Leaf], set[str]]] = [
        # The flag was never raised, or says something milder.
        (without(place), {"flag.missing"}),
        (replaced(place, resealed(service, flag, verdict=milder)), {"flag.edited"}),
        (replaced(place, resealed(service, flag, text_en="Nothing")), {"flag.edited"}),
        (replaced(place, resealed(service, flag, numbers={})), {"flag.edited"}),
        # A flag out of nothing.
        (replaced(place, resealed(service, flag, episode="x:y:1")), {"flag.missing", "flag.surplus"}),
        # A period that no run judged; a run that claims to have found nothing; another memory put under it.
        (without(run_place), {"run.hole", "run.state", "run.memory"}),
        (replaced(run_place, resealed(service, run, findings=7, digest="0" * 64)), {"run.digest"}),
        (replaced(run_place, resealed(service, run, state_before="0" * 64)), {"run.state", "run.memory"}),
        (
            replaced(run_place, resealed(service, run, upto_ms=END_MS + DAY_MS)),
            {"run.ahead", "run.hole", "run.input"},
        ),
        (replaced(run_place, resealed(service, run, digest="xyz")), {"run.data"}),
    ]
    for spoilt, wanted in table:
        found = codes(rerun(spoilt))
        assert wanted <= found, (wanted, found)


def test_other_versions_are_asked_for_by_name(service: Service, forging: PushedPlant) -> None:
    forging.push(START_MS, START_MS + DAY_MS, STEP_S)
    scan(service)
    given = leaves(service)
    place, run = events(given, "detector.run")[0]
    idx, kind, _ = given[place]
    given[place] = (idx, kind, resealed(service, run, version="0.9"))
    report = rerun(given)
    assert report.ok
    assert report.runs == 0
    assert "version 0.9 of the detectors is needed" in report.lines()[1]


def test_a_bundle_that_starts_later_goes_on_from_the_memory_it_carries(
    service: Service, forging: PushedPlant
) -> None:
    forging.push(START_MS, START_MS + 6 * DAY_MS, STEP_S)
    scan(service)
    [row] = service.rows("SELECT state, upto FROM detection_state")
    first = service.rows("SELECT max(seq) FROM envelope")[0][0]
    forging.push(START_MS + 6 * DAY_MS, END_MS, STEP_S)
    scan(service)
    given = leaves(service)
    later = [
        leaf for leaf in given
        if leaf[1] == KIND_EVENT or service_seq(leaf) >= first
    ]  # fmt: skip
    needed = min(service_seq(leaf) for leaf in later if leaf[1] == KIND_READING)
    [(_, again)] = [one for one in events(given, "detector.run") if one[1].data["state_before"]]
    with service.wiring.engine.begin() as conn:
        state = find_state(conn, STN, (again.data["input"]["ep_first"], needed))
    assert state is not None
    assert state_hash(state) == state_hash(bytes(row.state)) == again.data["state_before"]
    report = rerun(later, state)
    assert report.ok, report.lines()
    assert (report.runs, report.skipped) == (1, ["1 runs before the first whose memory is known"])
    # Without the memory nothing can be vouched for, and the account says so.
    blind = rerun(later)
    assert blind.runs == 0
    assert "are not all among the leaves given" in blind.skipped[0]


def service_seq(leaf: Leaf) -> int:
    return parse_envelope(leaf[2]).seq if leaf[1] == KIND_READING else -1


@contextmanager
def moving(service: Service) -> Iterator[None]:
    """Move the log in a thread, as its process would."""
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            service.settle()
            stop.wait(0.05)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_bundle_is_verified_with_its_findings_and_a_silenced_flag_is_named(
    service: Service, forging: PushedPlant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forging.push(START_MS, END_MS, STEP_S)
    raised = scan(service)
    service.headers("regulator")
    bundle = tmp_path / "bundle.zip"
    with moving(service):
        run_export(service.wiring, Wanted(station=STN, purpose="court", account_id="regulator"), bundle)
    policy = service.client.get("/log/policy").text
    report = verify_bundle(bundle, policy, rerun_detectors=True)
    assert report.exit_code == 0, report.text()
    assert report.step(13).done.startswith(f"the same findings; {STN}: 1 runs, {raised} flags")
    # The database alone tells the same, and names the flag that somebody made milder.
    assert run_rerun(service.wiring) == 0
    with service.wiring.engine.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE event DISABLE TRIGGER ALL")
        conn.exec_driver_sql("DELETE FROM event WHERE typ = 'flag.extended' OR typ = 'evidence.viewed'")
        [row] = conn.exec_driver_sql("SELECT jws FROM event WHERE typ = 'flag.raised' ORDER BY sseq LIMIT 1")
        milder = resealed(service, parse_event(bytes(row.jws)), text_en="Nothing to see")
        conn.execute(
            text("UPDATE event SET jws = :new WHERE jws = :old"), {"new": milder, "old": bytes(row.jws)}
        )
    assert run_rerun(service.wiring) == 1
    assert "says otherwise than the detectors in: text_en" in capsys.readouterr().out
    service.check = lambda: None  # type: ignore[method-assign]  # the state is spoilt on purpose


def test_a_bundle_of_the_last_days_has_every_run_made_again(
    service: Service, forging: PushedPlant, tmp_path: Path
) -> None:
    for day in range(0, 9, 3):
        forging.push(START_MS + day * DAY_MS, START_MS + (day + 3) * DAY_MS, STEP_S)
        scan(service)
    service.headers("regulator")
    policy = service.client.get("/log/policy").text
    wanted = Wanted(
        station=STN, from_at="2026-01-09", to_at="2026-02-01", purpose="court", account_id="regulator"
    )
    whole, later = tmp_path / "whole.zip", tmp_path / "later.zip"
    with moving(service):
        run_export(service.wiring, replace(wanted, from_at="", to_at=""), whole)
        run_export(service.wiring, wanted, later)
    member = f"detector-state/{STN}.bin"
    with ZipFile(whole) as one, ZipFile(later) as two:
        assert member not in one.namelist()
        assert state_hash(two.read(member)) in {
            event.data["state_before"] for _, event in events(leaves(service), "detector.run")
        }
    report = verify_bundle(later, policy, rerun_detectors=True)
    assert report.exit_code == 0, report.text()
    assert f"{STN}: 1 runs" in report.step(13).done
    assert any("runs before the first whose memory is known" in note for note in report.notes)
    # A memory that no run names vouches for nothing, and nothing is said to be checked.
    spoilt = spoil_member(later, tmp_path / "spoilt.zip", member)
    assert verify_bundle(spoilt, policy, rerun_detectors=True).exit_code == 1


def spoil_member(bundle: Path, target: Path, name: str) -> Path:
    """Write the bundle again with the last byte of one member changed."""
    with ZipFile(bundle) as one, ZipFile(target, "w") as two:
        for info in one.infolist():
            data = one.read(info)
            two.writestr(info, data[:-1] + bytes([data[-1] ^ 1]) if info.filename == name else data)
    return target


def test_without_the_service_the_verifier_says_that_it_did_not_check(
    service: Service, forging: PushedPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "RERUN", "stackwitness_not_installed.rerun")
    report = Report()
    findings.check_findings(None, [STN], report)  # type: ignore[arg-type]
    assert report.step(13).state == "not checked"
    assert "is not installed" in report.step(13).skipped
