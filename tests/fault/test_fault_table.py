"""The fault table: every write from ingest to receipt x {fails, fails yet lasts, process killed}, then go on.

After sunlight's TestSequenceErrors: once the same size is asked for again, once a larger one. `make test-faults`
prints the table; `make test` runs a part of it, the same one every time.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from emdi.envelope import Envelope
from emdi.policy import parse_policy
from emdi.tiles import TileReader
from stackwitness.errors import StackwitnessError
from stackwitness.ingest import queries
from stackwitness.log.loop import LogLoop
from stackwitness.log.witnesses import Cosigned, Witnesses
from tests.fault.conftest import Note
from tests.fault.faults import (
    FAILS,
    FAULTS,
    KILLED,
    LASTS,
    Fault,
    Killed,
    faulty_commit,
    faulty_disk,
    faulty_statement,
)
from tests.fault.world import World, die
from tests.service.witness_support import Crowd

# Files that one publication over a bundle's end writes, in its order, and what they are.
FILES = {
    "log/tile/entries/000": "full entry bundle",
    "log/tile/0/000": "full tile",
    "log/tile/entries/001.p/": "partial entry bundle",
    "log/tile/0/001.p/": "partial tile",
    "log/tile/1/000.p/": "tile of level 1",
    "signer/state": "signer's state",
    "log/checkpoint": "checkpoint",
}
STEPS = ("create", "fsync", "rename", "fsync of the folder")
GROWN = 12  # entries of a turn: over the end of the first bundle
AGAIN = {0: "same size", 5: "larger size"}


def part(*ranges: Iterable[Any], every: int) -> list[Any]:
    """Return the rows of all combinations; all but each `every`th are left to `make test-faults`."""
    return [
        pytest.param(*row, marks=[] if number % every == 0 else [pytest.mark.whole])
        for number, row in enumerate(itertools.product(*ranges))
    ]


def go_on(
    world: World, loop: LogLoop, fault: Fault, more: int, start: Callable[[], LogLoop] | None = None
) -> str:
    """Let the same process try again unless it is dead, then start again as after a crash; check it all."""
    said = []
    world.collect()
    if fault.kind != KILLED:
        world.grow(more)
        said.append(f"same process: {world.turn(loop)}")
    again = (start or world.log.start)()
    world.grow(0 if fault.kind != KILLED else more)
    said.append(f"restart: {world.turn(again)}")
    return "; ".join([*said, world.check()])


def struck(world: World, act: Callable[[], object], fault: Fault, before: int) -> str:
    """Act until the fault strikes; return what was seen."""
    with pytest.raises((OSError, StackwitnessError, Killed)) as caught:
        act()
    assert fault.fired
    error = caught.value
    name = getattr(error, "code", type(error).__name__)
    return f"{name}; checkpoint {before} -> {world.published}"


@pytest.mark.parametrize(("path", "step", "kind", "more"), part(FILES, STEPS, FAULTS, AGAIN, every=29))
def test_write_of_a_file(world: World, path: str, step: str, kind: str, more: int, note: Note) -> None:
    fault = Fault(kind, step, path)
    loop, before = world.log.start(), world.published
    world.grow(GROWN)
    with faulty_disk(fault):
        happened = struck(world, lambda: world.turn(loop), fault, before)
    if path != "log/checkpoint":
        assert world.published == before
    recovered = go_on(world, loop, fault, more)
    note(f"{FILES[path]}: {step}", f"{kind}, {AGAIN[more]}", happened, recovered)


STATEMENTS = {
    "pg_advisory_xact_lock": "sequencer: lock",
    "FROM log_pending": "sequencer: read the queue",
    "INSERT INTO log_head": "sequencer: log_head",
    "DELETE FROM log_pending": "sequencer: empty the queue",
}


@pytest.mark.parametrize(("word", "kind", "more"), part(STATEMENTS, FAULTS, AGAIN, every=11))
def test_statement_of_the_sequencer(world: World, word: str, kind: str, more: int, note: Note) -> None:
    fault = Fault(kind, "statement", word)
    loop, before = world.log.start(), world.published
    loop.sequence()
    world.grow(GROWN)
    with faulty_statement(world.engine, fault):
        happened = struck(world, loop.sequence, fault, before)
    note(STATEMENTS[word], f"{kind}, {AGAIN[more]}", happened, go_on(world, loop, fault, more))


@pytest.mark.parametrize(("kind", "more"), part(FAULTS, AGAIN, every=5))
def test_copy_of_log_entries(
    world: World, kind: str, more: int, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(kind, "copy", "log_entry")
    loop, before = world.log.start(), world.published
    loop.sequence()
    world.grow(GROWN)
    copy = psycopg.Cursor.copy

    def strike(cursor: Any, statement: Any, *arguments: Any, **named: Any) -> Any:
        if "log_entry" not in str(statement) or fault.fired:
            return copy(cursor, statement, *arguments, **named)
        if kind == LASTS:
            fault.fired = True
            cursor.connection.close()
            return copy(cursor, statement, *arguments, **named)
        try:
            return fault.strike("copy", "log_entry", lambda: None)
        except OSError as error:
            raise psycopg.OperationalError(str(error)) from None

    monkeypatch.setattr(psycopg.Cursor, "copy", strike)
    happened = struck(world, loop.sequence, fault, before)
    monkeypatch.undo()
    note("sequencer: COPY log_entry", f"{kind}, {AGAIN[more]}", happened, go_on(world, loop, fault, more))


@pytest.mark.parametrize(("kind", "more"), part(FAULTS, AGAIN, every=5))
def test_commit_of_the_sequencer(world: World, kind: str, more: int, note: Note) -> None:
    fault = Fault(kind, "commit", "sequencer")
    loop, before = world.log.start(), world.published
    loop.sequence()
    world.grow(GROWN)
    with faulty_commit(world.engine, fault, after="INSERT INTO log_head"):
        happened = struck(world, loop.sequence, fault, before)
    note("sequencer: commit", f"{kind}, {AGAIN[more]}", happened, go_on(world, loop, fault, more))


@pytest.mark.parametrize(("kind", "more"), part(FAULTS, AGAIN, every=5))
def test_answer_of_the_signer(
    world: World, kind: str, more: int, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature is made and remembered, and never arrives: nobody may be told of another tree."""
    from tests.service.log_support import LocalSigner

    fault, real = Fault(kind, "answer", "sign"), LocalSigner.sign
    loop, before = world.log.start(), world.published
    world.grow(GROWN)

    def strike(signer: LocalSigner, size: int, root: bytes) -> bytes:
        if kind == KILLED and not fault.fired:
            real(signer, size, root)
        return fault.strike("answer", "sign", lambda: real(signer, size, root))  # type: ignore[no-any-return]

    monkeypatch.setattr(LocalSigner, "sign", strike)
    happened = struck(world, lambda: world.turn(loop), fault, before)
    monkeypatch.undo()
    assert world.published == before
    note("signer: answer", f"{kind}, {AGAIN[more]}", happened, go_on(world, loop, fault, more))


@pytest.mark.parametrize(("kind", "more"), part(FAULTS, AGAIN, every=5))
def test_answer_of_a_witness(
    world: World, kind: str, more: int, note: Note, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real witness, a required quorum: the witness may remember a checkpoint that nobody ever saw."""
    fault, real = Fault(kind, "answer", "witness"), Witnesses.cosign
    crowd = Crowd(world.log, tmp_path)
    with crowd.stack:
        crowd.add("w1")

        def started() -> LogLoop:
            loop = world.log.start()
            loop.announcer.follow(parse_policy(crowd.policy_text(1)), 5.0, require_quorum=True)
            crowd.stack.callback(loop.announcer.close)
            return loop

        def strike(asked: Witnesses, checkpoint: bytes, tiles: TileReader) -> Cosigned:
            if fault.fired:
                return real(asked, checkpoint, tiles)
            fault.fired = True
            if kind != FAILS:
                real(asked, checkpoint, tiles)
            if kind == KILLED:
                raise Killed
            return Cosigned(checkpoint, False, ("w1: injected",))

        loop, before = started(), world.published
        world.grow(GROWN)
        monkeypatch.setattr(Witnesses, "cosign", strike)
        happened = struck(world, lambda: world.turn(loop), fault, before)
        assert world.published == before
        recovered = go_on(world, loop if kind != KILLED else started(), fault, more, started)
        parse_policy(crowd.policy_text(1)).check(world.log.reader.checkpoint())
    note("witness: answer", f"{kind}, {AGAIN[more]}", happened, recovered)


INGEST = ("lock_stations", "copy_envelopes", "copy_readings", "store_heads")


def go_on_after_ingest(world: World, envelopes: list[Envelope], *, stored: bool) -> str:
    """Send the same envelopes again, as a station does that got no answer; each is there exactly once."""
    assert ({item.env_id for item in envelopes} <= world.stored()) == stored
    world.post(envelopes)
    size = world.turn(world.log.start())
    return f"sent again: {'known' if stored else 'stored'}; {size}; {world.check()}"


@pytest.mark.parametrize(("step", "kind"), part(INGEST, FAULTS, every=7))
def test_statement_of_ingest(
    world: World, step: str, kind: str, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelopes, real = world.seal(3), getattr(queries, step)

    def strike(*arguments: Any) -> Any:
        if kind == FAILS:
            raise psycopg.OperationalError("injected")
        result = real(*arguments)
        if kind == KILLED:
            die()
        arguments[0].close()  # the connection is gone after the statement
        return result

    if kind == KILLED:
        number = world.post_and_die(envelopes, lambda: monkeypatch.setattr(queries, step, strike))
        happened = f"signal {number}"
        assert number == 9
    else:
        monkeypatch.setattr(queries, step, strike)
        with pytest.raises(StackwitnessError) as caught:
            world.post(envelopes)
        monkeypatch.undo()
        assert caught.value.status == 503
        happened = f"503 {caught.value.code}"
    note(f"ingest: {step}", kind, happened, go_on_after_ingest(world, envelopes, stored=False))


@pytest.mark.parametrize("kind", part([LASTS, KILLED, FAILS, "killed after"], every=2))
def test_commit_of_ingest(world: World, kind: str, note: Note, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a COMMIT that is lost: nobody knows, so the station asks again and is told."""
    envelopes, heads, commit = world.seal(3), queries.store_heads, psycopg.Connection.commit
    ours: list[Any] = []

    def mark(raw: Any, stored: Any) -> None:
        heads(raw, stored)
        ours.append(raw)

    def strike(raw: Any) -> None:
        if raw not in ours:
            return commit(raw)
        ours.clear()
        if kind in (LASTS, "killed after"):
            commit(raw)
        if kind in (KILLED, "killed after"):
            die()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def prepare() -> None:
        monkeypatch.setattr(queries, "store_heads", mark)
        monkeypatch.setattr(psycopg.Connection, "commit", strike)

    if kind in (KILLED, "killed after"):
        assert world.post_and_die(envelopes, prepare) == 9
        happened = "signal 9"
    else:
        prepare()
        with pytest.raises(StackwitnessError) as caught:
            world.post(envelopes)
        monkeypatch.undo()
        happened = f"503 {caught.value.code}"
    stored = kind in (LASTS, "killed after")
    note("ingest: commit", kind, happened, go_on_after_ingest(world, envelopes, stored=stored))
