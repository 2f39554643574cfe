"""Tables of what readers of heads, leaf 0, runs, custody, witnesses and policies with ML-DSA keys must refuse."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from emdi import bundle
from emdi.errors import EmdiError
from emdi.event import Event, seal_event
from emdi.head import HeadLine, format_head, head_root, line_proof, station_line, subject_line, verify_line
from emdi.keyring import KeyRing
from emdi.layout import anchors_in, heads_in, is_member
from emdi.merkle import root_of
from emdi.note import NoteSigner, parse_note, sign_note
from emdi.policy import parse_policy
from emdi.runs import RunChain, parse_run
from emdi.shard import Previous, chains_of, parse_previous
from emdi.witness import parse_request, parse_size, take_cosignatures
from tests.conformance import make_exports, make_history
from tests.conformance.make_history import LEAVES, LOG, NOW_S, WITNESS
from tests.emdi.making import refused, seed

LINES = [
    station_line("a", 0, 1, bytes(32)),
    station_line("b", 0, 2, bytes(32)),
    subject_line("log", 0, bytes(32)),
]
ROOT = head_root(LINES)


def verify(line: str, **changes: Any) -> HeadLine:
    index, path = line_proof(LINES, LINES[1])
    place: dict[str, Any] = {"index": index, "count": len(LINES), "path": path, "root": ROOT} | changes
    return verify_line(line, **place)


LINE_PROOFS: list[tuple[str, dict[str, Any]]] = [
    (LINES[0], {}),
    (LINES[1] + "0", {}),
    (LINES[1], {"index": 0}),
    (LINES[1], {"index": -1}),
    (LINES[1], {"index": 3}),
    (LINES[1], {"count": 1}),
    (LINES[1], {"path": []}),
    (LINES[1], {"path": [bytes(32)] * 2}),
    (LINES[1], {"path": [bytes(31), bytes(32)]}),
    (LINES[1], {"path": [bytes(32)] * 64}),
    (LINES[1], {"root": bytes(32)}),
    (LINES[1].replace("station", "subject"), {}),
]


@pytest.mark.parametrize(("line", "changes"), LINE_PROOFS)
def test_line_proofs(line: str, changes: dict[str, Any]) -> None:
    assert verify(LINES[1]).name == "b"
    with pytest.raises(EmdiError, match=r"^(head|proof)\."):
        verify(line, **changes)


@pytest.mark.parametrize(
    "case", [item for item in make_history.geneses() if item["error"]], ids=lambda item: item["error"]
)
def test_leaf_0(case: dict[str, Any]) -> None:
    refused(case["error"], make_history.read_genesis, case["body"].encode())


def test_a_second_leaf_0_teaches_nothing() -> None:
    good = make_history.geneses()[0]["body"].encode()
    ring = KeyRing()
    refused("genesis.place", ring.take_genesis, 1, good)
    ring.take_genesis(0, good)
    refused("genesis.place", ring.take_genesis, 0, good)


ENDED = Previous("log.example/0", 3, bytes(32), ROOT)


@pytest.mark.parametrize(
    "changes", [{"origin": ""}, {"origin": 1}, {"size": True}, {"size": -1}, {"root_b64u": None}, {"head_root_b64u": "AA"}, {"x": 1}]
)  # fmt: skip
def test_the_shard_before(changes: dict[str, Any]) -> None:
    assert parse_previous(ENDED.members()) == ENDED
    refused("head.previous", parse_previous, {**ENDED.members(), **changes})
    refused("head.previous", parse_previous, [])


def test_lines_of_the_shard_before() -> None:
    assert chains_of(ENDED, format_head(LINES)).keys() == {"a", "b"}
    refused("head.root", chains_of, ENDED, format_head(LINES[:2]))
    refused("head.form", chains_of, ENDED, format_head(LINES)[:-1])


def run_event(**changes: Any) -> Event:
    data = {**make_history.runs()[0]["items"][3]["data"], **changes}
    place: dict[str, Any] = {
        "subj": "station:S",
        "sseq": 0,
        "sprev": bytes(32),
        "act": "service:w",
        "ts_ms": 0,
    }
    return seal_event(make_history.SERVICE, typ="detector.run", data=data, **place)


RUNS: list[dict[str, Any]] = [
    {"config_hash": "C" * 64}, {"digest": "d" * 63}, {"digest": None}, {"from_ms": 1.5}, {"from_ms": "0"}, {"upto_ms": -1},
    {"findings": -1}, {"findings": True}, {"state_after": ""}, {"state_before": "x"}, {"state_before": ["x"]}, {"input": []},
    {"input": {"ep_first": 0, "seq_first": 2, "ep_last": 0, "seq_last": 1, "count": 1}},
    {"input": {"ep_first": 0, "seq_first": 0, "ep_last": 0, "seq_last": 1, "count": -1}},
]  # fmt: skip


@pytest.mark.parametrize("changes", RUNS)
def test_runs(changes: dict[str, Any]) -> None:
    assert parse_run(run_event()).count == 120
    refused("run.data", parse_run, run_event(**changes))
    assert [fault.code for fault in RunChain(complete=True).take_event(run_event(**changes))] == ["run.data"]
    late = replace(run_event(**changes), typ="late.arrival")
    assert [fault.code for fault in RunChain(complete=True).take_event(late)] == ["late.data"]


CUSTODY: list[tuple[str, dict[str, Any]]] = [
    ("evidence.viewed", {"what": "flag", "id": "a,b"}),
    ("evidence.viewed", {"what": 'f"', "id": "a"}),
    ("evidence.downloaded", {"export_id": "e\n1"}),
    ("export.covers", {"export_id": "e\r"}),
]


@pytest.mark.parametrize(("typ", "data"), CUSTODY)
def test_custody_rows(typ: str, data: dict[str, Any]) -> None:
    refused("bundle.csv", bundle.custody_csv_row, 1, "station:s", typ, 0, "auditor-1", data)


def test_names_of_members() -> None:
    cases = make_exports.names()
    assert [is_member(case["name"]) for case in cases] == [case["member"] for case in cases]
    known = [case["name"] for case in cases if case["member"]]
    assert heads_in(known) == [0, 17]
    assert anchors_in(known) == {17: ["anchors/17.0.tsr"]}


NOTE = make_history._note(9)
COSIGNED = WITNESS.cosign(parse_note(NOTE).text, NOW_S)
STRANGER = NoteSigner("x.example", seed("x"), 4).cosign(parse_note(NOTE).text, NOW_S)
ANSWERS = [
    b"", b"\n", b"ok\n", COSIGNED.encode()[:-1], COSIGNED.encode() * 2, b"\xff" + COSIGNED.encode(), COSIGNED.encode() + b"\n",
    STRANGER.encode(), WITNESS.cosign(parse_note(make_history._note(8)).text, NOW_S).encode(), b"x" * (1 << 16) + b"\n",
    COSIGNED.replace("AAAA", "AAAB", 1).encode(), (COSIGNED * 101).encode(), parse_note(NOTE).text.encode() + COSIGNED.encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", ANSWERS)
def test_answers_of_witnesses(body: bytes) -> None:
    def take(data: bytes) -> tuple[str, ...]:
        return take_cosignatures(parse_note(NOTE), data, (WITNESS.verifier,))

    assert take((COSIGNED + STRANGER).encode()) == (COSIGNED,)
    refused("witness.answer", take, body)


@pytest.mark.parametrize(
    "body", [b"", b"\n", b"x\n", b"01\n", b"1\n\n", b"-1\n", b"1 \n", b"9223372036854775808\n", b"\xff"]
)
def test_sizes_told_by_witnesses(body: bytes) -> None:
    assert parse_size(b"17\n") == 17
    refused("witness.answer", parse_size, body)


def test_requests_to_witnesses() -> None:
    bad = [item for item in make_history.witnesses() if item["status"] == 400]
    assert len(bad) >= 5
    for case in bad:
        refused("witness.request", parse_request, base64.b64decode(case["body_b64"]))


STRONG = NoteSigner("pq.example", seed("pq"), 6)
POLICY = f"log {LOG.vkey}\nwitness w {STRONG.vkey}\nquorum w\n"
POLICIES = [
    (POLICY.replace(f"log {LOG.vkey}", f"log {STRONG.vkey}"), "policy.log"),
    (POLICY.replace("+Bp", "+AZ"), "note.kind"),
    (POLICY.replace("+Bp", "+BZ"), "note.kind"),
    (POLICY.replace("+f6ba", "+f6bb"), "note.vkey"),
    (POLICY.replace(STRONG.vkey, STRONG.vkey[:-4]), "note.kind"),
    (POLICY.replace("quorum w\n", f"witness v {STRONG.vkey}\nquorum w\n"), "policy.duplicate"),
]


@pytest.mark.parametrize(("text", "code"), POLICIES)
def test_policies_with_keys_of_kind_6(text: str, code: str) -> None:
    policy = parse_policy(POLICY)
    refused("policy.quorum", policy.check, sign_note(f"log.example/1\n9\n{_b64_root()}\n", LOG))
    refused(code, parse_policy, text)


def _b64_root() -> str:
    return make_history.b64(root_of(LEAVES))
