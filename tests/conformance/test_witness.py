"""A witness over HTTP: the request sequence of torchwood's litewitness, and c2sp.org/tlog-witness line by line."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_decode, b64_encode
from emdi.merkle import consistency_path, empty_root, leaf_hash, root_of
from emdi.note import NoteSigner, VerifierKey, format_note, parse_note, sign_note, verify_note
from emdi.witness import MAX_REQUEST_BYTES, CosignatureRequest, format_request, origin_path
from stackwitness_client.witness.cosigner import Cosigner
from stackwitness_client.witness.memory import WitnessMemory
from stackwitness_client.witness.serving import CONNECTIONS, WitnessServer
from tests.emdi.making import seed

ORIGIN = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
LOG_VKEY = f"{ORIGIN}+5202289b+Af/cLU2Y5BJNP+r3iMDC+av9eWCD0fBJVDfzAux5zxAP"
WITNESS_SEED = bytes.fromhex("31ffc2116ecbe003acaa800ab70757bd7d53206e3febef6a6d0796d95530b34f")
WITNESS_VKEY = "example.com/witness+10a1c019+BGSEitir7W6FmBs7OHWyUrh2frtLAvcDrKOx5xu9ao5Q"
NOW_S = 1679315147
ROOTS = {
    1: "KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    3: "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
    5: "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
}
SIGNATURES = {
    1: "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=",
    3: "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=",
    5: "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=",
}
PROOF_1_TO_3 = [
    "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
]
PROOF_1_TO_5 = [
    "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
]
COSIGNATURE_1 = (
    "— example.com/witness EKHAGQAAAABkGFDL6nT3tdWsnr60QRZM37d3Muo2MeCQf6qCeVmIcJczUPW+"
    "0wqqcKXKPaU7yt6vRIaGiaTt8vwiEciBIHFemInCDA==\n"
)
LOG = NoteSigner("log.example/1", seed("log"))
LEAVES = [leaf_hash(bytes([number])) for number in range(12)]


@dataclass
class Witness:
    """A witness that listens: `say` posts a body, `memory` is its state, `now_s` its clock."""

    memory: WitnessMemory
    server: WitnessServer
    client: httpx2.Client
    now_s: int = NOW_S

    def say(self, body: bytes) -> httpx2.Response:
        return self.client.post("/prefix/add-checkpoint", content=body)

    def status(self, body: bytes) -> int:
        return self.say(body).status_code


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    memory = WitnessMemory(tmp_path / "witness.sqlite")
    memory.add_log(VerifierKey.parse(LOG_VKEY))
    memory.add_log(LOG.verifier)
    yield from serve(memory, NoteSigner("example.com/witness", WITNESS_SEED, 4))


def serve(memory: WitnessMemory, *signers: NoteSigner, within_s: float = 15.0) -> Iterator[Witness]:
    running: list[Witness] = []
    cosigner = Cosigner(memory, signers, now_s=lambda: running[0].now_s)
    with WitnessServer(("127.0.0.1", 0), cosigner, within_s=within_s) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=10) as client:
            running.append(Witness(memory, server, client))
            yield running[0]
        server.shutdown()
        thread.join()


def published(old: int, size: int, proof: list[str], signature: str | None = None) -> bytes:
    """Return a request of the published sequence."""
    text = f"{ORIGIN}\n{size}\n{ROOTS[size]}\n"
    note = format_note(text, [f"— {ORIGIN} {signature or SIGNATURES[size]}\n"])
    return format_request(CosignatureRequest(old, tuple(b64_decode(item) for item in proof), note))


def ask(old: int, size: int, *, leaves: list[bytes] = LEAVES, by: NoteSigner = LOG) -> bytes:
    """Return a request of our own log, with the right proof."""
    proof = consistency_path(leaves[:size], old) if old and size else []
    text = Checkpoint(by.verifier.name, size, root_of(leaves[:size])).text()
    return format_request(CosignatureRequest(old, tuple(proof), sign_note(text, by)))


def test_the_published_sequence(witness: Witness) -> None:
    assert NoteSigner("example.com/witness", WITNESS_SEED, 4).vkey == WITNESS_VKEY
    assert witness.status(published(1, 3, PROOF_1_TO_3)) == 409  # nothing cosigned yet
    first = witness.say(published(0, 1, []))
    assert (first.status_code, first.text) == (200, COSIGNATURE_1)
    refused = witness.say(published(0, 1, []))
    assert (refused.status_code, refused.content) == (409, b"1\n")
    assert refused.headers["content-type"] == "text/x.tlog.size"
    assert witness.status(published(1, 3, PROOF_1_TO_3[::-1])) == 422
    assert witness.status(published(1, 3, PROOF_1_TO_3[:1])) == 422
    assert witness.status(published(1, 3, PROOF_1_TO_3)) == 200
    assert witness.say(published(1, 5, PROOF_1_TO_5)).content == b"3\n"
    assert witness.status(published(1, 5, PROOF_1_TO_5)) == 409
    # The same tree again: a fresh time, nothing else.
    witness.now_s += 600
    again = witness.say(published(3, 3, []))
    text = f"{ORIGIN}\n3\n{ROOTS[3]}\n"
    assert verify_note(format_note(text, [again.text]), [VerifierKey.parse(WITNESS_VKEY)]).times_s == (
        NOW_S + 600,
    )
    assert witness.memory.recall(ORIGIN).seen.size == 3


def test_the_whole_table_of_answers(witness: Witness) -> None:
    stranger, thief = NoteSigner("log.example/2", seed("log")), NoteSigner("log.example/1", seed("thief"))
    other = [leaf_hash(b"other"), *LEAVES[1:]]
    assert witness.status(ask(0, 1, by=stranger)) == 404
    assert witness.status(ask(0, 1, by=thief)) == 403
    assert witness.status(ask(0, 1).replace(b"\n1\n", b"\n2\n")) == 403
    assert witness.status(ask(0, 5)) == 200
    assert witness.status(ask(0, 4).replace(b"old 0", b"old 5")) == 400
    assert witness.status(ask(0, 4).replace(b"old 0", b"old 4")) == 409
    assert witness.status(ask(5, 5, leaves=other)) == 422  # the same size, another root
    assert witness.status(ask(5, 8, leaves=other)) == 422
    assert witness.status(ask(4, 8)) == 409
    assert witness.status(ask(5, 8)) == 200
    assert witness.status(ask(8, 8)) == 200


def test_the_empty_tree(witness: Witness) -> None:
    def empty(root: bytes, proof: tuple[bytes, ...] = ()) -> bytes:
        note = sign_note(Checkpoint("log.example/1", 0, root).text(), LOG)
        return format_request(CosignatureRequest(0, proof, note))

    assert witness.status(empty(bytes(32))) == 422
    assert witness.status(empty(empty_root(), (bytes(32),))) == 422
    assert witness.status(empty(empty_root())) == 200
    assert (
        witness.status(ask(0, 3).replace(b"old 0\n", b"old 0\n" + b64_encode(bytes(32)).encode() + b"\n"))
        == 422
    )
    assert witness.status(ask(0, 3)) == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n",
        b"old 0\n\n",
        b"\n\n" + ask(0, 1),
        ask(0, 1).replace(b"old 0", b"old 00"),
        ask(0, 1).replace(b"old 0", b"old +0"),
        ask(0, 1).replace(b"old 0", b"old  0"),
        ask(0, 1).replace(b"old 0", b"Old 0"),
        ask(0, 1).replace(b"old 0", b"old -1"),
        ask(0, 1).replace(b"old 0", b"old 9223372036854775808"),
        ask(0, 1).replace(b"old 0", b"old 0\r"),
        ask(0, 1).replace(b"old 0\n", b"old 0\nAAAA\n"),
        ask(0, 1).replace(b"old 0\n", b"old 0\n" + b"A" * 43 + b"\n"),
        ask(0, 1).replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * 64),
        ask(0, 1).replace(b"old 0", b"old 2"),
        ask(0, 1)[:-1],
        ask(0, 1).replace(b"\n1\n", b"\n1\n\n"),
        ask(0, 1).replace(b"log.example/1\n1\n", b"log.example/1\n01\n"),
        format_request(CosignatureRequest(0, (), sign_note(f"log.example/1\n1\n{'A' * 43}=\nmore\n", LOG))),
        b"\xff" * 100,
    ],
)  # fmt: skip
def test_malformed_requests(witness: Witness, body: bytes) -> None:
    assert witness.status(body) == 400
    assert witness.memory.recall("log.example/1").seen.size == 0


def test_bad_http_is_a_clear_4xx(witness: Witness) -> None:
    assert witness.client.get("/prefix/add-checkpoint").status_code == 404
    assert witness.client.get("/").status_code == 404
    assert witness.client.get("/" + "0" * 64 + "/checkpoint").status_code == 404
    assert witness.client.put("/add-checkpoint", content=b"x").status_code == 405
    assert witness.client.delete("/add-checkpoint").status_code == 405
    assert witness.client.post("/elsewhere", content=b"x").status_code == 404
    assert witness.client.post("/add-checkpoint", content=iter([b"x"])).status_code == 411  # chunked
    for head, status in {
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello": b"400",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello": b"400",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1): b"413",
        b"POST /add-checkpoint HTTP/1.1\r\n\r\n": b"411",
        b"nonsense\r\n\r\n": b"400",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n": b"414",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n": b"431",
    }.items():
        answer = speak(witness.server, head)
        assert answer.startswith(b"HTTP/1.1 " + status), (head[:60], answer[:60])
    assert witness.status(ask(0, 1)) == 200


def speak(server: WitnessServer, data: bytes) -> bytes:
    """Send raw bytes and return all that comes back until the server hangs up."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:  # type: ignore[arg-type]
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_slow_and_many_clients_do_not_stop_the_others(tmp_path: Path) -> None:
    memory = WitnessMemory(tmp_path / "witness.sqlite")
    memory.add_log(LOG.verifier)
    for witness in serve(memory, NoteSigner("w", seed("w"), 4), within_s=0.3):
        slow = socket.create_connection(witness.server.server_address[:2], timeout=10)  # type: ignore[arg-type]
        slow.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold")
        assert witness.status(ask(0, 1)) == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        slow.close()
        crowd = [
            socket.create_connection(witness.server.server_address[:2], timeout=10)  # type: ignore[arg-type]
            for _ in range(CONNECTIONS + 5)
        ]
        for connection in crowd:  # each is hung up on: at once for want of room, or at its deadline
            assert connection.recv(10) == b""
            connection.close()
        assert witness.status(ask(1, 2)) == 200


def test_monitors_see_what_was_cosigned_last(witness: Witness) -> None:
    path = "/" + origin_path("log.example/1")
    assert witness.client.get(path).status_code == 404
    witness.say(ask(0, 4))
    witness.say(ask(4, 9))
    note = witness.client.get("/any/prefix" + path).content
    keys = [LOG.verifier, VerifierKey.parse(WITNESS_VKEY)]
    assert len(verify_note(note, keys).keys) == 2
    assert parse_note(note).text.split("\n")[1] == "9"


def test_two_kinds_of_cosignature_at_once(tmp_path: Path) -> None:
    memory = WitnessMemory(tmp_path / "witness.sqlite")
    memory.add_log(LOG.verifier)
    signers = NoteSigner("w.example/1", seed("w4"), 4), NoteSigner("w.example/1", seed("w6"), 6)
    for witness in serve(memory, *signers):
        text = Checkpoint("log.example/1", 3, root_of(LEAVES[:3])).text()
        note = verify_note(
            format_note(text, [witness.say(ask(0, 3)).text]), [signer.verifier for signer in signers]
        )
        assert [key.kind for key in note.keys] == [4, 6]
        assert note.times_s == (NOW_S, NOW_S)


def test_a_clock_set_back_never_makes_an_older_cosignature(witness: Witness) -> None:
    key = VerifierKey.parse(WITNESS_VKEY)

    def time_of(size: int, answer: httpx2.Response) -> int:
        text = Checkpoint("log.example/1", size, root_of(LEAVES[:size])).text()
        return verify_note(format_note(text, [answer.text]), [key]).times_s[0]

    assert time_of(3, witness.say(ask(0, 3))) == NOW_S
    witness.now_s -= 30
    assert time_of(4, witness.say(ask(3, 4))) == NOW_S
    witness.now_s -= 3600
    assert witness.status(ask(4, 5)) == 503
    assert witness.memory.recall("log.example/1").seen.size == 4
    witness.now_s = NOW_S + 1
    assert time_of(5, witness.say(ask(4, 5))) == NOW_S + 1
