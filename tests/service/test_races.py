"""Acts at the same moment from several sessions: one legal order comes out, never a 500, never a number given twice."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from emdi.checkpoint import parse_checkpoint
from emdi.event import seal_succession
from emdi.keys import LocalKey
from emdi.note import parse_note
from emdi.policy import parse_policy
from stackwitness.db.embedded import Cluster
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import Conflict, LogFrozen, StackwitnessError
from stackwitness.evidence import flow as evidence
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.log.heads import Heads
from stackwitness.log.rebuild.successor import seed_successor
from stackwitness.log.shards import find_freeze, freeze, read_final
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import make_shop
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log
from tests.service.rig import Rig, key_form
from tests.service.test_evidence import REGULATOR
from tests.service.test_shards import end, successor
from tests.service.witness_support import Crowd
from tests.support.service import Service

ROUNDS = 8
NEXT = "stackwitness.local/log/2027"
LOST, STOLEN = {"why": "lost"}, {"why": "stolen", "suspect_from_idx": 0}


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Do all of it at the same moment, each in a thread of its own; return results, or what was raised."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        barrier.wait(20)
        try:
            return act()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


def check_log(log: SmallLog) -> None:
    """The log is whole, every key event keeps the key ring's rules, and no number is given twice."""
    report = fsck(log.engine, log.settings.log_dir, log.policy, signer_dir=log.settings.signer_dir)
    assert report.findings == []
    check_numbers(log.engine)


def check_numbers(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        rows = conn.execute(sa.text("SELECT subj, count(*) AS n, max(sseq) AS top, count(DISTINCT sseq) AS d"
                                    " FROM event GROUP BY subj")).all()  # fmt: skip
    assert all(row.n == row.d == row.top + 1 for row in rows), rows


def test_a_key_is_approved_revoked_rotated_and_declared_compromised_at_once(service: Service) -> None:
    rig = Rig(service)
    path = f"/v1/stations/{rig.stn}/keys"
    ended = 0
    for turn in range(ROUNDS):
        old, asked = rig.key, LocalKey.generate("Ed25519", f"asked-{turn}")
        heirs = [LocalKey.generate("Ed25519", f"heir-{turn}-{n}") for n in range(2)]
        rig.client.post(path, json=key_form(asked, rig.stn), headers=rig.operator)

        def post(who: dict[str, str], name: str, form: dict[str, Any] | None = None) -> tuple[int, str]:
            answer = rig.client.post(f"{path}/{name}", json=form or {}, headers=who)
            return answer.status_code, answer.json().get("code", "") if answer.content else ""

        def rotate(who: dict[str, str], heir: LocalKey, old: LocalKey = old) -> tuple[int, str]:
            proof = seal_succession(old, rig.stn, heir.kid, heir.public)
            form = {"new": key_form(heir, rig.stn), "old_proof": proof}
            return post(who, f"{old.kid}/rotate", form)

        acts: list[Callable[[], Any]] = [
            lambda asked=asked: post(rig.approver, f"{asked.kid}/approve"),
            lambda asked=asked: post(rig.approver, f"{asked.kid}/approve"),
            lambda heir=heirs[0]: rotate(rig.operator, heir),
            lambda heir=heirs[1]: rotate(rig.approver, heir),
            lambda old=old: post(rig.operator, f"{old.kid}/revoke", LOST),
            lambda old=old: post(rig.approver, f"{old.kid}/revoke", LOST),
        ]  # fmt: skip
        if turn % 2:
            acts.append(lambda old=old: post(rig.operator, f"{old.kid}/compromise", STOLEN))
        answers = at_once(*acts)
        assert sorted(answers[:2]) == [(201, ""), (409, "key.taken")]
        done = [answer for answer in answers[2:6] if answer[0] < 300]
        assert len(done) <= 1
        assert all(answer in ((201, ""), (200, ""), (409, "key.revoked")) for answer in answers[2:6]), answers
        if turn % 2:
            assert answers[6] == (200, "")
        else:
            assert len(done) == 1
        ended += len(done)
        rig.key = asked  # whatever happened to the old one, this one was approved
    service.settle()
    check_numbers(service.wiring.engine)
    assert fsck(service.wiring.engine, service.settings.log_dir).findings == []
    assert ended >= ROUNDS // 2


def test_two_officers_ask_for_one_key_id_at_once(service: Service) -> None:
    rig = Rig(service)
    for turn in range(ROUNDS):
        forms = [key_form(LocalKey.generate("Ed25519", f"twin-{turn}"), rig.stn) for _ in range(2)]
        answers = at_once(*(
            lambda form=form, who=who: rig.client.post(f"/v1/stations/{rig.stn}/keys", json=form, headers=who)
            for form, who in zip(forms, (rig.operator, rig.approver), strict=True)
        ))  # fmt: skip
        assert sorted(answer.status_code for answer in answers) == [202, 409]
    service.settle()
    check_numbers(service.wiring.engine)


@pytest.mark.parametrize("again", range(3))
def test_two_freezes_and_those_who_still_write(settings: Settings, engine: sa.Engine, again: int) -> None:
    """One freeze counts; what was written at that moment stands before it in the log, or is refused."""
    log = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    station.push(3)
    loop.sequence()

    def stop(origin: str) -> bytes:
        return freeze(engine, log.disk, log.service_key, successor_origin=origin, why="end of the year")

    results = at_once(
        lambda: stop("a/2027"),
        lambda: stop("b/2027"),
        lambda: station.push(1),
        log.note,
        lambda: loop.sequence(),
    )
    frozen = [result for result in results[:2] if isinstance(result, bytes)]
    refused = [result for result in results[:2] if isinstance(result, LogFrozen)]
    assert (len(frozen), len(refused)) == (1, 1), results
    for result in results[2:4]:
        assert not isinstance(result, Exception) or "frozen" in str(result)
    loop.sequence()
    loop.publish()
    assert find_freeze(engine) == frozen[0]
    with pytest.raises(LogFrozen):
        find_freeze(engine, "c/2027")
    final = read_final(engine, log.reader, frozen[0], 5.0)
    assert final.previous.size == loop.publish().size
    check_log(log)


def test_two_seed_one_successor(
    settings: Settings, engine: sa.Engine, cluster: Cluster, template: str, tmp_path: Path
) -> None:
    """Also where there is no station yet by which the second could see that the first was there.

    The second finds the same commitment and has nothing to do, or is refused; it never seeds again.
    """
    log = make_log(settings, engine)
    log.start()
    final = end(log)
    with successor(cluster, template, tmp_path / "twice") as new:
        made = at_once(
            *[lambda: seed_successor(engine, new.engine, new.service_key, final, new.settings.log_dir)] * 2
        )
        assert any(isinstance(result, dict) for result in made), made
        assert all(isinstance(result, dict | Conflict) for result in made), made
        loop = new.start()
        loop.sequence()
        loop.publish()
        check_log(new)


@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_freeze_while_an_export_runs(settings: Settings, engine: sa.Engine, when: int) -> None:
    """The bundle is sealed before the end and verifies, or the export fails and says why."""
    shop = make_shop(settings, engine)
    with unit_of_work(engine) as conn:
        span = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
        export = evidence.request_export(
            conn,
            shop.service_key,
            REGULATOR,
            stn="S1",
            from_at=span[0],
            to_at=span[1],
            purpose="audit",
            defer=False,
        )
    asked = threading.Event()
    if when == 0:
        asked.set()
    calls = iter(range(1, 1_000_000))

    def stop() -> bytes:
        asked.wait(20)
        return freeze(engine, shop.log.disk, shop.service_key, successor_origin=NEXT, why="end of the year")

    def build() -> Any:
        try:
            watch = lambda done, of: asked.set() if next(calls) >= when else None  # noqa: E731
            return evidence.build_export(shop, export.export_id, watch)  # type: ignore[arg-type]
        finally:
            asked.set()

    with shop.running_log():
        frozen, built = at_once(stop, build)
    assert isinstance(frozen, bytes), frozen
    shop.loop.sequence()
    shop.loop.publish()
    if isinstance(built, Path):
        assert verify_bundle(built, shop.policy_text).exit_code == 0
    else:
        assert isinstance(built, StackwitnessError), repr(built)
    check_log(shop.log)


@pytest.fixture
def crowd(settings: Settings, engine: sa.Engine, tmp_path: Path) -> Iterator[Crowd]:
    small = make_log(settings, engine)
    small.start().sequence()
    crowd = Crowd(small, tmp_path)
    with crowd.stack:
        yield crowd


def test_a_freeze_while_a_witness_is_asked(crowd: Crowd) -> None:
    """The checkpoint under way is published as it was signed; the next one covers the freeze, and is the last."""
    log = crowd.small
    frozen: list[bytes] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not frozen:
            frozen.append(
                freeze(log.engine, log.disk, log.service_key, successor_origin=NEXT, why="end of the year")
            )
        handler.send_response(500)
        handler.end_headers()

    crowd.add("w1")
    crowd.add_bad("slow", answer)
    loop = log.start()
    loop._heads = Heads(
        log.engine, Disk(log.settings.log_dir), log.service_key
    )  # a head is due just then, too
    loop.announcer.follow(parse_policy(crowd.policy_text(1)), 2.0, require_quorum=False)
    crowd.stack.callback(loop.announcer.close)
    log.note(3)
    loop.sequence()
    before = loop.publish().size
    assert frozen
    assert parse_checkpoint(parse_note(log.reader.checkpoint()).text).size == before
    while loop.sequence():
        pass
    final = loop.publish().size
    assert final > before
    assert read_final(log.engine, log.reader, frozen[0], 5.0).previous.size == final
    assert loop.sequence() == 0
    assert loop.publish().size == final
    check_log(log)
