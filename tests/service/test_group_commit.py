"""Group commit: submissions that share a transaction each get their own verdict, and no other's harm."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import text

from emdi.envelope import Envelope, parse_envelope
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import StackwitnessError, TooManyPending
from stackwitness.ingest import committer as committing
from stackwitness.ingest.flow import Committer, accept
from tests.service.rig import START_MS, Rig, minute
from tests.support.service import Service


@pytest.fixture
def held(service: Service) -> Committer:
    """Give a committer whose thread has not started: what is submitted waits until the test lets it go."""
    return Committer(service.wiring)


def submit_together(committer: Committer, bodies: list[bytes]) -> list[Any]:
    """Submit all bodies before the thread starts, so that they share one group; return verdicts or errors."""

    for body in bodies:
        committer.rosters.read(
            parse_envelope(body.split(b"\n")[0]).stn
        )  # else each takes a detour through a thread

    async def run() -> list[Any]:
        tasks = [asyncio.create_task(accept(body, committer)) for body in bodies]
        while len(committer._waiting) < sum(not task.done() for task in tasks):
            await asyncio.sleep(0.001)
        with committer:
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


def outcome(verdict: Any) -> str:
    """Say what became of a submission of one envelope."""
    if isinstance(verdict, StackwitnessError):
        return verdict.code
    if verdict.failure is not None:
        return str(verdict.failure.error.code)
    return "stored" if verdict.stored else "known"


def test_neighbours_in_one_group_get_their_own_verdicts(service: Service, held: Committer) -> None:
    rig, other = Rig(service, "4711"), Rig(service, "4712")
    first, second, theirs = rig.next(), rig.next(), other.next()
    twin = rig.seal(seq=0, prev=bytes(32), records=minute(START_MS, "9"))
    ahead = other.seal(seq=5, prev=bytes([1]) * 32)
    bodies = [first, ahead, second, twin, theirs, first, second]
    verdicts = submit_together(held, [envelope.jws for envelope in bodies])
    expected = ["stored", "chain.gap", "stored", "chain.equivocation", "stored", "known", "known"]
    assert [outcome(verdict) for verdict in verdicts] == expected
    assert rig.stored() == [(1, 0), (1, 1)]
    assert other.stored() == [(1, 0)]


def test_revocation_is_seen_by_what_was_checked_before_it(service: Service, held: Committer) -> None:
    rig = Rig(service)

    async def run() -> Any:
        task = asyncio.create_task(accept(rig.next().jws, held))
        while not held._waiting:
            await asyncio.sleep(0.001)
        rig.revoke(rig.key.kid)
        with held:
            return await task

    assert outcome(asyncio.run(run())) == "key.revoked"
    assert rig.stored() == []


def test_what_cannot_be_stored_leaves_its_neighbours_alone(
    service: Service, held: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, other, third = (Rig(service, stn) for stn in ("4711", "4712", "4713"))
    pack = committing.pack_envelope

    def poison(checked: Any, envelope_no: int, recv_ms: int) -> bytes:
        row = pack(checked, envelope_no, recv_ms)
        return row[:-1] + b"\x00\x00" if checked.envelope.stn == "4712" else row

    monkeypatch.setattr(committing, "pack_envelope", poison)
    bodies = [envelope.jws for envelope in (rig.next(), other.next(), third.next())]
    verdicts = submit_together(held, bodies)
    assert [outcome(verdict) for verdict in verdicts] == ["stored", "ingest.unstorable", "stored"]
    assert (rig.stored(), other.stored(), third.stored()) == ([(1, 0)], [], [(1, 0)])


def test_back_pressure(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(service)
    monkeypatch.setattr(committing, "PENDING_CHECK_S", 0.0)
    narrow = service.wiring.settings.model_copy(update={"pending_limit": 3})
    wiring = type("Narrow", (), {
        "settings": narrow, "engine": service.wiring.engine, "service_key": service.wiring.service_key,
    })()  # fmt: skip
    service.settle()

    async def run() -> tuple[str, list[Any]]:
        with Committer(wiring) as committer:
            for _ in range(4):
                await accept(rig.next().jws, committer)
            while not committer._behind:
                await asyncio.sleep(0.01)
            refused = rig.seal().jws
            with pytest.raises(TooManyPending) as caught:
                await accept(refused, committer)
            assert caught.value.headers["Retry-After"]
            await asyncio.to_thread(service.settle)
            while committer._behind:
                await asyncio.sleep(0.01)
            return caught.value.code, [outcome(await accept(refused, committer))]

    assert asyncio.run(run()) == ("log.backpressure", ["stored"])


ACTIONS = ("next", "again", "twin", "gap", "batch", "stranger")


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=strategies.lists(strategies.tuples(strategies.sampled_from(ACTIONS), strategies.integers(0, 2))))
def test_any_mix_in_one_group_is_decided_in_order(service: Service, plan: list[tuple[str, int]]) -> None:
    rigs = _fresh_rigs(service)
    bodies, expected = [], []
    for action, who in plan:
        rig = rigs[who]
        body, wanted = _act(rig, rigs[who - 1], action)
        bodies.append(body)
        expected.append(wanted)
    if not bodies:
        return
    verdicts = submit_together(Committer(service.wiring), bodies)
    assert [outcome(verdict) for verdict in verdicts] == expected
    for rig in rigs:
        assert rig.stored() == [(1, seq) for seq in range(rig.seq)]


_counter = iter(range(1_000_000))


def _fresh_rigs(service: Service) -> list[Rig]:
    return [Rig(service, f"mix-{next(_counter)}") for _ in range(3)]


def _act(rig: Rig, other: Rig, action: str) -> tuple[bytes, str]:
    """Return a body and what must become of it, given all that was planned before."""
    history: list[Envelope] = rig.__dict__.setdefault("history", [])
    if action in ("again", "twin") and not history:
        action = "next"
    if action == "next":
        history.append(rig.next())
        return history[-1].jws, "stored"
    if action == "batch":
        batch = [rig.next() for _ in range(3)]
        history.extend(batch)
        return b"\n".join(envelope.jws for envelope in batch), "stored"
    if action == "again":
        return history[len(history) // 2].jws, "known"
    if action == "twin":
        old = history[0]
        return rig.seal(seq=old.seq, prev=old.prev, records=minute(START_MS, "77")).jws, "chain.equivocation"
    if action == "gap":
        return rig.seal(seq=rig.seq + 3, prev=bytes([2]) * 32).jws, "chain.gap"
    return rig.seal(signer=other.key).jws, "key.station"


def test_two_committers_keep_one_chain(service: Service) -> None:
    rig = Rig(service)
    envelopes = [rig.next() for _ in range(40)]

    async def push(committer: Committer) -> None:
        for envelope in envelopes:
            while outcome(await accept(envelope.jws, committer)) not in ("stored", "known"):
                await asyncio.sleep(0)

    async def run() -> None:
        with Committer(service.wiring) as one, Committer(service.wiring) as two:
            await asyncio.gather(push(one), push(two), push(one))

    asyncio.run(run())
    assert rig.stored() == [(1, seq) for seq in range(40)]
    with unit_of_work(service.wiring.engine) as conn:
        assert conn.scalar(text("SELECT count(*) FROM reading")) == 120
