"""Proof files: one spelling there and back, a table of faults, and nothing proven that the leaves do not show."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emdi.checkpoint import Checkpoint
from emdi.errors import EmdiError
from emdi.merkle import consistency_path, inclusion_path, leaf_hash, root_of
from emdi.note import NoteSigner, sign_note
from emdi.policy import parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import EXIT_CODES, Prefix, ProofFile, ProvenLeaf, format_proof, parse_proof
from tests.emdi.making import ORIGIN, START_MS, STN, honest_log, refused, seed

LOG = honest_log()
LEAVES = LOG.leaves()
POLICY = parse_policy(LOG.policy)
READING = next(i for i, entry in enumerate(LOG.entries) if entry[4] == 1)


def leaf(idx: int) -> ProvenLeaf:
    return ProvenLeaf(idx, LOG.entries[idx], tuple(inclusion_path(LEAVES, idx)))


def note_of(leaves: list[bytes], signer: NoteSigner = LOG.log_key) -> bytes:
    return sign_note(Checkpoint(ORIGIN, len(leaves), root_of(leaves)).text(), signer)


SHOWN = {"value": 4.0, "status": "N", "revisions": 0}
SEEN: dict[str, Any] = {"stn": STN, "channel": "nox-0", "at_ms": START_MS, "shown": SHOWN}
VALUE = ProofFile("value", "edited", START_MS, (LOG.checkpoint(),), (leaf(READING),), None, SEEN)
FORKED = [*LEAVES[:-1], leaf_hash(b"another"), leaf_hash(b"later")]
PREFIX = Prefix(len(LEAVES), root_of(FORKED[: len(LEAVES)]), tuple(consistency_path(FORKED, len(LEAVES))))
FORK = ProofFile("fork", "two trees", START_MS, (note_of(FORKED), LOG.checkpoint()), (), PREFIX)

hashes = st.binary(min_size=32, max_size=32)
jsons = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
proofs = st.builds(
    ProofFile,
    type=st.sampled_from(sorted(EXIT_CODES)),
    says=texts,
    made_ms=st.integers(0, 2**53 - 1),
    notes=st.tuples(texts.map(str.encode)),
    leaves=st.lists(
        st.builds(
            ProvenLeaf, st.integers(0, 2**53 - 1), st.binary(), st.lists(hashes, max_size=3).map(tuple)
        ),
        max_size=2,
    ).map(tuple),
    prefix=st.none() | st.builds(Prefix, st.integers(0, 9), hashes, st.lists(hashes, max_size=3).map(tuple)),
    observed=st.dictionaries(st.text("abc", max_size=3), jsons, max_size=3),
)


@given(proofs)
def test_there_and_back(proof: ProofFile) -> None:
    assert parse_proof(format_proof(proof)) == proof


def test_a_value_and_a_fork_are_proven() -> None:
    account = check_proof(parse_proof(format_proof(VALUE)), POLICY)
    assert account.proven[-1].endswith("40.25 (N)")
    assert account.observed[-1].endswith("4.0 (N)")
    assert "a fork" in check_proof(parse_proof(format_proof(FORK)), POLICY).proven[-1]


Spoil = Callable[[dict[str, Any]], object]
FORM: list[tuple[str, Spoil]] = [
    ("proof_file.form", lambda m: m.pop("says")),
    ("proof_file.form", lambda m: m.update(extra=1)),
    ("proof_file.form", lambda m: m.update(v=2)),
    ("proof_file.type", lambda m: m.update(type="opinion")),
    ("proof_file.form", lambda m: m.update(says=1)),
    ("proof_file.form", lambda m: m.update(made_ms=-1)),
    ("proof_file.form", lambda m: m.update(made_ms="1")),
    ("proof_file.form", lambda m: m.update(notes="x")),
    ("proof_file.form", lambda m: m.update(notes=[1])),
    ("proof_file.form", lambda m: m.update(notes=["x"] * 5)),
    ("proof_file.form", lambda m: m.update(leaves=m["leaves"] * 17)),
    ("proof_file.form", lambda m: m["leaves"][0].update(note=1)),
    ("proof_file.form", lambda m: m["leaves"][0].update(idx=1.5)),
    ("proof_file.form", lambda m: m["leaves"][0].update(entry="!")),
    ("proof_file.form", lambda m: m["leaves"][0].update(path=["AAAA"])),
    ("proof_file.form", lambda m: m["leaves"][0].update(path=m["leaves"][0]["path"] * 30)),
    ("proof_file.form", lambda m: m.update(prefix={"size": 1})),
    ("proof_file.form", lambda m: m.update(observed=[])),
]


@pytest.mark.parametrize(("code", "spoil"), FORM)
def test_form(code: str, spoil: Spoil) -> None:
    members = json.loads(format_proof(VALUE))
    spoil(members)
    refused(code, parse_proof, json.dumps(members).encode())


def test_bytes_that_are_no_file() -> None:
    for data in (b"", b"[]", b"null", b"\xff", b'{"v":1,"v":1}', b"[" * 9999):
        refused("proof_file.form", parse_proof, data)
    refused("proof_file.size", parse_proof, b" " * ((16 << 20) + 1))


UNPROVEN: list[tuple[str, ProofFile]] = [
    ("proof_file.unproven", replace(VALUE, observed={**SEEN, "shown": {**SHOWN, "value": 40.25}})),
    ("proof_file.unproven", replace(VALUE, observed={**SEEN, "channel": "nox-9"})),
    ("proof_file.unproven", replace(VALUE, observed={**SEEN, "stn": "other"})),
    ("proof_file.observed", replace(VALUE, observed={})),
    ("proof_file.observed", replace(VALUE, observed={**SEEN, "shown": 1})),
    ("proof_file.observed", replace(VALUE, observed={**SEEN, "at_ms": "x"})),
    ("proof_file.observed", replace(VALUE, leaves=())),
    ("proof.inclusion", replace(VALUE, leaves=(replace(leaf(READING), entry=LOG.entries[READING + 1]),))),
    ("proof.index", replace(VALUE, leaves=(replace(leaf(READING), idx=len(LEAVES)),))),
    ("policy.log", replace(VALUE, notes=(note_of(LEAVES, NoteSigner(ORIGIN, seed("thief"))),))),
    ("policy.origin", replace(VALUE, notes=(LOG.checkpoint().replace(ORIGIN.encode(), b"other/log"),))),
    ("note.form", replace(VALUE, notes=(b"x",))),
    ("proof_file.unproven", replace(FORK, prefix=None)),
    ("proof_file.unproven", replace(FORK, notes=(LOG.checkpoint(), LOG.checkpoint()), prefix=None)),
    ("proof_file.observed", replace(FORK, notes=(LOG.checkpoint(),), prefix=None)),
    ("proof.consistency", replace(FORK, prefix=replace(PREFIX, root=bytes(32)))),
    ("proof.length", replace(FORK, prefix=replace(PREFIX, path=PREFIX.path[:-1]))),
    ("proof.consistency", replace(FORK, prefix=replace(PREFIX, root=root_of(LEAVES)))),
    ("proof_file.observed", replace(VALUE, type="iat", observed={"from_ms": "soon", "to_ms": 0})),
    ("proof_file.unproven", replace(VALUE, type="missing-flag")),
    ("proof_file.unproven", replace(VALUE, type="head")),
    ("proof_file.unproven", replace(VALUE, type="gossip")),
    ("proof_file.unproven", replace(VALUE, type="chain")),
    ("proof_file.observed", replace(VALUE, type="equivocation")),
    ("proof_file.observed", replace(VALUE, type="back-dated")),
    ("proof_file.observed", replace(VALUE, type="stale")),
    ("proof_file.unproven", replace(VALUE, type="iat", observed={"from_ms": 0, "to_ms": 2**52})),
]


@pytest.mark.parametrize(("code", "proof"), UNPROVEN, ids=lambda item: getattr(item, "type", item))
def test_what_is_not_proven_is_refused(code: str, proof: ProofFile) -> None:
    refused(code, check_proof, parse_proof(format_proof(proof)), POLICY)


@given(st.sampled_from(sorted(EXIT_CODES)), st.sampled_from([VALUE, FORK]), jsons)
def test_only_our_own_errors_leave(kind: str, proof: ProofFile, other: Any) -> None:
    """Whatever is put under `observed`, and whatever type it claims."""
    names = (
        "shown",
        "flag_id",
        "roles",
        "lines",
        "sha256",
        "seen_ms",
        "now_ms",
        "idx",
        "leaf",
        "path",
        "served",
    )
    for observed in (dict.fromkeys(names, other), {**SEEN, "why": other, "field": other}):
        try:
            check_proof(replace(proof, type=kind, observed=observed), POLICY)
        except EmdiError:
            continue
