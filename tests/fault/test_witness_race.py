"""Two requests at once, in threads and in processes: a witness' size never goes back, and no lie is signed."""

import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.errors import EmdiError
from emdi.merkle import consistency_path, leaf_hash, root_of
from emdi.note import NoteSigner, format_note, parse_note, sign_note, verify_note
from emdi.witness import CosignatureRequest, Seen, format_request
from stackwitness_client.errors import KeyFileError
from stackwitness_client.witness.cosigner import Cosigner
from stackwitness_client.witness.keys import create_key, load_keys
from stackwitness_client.witness.memory import MemoryUnavailable, WitnessMemory
from stackwitness_client.witness_cli import main
from tests.emdi.making import seed

LOG = NoteSigner("log.example/1", seed("log"))
WITNESS = NoteSigner("w.example/1", seed("witness"), 4)
LEAVES = [leaf_hash(bytes([number])) for number in range(64)]
OTHER = [leaf_hash(b"other"), *LEAVES[1:]]
WAIT_S = 10


def ask(old: int, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    proof = tuple(consistency_path(leaves[:size], old)) if old else ()
    note = sign_note(Checkpoint("log.example/1", size, root_of(leaves[:size])).text(), LOG)
    return format_request(CosignatureRequest(old, proof, note))


def make_memory(folder: Path) -> WitnessMemory:
    memory = WitnessMemory(folder / "witness.sqlite")
    memory.add_log(LOG.verifier)
    return memory


def test_a_stalled_request_cannot_roll_back_a_larger_one(tmp_path: Path) -> None:
    memory = make_memory(tmp_path)
    checked, go_on = threading.Event(), threading.Event()

    def stall(size: int) -> None:
        if size == 3:
            checked.set()
            assert go_on.wait(WAIT_S)

    cosigner = Cosigner(memory, [WITNESS], pause=stall)
    assert cosigner.add_checkpoint(ask(0, 1)).status == 200
    replies = []
    stalled = threading.Thread(target=lambda: replies.append(cosigner.add_checkpoint(ask(1, 3))))
    stalled.start()
    assert checked.wait(WAIT_S)
    assert cosigner.add_checkpoint(ask(1, 5)).status == 200
    go_on.set()
    stalled.join()
    assert (replies[0].status, replies[0].body) == (409, b"5\n")
    assert memory.recall("log.example/1").seen.size == 5


def climb(url: str, rounds: int, given: list[tuple[int, str]]) -> None:
    """Push a log forward from whatever size the witness names, often against others who do the same."""
    old = 0
    with httpx2.Client(base_url=url, trust_env=False, timeout=WAIT_S) as client:
        for turn in range(rounds):
            size = min(old + 1 + turn % 2, len(LEAVES))
            answer = client.post("/add-checkpoint", content=ask(old, size))
            if answer.status_code == 200:
                given.append((size, answer.text))
                old = size
            else:
                assert answer.status_code == 409
                old = int(answer.text)


def test_two_processes_over_one_state_give_one_history(tmp_path: Path) -> None:
    create_key(tmp_path, "w.example/1", 4, seed("witness"))
    memory = make_memory(tmp_path)
    command = [sys.executable, "-m", "stackwitness_client.witness_cli", "run", "--port", "0", "--home"]
    servers = [subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in "12"]
    given: list[list[tuple[int, str]]] = [[] for _ in range(4)]
    try:
        urls = [server.stdout.readline().split()[1] for server in servers if server.stdout]
        racers = [threading.Thread(target=climb, args=(urls[n % 2], 40, given[n])) for n in range(len(given))]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
    finally:
        for server in servers:
            server.terminate()
        assert [server.wait(WAIT_S) for server in servers] == [0, 0]
    for run in given:
        assert [size for size, _ in run] == sorted(size for size, _ in run)
        for size, line in run:
            text = Checkpoint("log.example/1", size, root_of(LEAVES[:size])).text()
            assert verify_note(format_note(text, [line]), [WITNESS.verifier])
    assert memory.recall("log.example/1").seen.size == max(size for run in given for size, _ in run)


def test_many_threads_two_histories_one_wins(tmp_path: Path) -> None:
    """Split view: half the requests show another tree; whichever came first, the other is never cosigned."""
    memory = make_memory(tmp_path)
    cosigner = Cosigner(memory, [WITNESS])
    start = threading.Barrier(8)
    replies: list[tuple[bool, int]] = []

    def one(number: int) -> None:
        honest = number % 2 == 0
        start.wait(WAIT_S)
        replies.append((honest, cosigner.add_checkpoint(ask(0, 7, LEAVES if honest else OTHER)).status))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = {honest for honest, status in replies if status == 200}
    assert len(winners) == 1
    assert {status for _, status in replies} <= {200, 409}
    kept = memory.recall("log.example/1")
    assert kept.seen.root == root_of((LEAVES if winners.pop() else OTHER)[:7])
    assert parse_checkpoint(parse_note(kept.note).text).root == kept.seen.root


def test_a_state_that_cannot_be_kept_gives_no_cosignature(tmp_path: Path) -> None:
    memory = make_memory(tmp_path)
    cosigner = Cosigner(memory, [WITNESS])
    assert cosigner.add_checkpoint(ask(0, 1)).status == 200
    path = tmp_path / "witness.sqlite"
    kept = path.read_bytes()
    path.write_bytes(b"not a database" + kept[14:])
    with pytest.raises(MemoryUnavailable):
        cosigner.add_checkpoint(ask(1, 2))
    path.write_bytes(kept)
    assert memory.recall("log.example/1").seen == Seen(1, root_of(LEAVES[:1]))


def test_one_seed_is_one_identity(tmp_path: Path) -> None:
    create_key(tmp_path, "w.example/1", 4, seed("w"))
    for name, kind in (("w.example/2", 4), ("w.example/1", 6), ("w.example/1", 4)):
        with pytest.raises(KeyFileError) as caught:
            create_key(tmp_path, name, kind, seed("w"))
        assert caught.value.code == "witness.seed"
    with pytest.raises(KeyFileError) as caught:
        create_key(tmp_path, "w.example/1", 4, seed("another"))
    assert caught.value.code == "witness.name"
    create_key(tmp_path, "w.example/1", 6, seed("another"))
    assert {signer.verifier.kind for signer in load_keys(tmp_path)} == {4, 6}


def test_unusable_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no key"):
        load_keys(tmp_path)
    create_key(tmp_path, "w", 4, seed("w"))
    path = next(tmp_path.glob("*.key"))
    text = path.read_text()
    for spoilt in (
        "",
        text[:-3],
        text.replace("+w+", "+v+"),
        text + "more",
        text.replace("PRIVATE", "PUBLIC"),
    ):
        path.write_text(spoilt)
        with pytest.raises(KeyFileError):
            load_keys(tmp_path)
    path.write_text(text)
    (tmp_path / "copy.key").write_text(text)
    (tmp_path / "copy.key").chmod(0o600)
    with pytest.raises(KeyFileError, match="two names"):
        load_keys(tmp_path)
    (tmp_path / "copy.key").unlink()
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="read by others"):
        load_keys(tmp_path)
    path.unlink()
    published = bytes.fromhex("31ffc2116ecbe003acaa800ab70757bd7d53206e3febef6a6d0796d95530b34f")
    create_key(tmp_path, "example.com/witness", 4, published)
    with pytest.raises(KeyFileError, match="test vectors"):
        load_keys(tmp_path)
    assert load_keys(tmp_path, test_keys=True)


def test_the_program_sets_up_a_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "w")
    assert main(["init", "--home", home, "w.example/1"]) == 0
    assert main(["init", "--home", home, "--kind", "ml-dsa-44", "w.example/1"]) == 0
    assert main(["init", "--home", home, "w.example/1"]) == 3
    made = capsys.readouterr().out.split()
    assert main(["vkey", "--home", home]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(made)
    policy = tmp_path / "policy.txt"
    policy.write_text(f"log {LOG.vkey}\nquorum none\n")
    assert main(["add-log", "--home", home, str(policy)]) == 0
    assert main(["add-log", "--home", home, WITNESS.vkey]) == 3
    assert main(["add-log", "--home", home, "nonsense"]) == 3
    assert WitnessMemory(tmp_path / "w" / "witness.sqlite").origins() == ["log.example/1"]


def test_keys_without_a_log_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmdiError):
        make_memory(tmp_path).add_log(WITNESS.verifier)
