"""The vectors of heads, witnesses, keys, runs, proof files and bundles, run from the files alone."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from emdi import bundle
from emdi.envelope import ZERO_HASH
from emdi.errors import EmdiError
from emdi.event import parse_event, seal_event
from emdi.head import head_root, parse_head, verify_line
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.layout import is_member
from emdi.note import VerifierKey, verify_note
from emdi.officers import Officers
from emdi.policy import read_change
from emdi.runs import RunChain, Span
from emdi.scope import parse_scope
from tests.conformance.make_exports import bundle_files, custody_row, judge_bundle, judge_proof
from tests.conformance.make_governance import run_reason
from tests.conformance.make_history import act_of, answer_of, read_genesis
from tests.conformance.make_vectors import FILES, FOLDER
from tests.conformance.test_published_vectors import OTHERS, RUNNERS, Case, cases_of, raw
from tests.emdi.making import seed


def run_genesis(case: Case) -> None:
    assert read_genesis(case["body"].encode()) == case["officers"]


def run_cosignature(case: Case) -> None:
    verified = verify_note(case["note"].encode(), [VerifierKey.parse(case["vkey"])])
    assert verified.times_s == (case["time_s"],)


def run_head(case: Case) -> None:
    if "line" in case:
        path, root = [bytes.fromhex(item) for item in case["path"]], bytes.fromhex(case["root"])
        verify_line(case["line"], case["index"], case["lines"], path, root)
        return
    data = case["head"].encode() if "head" in case else raw(case, "head_b64")
    lines = parse_head(data)
    assert (len(lines), head_root(lines).hex()) == (case["lines"], case["root"])


def run_table(case: Case) -> None:
    if "reading" in case:
        assert bundle.readings_csv_row(*case["reading"]) == case["row"]
    elif "custody" in case:
        assert custody_row(case["custody"]) == case["row"]
    else:
        assert bundle.parse_disclosure(case["disclosure"]).digest.hex() == case["sha256"]


HISTORY: dict[str, Callable[[Case], object]] = {
    "genesis": run_genesis,
    "cosignature": run_cosignature,
    "head": run_head,
    "policy_change": lambda case: read_change(case["data"], case["origin"]),
    "proof_file": lambda case: judge_proof(case["file"].encode(), case["policy"]),
    "scope": lambda case: parse_scope(raw(case)),
    "tables": run_table,
}


def code_of(run: Callable[..., object], *arguments: Any) -> str | None:
    try:
        run(*arguments)
    except EmdiError as error:
        return error.code
    return None


@pytest.mark.parametrize("name", HISTORY)
def test_cases_run_from_the_file_alone(name: str) -> None:
    for case in cases_of(name):
        assert code_of(HISTORY[name], case) == case["error"], case


def test_keys_live_as_the_log_says() -> None:
    ring = KeyRing()
    ring.take_genesis(0, cases_of("genesis")[0]["body"].encode())
    for case in cases_of("key_life"):
        if "event" in case:
            event = parse_event(case["event"].encode())
            assert code_of(ring.take_event, case["idx"], event) == case["error"], case
        else:
            place = (case["stn"], case["kid"], case["at_idx"])
            assert (code_of(ring.station_key, *place), ring.suspect(*place)) == (
                case["error"],
                case["suspect"],
            ), case


def test_the_services_key_changes_as_the_log_says() -> None:
    ring = KeyRing()
    ring.take_genesis(0, cases_of("genesis")[0]["body"].encode())
    for case in cases_of("service_keys"):
        if "event" in case:
            event = parse_event(case["event"].encode())
            assert code_of(ring.take_event, case["idx"], event) == case["error"], case
        else:
            place = (case["kid"], case["at_idx"])
            assert code_of(ring.service_key, *place) == case["error"], case
            assert ring.service.suspect(*place) is case["suspect"], case


def test_words_are_those_an_event_names() -> None:
    for case in cases_of("reasons"):
        assert run_reason(case) is case["holds"], case


def test_officers_hold_their_roles() -> None:
    known = Officers()
    for case in cases_of("officers"):
        event = act_of(case["event"])
        assert code_of(known.take_event, case["idx"], event, case["recv_ms"]) == case["error"], case


def test_runs_join() -> None:
    key = LocalKey.from_seed(seed("service"), "service-1")
    for case in cases_of("runs"):
        chain = RunChain(complete=True)
        for item in case["items"]:
            if "typ" not in item:
                chain.take_envelope(Span((item["ep"], item["seq"]), item["first_ms"], item["last_ms"]))
                continue
            place: dict[str, Any] = {
                "subj": "station:S",
                "sseq": 0,
                "sprev": ZERO_HASH,
                "act": "service:worker",
            }
            event = seal_event(key, typ=item["typ"], ts_ms=0, data=item["data"], **place)
            assert [fault.code for fault in chain.take_event(event)] == item["faults"], item


def test_the_witness_answers() -> None:
    for case in cases_of("witness"):
        reply = answer_of(case["state"]["size"], raw(case, "body_b64"))
        assert (reply.status, reply.media_type) == (case["status"], case["media_type"]), case
        assert case["answer"] in (None, reply.body.decode())


def test_names_of_members() -> None:
    for case in cases_of("member_name"):
        assert is_member(case["name"]) is case["member"], case


def test_bundles_are_made_again_and_judged() -> None:
    assert {path.name: path.read_bytes() for path in FOLDER.glob("*.zip")} == bundle_files()
    for case in cases_of("bundle"):
        data = (FOLDER / case["file"]).read_bytes()
        assert judge_bundle(case["file"], case["policy"], case["known"], io.BytesIO(data)) == case
    assert {case["exit_code"] for case in cases_of("bundle")} == {0, 1, 2, 3, 4}


def test_every_file_is_run() -> None:
    own = {"key_life", "service_keys", "reasons", "officers", "runs", "witness", "member_name", "bundle"}
    assert set(RUNNERS) | OTHERS | set(HISTORY) | own == set(FILES)


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400 * 1024
