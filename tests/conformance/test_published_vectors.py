"""The vectors that other implementations read: made again to the byte, and run from the files alone."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from emdi import tiles
from emdi.encoding import b64_decode, b64u_decode, load_json, parse_uint
from emdi.entry import parse_entry
from emdi.envelope import parse_envelope
from emdi.errors import EmdiError, ProofError
from emdi.event import parse_event, verify_key_proof
from emdi.keys import PublicKey
from emdi.merkle import leaf_hash, verify_consistency, verify_inclusion
from emdi.note import parse_note
from emdi.policy import parse_policy
from emdi.receipt import parse_receipt, verify_receipt
from tests.conformance.make_vectors import FILES, FOLDER, render

Case = dict[str, Any]


def cases_of(name: str) -> list[Case]:
    cases: list[Case] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return cases


def raw(case: Case, name: str = "input_b64") -> bytes:
    return base64.b64decode(case[name])


@pytest.mark.parametrize("name", FILES)
def test_files_are_what_the_script_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == render(name), (
        "run python -m tests.conformance.make_vectors and look at what changed"
    )


def test_no_file_is_left_over() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(FILES)


def run_policy(case: Case) -> None:
    policy = parse_policy(case["policy"])
    if case["checkpoint_b64"] is not None:
        policy.check(raw(case, "checkpoint_b64"))


def run_receipt(case: Case) -> None:
    data = raw(case, "receipt_b64")
    if case["policy"] is None:
        parse_receipt(data)
    else:
        verify_receipt(data, raw(case, "envelope_b64"), parse_policy(case["policy"]))


def run_key_proof(case: Case) -> None:
    key = PublicKey.from_bytes("Ed25519", b64u_decode(case["public_b64u"]))
    verify_key_proof(raw(case, "proof_b64").decode(), stn=case["stn"], kid=case["kid"], key=key)


def run_text(case: Case) -> None:
    readers: dict[str, Callable[[str], str]] = {
        "uint": lambda text: str(parse_uint(text, "encoding.uint")),
        "b64": lambda text: b64_decode(text).hex(),
        "b64u": lambda text: b64u_decode(text).hex(),
    }
    assert readers[case["form"]](case["text"]) == case["value"]


def run_envelope(case: Case) -> None:
    envelope = parse_envelope(raw(case))
    assert (envelope.env_id.hex(), envelope.stn, envelope.ep, envelope.seq) == tuple(
        case[name] for name in ("env_id", "stn", "ep", "seq")
    )
    assert case["records"] == [
        [item.name, item.at_ms, item.unit, None if item.value is None else str(item.value), item.status]
        for item in envelope.records
    ]


def run_event(case: Case) -> None:
    event = parse_event(raw(case))
    assert (event.event_id.hex(), event.sprev.hex()) == (case["event_id"], case["sprev"])


def run_entry(case: Case) -> None:
    parse_entry(raw(case))
    assert leaf_hash(raw(case)).hex() == case["leaf"]


def run_path(case: Case) -> None:
    assert list(tiles.parse_tile_path(case["path"])) == case["value"]


RUNNERS: dict[str, Callable[[Case], object]] = {
    "texts": run_text,
    "json": lambda case: load_json(raw(case)),
    "envelope": run_envelope,
    "event": run_event,
    "key_proof": run_key_proof,
    "entry": run_entry,
    "tile_path": run_path,
    "tile_bundle": lambda case: tiles.decode_bundle(raw(case)),
    "note": lambda case: parse_note(raw(case)),
    "policy": run_policy,
    "receipt": run_receipt,
}
OTHERS = {"signature", "inclusion", "consistency"}  # run by tests of their own, below


@pytest.mark.parametrize("name", RUNNERS)
def test_cases_run_from_the_file_alone(name: str) -> None:
    for case in cases_of(name):
        code = None
        try:
            RUNNERS[name](case)
        except EmdiError as error:
            code = error.code
        assert code == case["error"], case


def test_signatures() -> None:
    for case in cases_of("signature"):
        key = PublicKey.from_bytes(case["alg"], b64u_decode(case["public_b64u"]))
        assert key.verify(raw(case, "signature_b64"), raw(case, "text_b64")) is case["holds"], case


def hashes_of(case: Case) -> tuple[list[bytes], list[bytes]]:
    names = ("leaf", "root") if "leaf" in case else ("old_root", "new_root")
    return [bytes.fromhex(case[name]) for name in names], [bytes.fromhex(item) for item in case["path"]]


@pytest.mark.parametrize("name", ["inclusion", "consistency"])
def test_98_probes_of_each_proof(name: str) -> None:
    cases = cases_of(name)
    assert (len(cases), sum(case["holds"] for case in cases)) == (98, 7)
    for case in cases:
        (first, second), path = hashes_of(case)
        held = True
        try:
            if name == "inclusion":
                verify_inclusion(case["index"], case["size"], first, path, second)
            else:
                verify_consistency(case["old"], case["new"], first, second, path)
        except ProofError:
            held = False
        assert held is case["holds"], case["name"]
