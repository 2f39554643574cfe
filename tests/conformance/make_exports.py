"""Vectors of what is carried away: proof files, scopes, tables, names of members, and whole bundles.

Run by `tests.conformance.make_vectors`. Bundles are files of their own beside the JSON.
"""

import io
import json
import zipfile
from functools import cache
from typing import Any

from emdi import bundle
from emdi.checkpoint import Checkpoint
from emdi.layout import is_member
from emdi.merkle import consistency_path, inclusion_path, leaf_hash, root_of
from emdi.note import NoteSigner, sign_note
from emdi.policy import parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import Prefix, ProofFile, ProvenLeaf, format_proof, parse_proof
from emdi.scope import parse_scope
from stackwitness_client.verify import verify_bundle
from tests.conformance.make_history import Case, b64, code_of
from tests.emdi import making, test_bundle
from tests.emdi.making import SALT, START_MS, STN, Log, seed


def _small_log() -> Log:
    """Return a log small enough to publish: two keys, a flag, a decision, a limit, two epochs."""
    log = Log()
    log.genesis()
    log.let_officers_in()
    log.register_key(log.station)
    log.envelope(count=1)
    log.review(log.flag(), "Send someone.")
    old, log.station = log.station, making.SteadyKey.of_word("station b", "mill-1-b")
    log.register_key(log.station, old)
    log.envelope(count=1)
    log.envelope(ep=1, count=1)
    limit = {"stn": STN, "channel": "nox-0", "old": 50, "new": 35, "from_ms": START_MS}
    log.explain("limit.change", limit, "The permit of 2026.", "operator-1")
    return log


@cache
def published_log() -> tuple[Log, dict[str, bytes]]:
    """Return that log with the members of the bundle over all of it."""
    log = _small_log()
    return log, making.members_of(log)


def proof_files() -> list[Case]:
    """Return proof files held against a policy: what is proven, and what only looks so."""
    log, _ = published_log()
    leaves, idx = log.leaves(), next(n for n, data in enumerate(log.entries) if data[4] == 1)
    policy = log.policy
    forked = [*leaves[:-1], leaf_hash(b"another"), leaf_hash(b"later")]
    note = sign_note(Checkpoint(making.ORIGIN, len(forked), root_of(forked)).text(), log.log_key)
    prefix = Prefix(len(leaves), root_of(forked[: len(leaves)]), tuple(consistency_path(forked, len(leaves))))
    fork = ProofFile("fork", "two trees", START_MS, (note, log.checkpoint()), (), prefix)
    seen: dict[str, Any] = {
        "stn": STN,
        "channel": "nox-0",
        "at_ms": START_MS,
        "shown": {"value": 4.5, "status": "N", "revisions": 0},
    }
    leaf = ProvenLeaf(idx, log.entries[idx], tuple(inclusion_path(leaves, idx)))
    value = ProofFile("value", "edited", START_MS, (log.checkpoint(),), (leaf,), None, seen)
    true = {**seen, "shown": {**seen["shown"], "value": 40.25}}
    files = [format_proof(item) for item in (
        value, fork, ProofFile("value", "not edited", START_MS, (log.checkpoint(),), (leaf,), None, true),
        ProofFile("fork", "no prefix", START_MS, fork.notes), ProofFile("value", "no leaf", START_MS, value.notes, (), None, seen),
    )]  # fmt: skip
    forms: list[Case] = [
        {"v": 2},
        {"type": "opinion"},
        {"notes": "x"},
        {"made_ms": -1},
        {"observed": []},
        {"more": 1},
    ]
    files += [
        json.dumps({**json.loads(format_proof(ProofFile("stale", "s", 0))), **form}).encode()
        for form in forms
    ]
    return [
        {"policy": policy, "file": data.decode(), "error": code_of(judge_proof, data, policy)}
        for data in files
    ]


def judge_proof(data: bytes, policy: str) -> None:
    """Read a proof file and hold it against a policy."""
    check_proof(parse_proof(data), parse_policy(policy))


def scopes() -> list[Case]:
    """Return scope.json as it must be, and much that it must not be."""
    items = [published_log()[1]["scope.json"], *test_bundle.SCOPES]
    return [{"input_b64": b64(item), "error": code_of(parse_scope, item)} for item in items]


ROWS: list[tuple[float | None, str]] = [
    (40.0, "N"),
    (1e-07, "N"),
    (1e22, "T"),
    (0.1 + 0.2, "N"),
    (-0.0, "C"),
    (None, "D"),
]


def tables() -> list[Case]:
    """Return rows of tables, and lines of disclosures with the digest that an event must hold."""
    cases: list[Case] = []
    for value, status in ROWS:
        fields = (3, "s", 0, 1, 1_767_323_045_678, "NOX", "mg/m3", value, status)
        cases.append({"reading": fields, "row": bundle.readings_csv_row(*fields), "error": None})
    for typ, data in [
        ("evidence.viewed", {"what": "flag", "id": "s-1"}),
        ("export.made", {"export_id": "e,1"}),
    ]:
        event = {"idx": 3, "subj": "station:s", "typ": typ, "ts": START_MS, "act": "auditor-1", "data": data}
        error = code_of(custody_row, event)
        cases.append({"custody": event, "row": None if error else custody_row(event), "error": error})
    good = bundle.Disclosure(bytes(range(32)), SALT, "Send someone. \u6c2e")
    line = bundle.format_disclosure(good)
    lines = [
        line,
        line.replace('"salt"', '"sold"'),
        line.replace("000102", "00010"),
        line.replace('"text":"S', '"text":"\\ud800S'),
        "[]\n",
        "",
    ]
    for item in lines:
        error = code_of(bundle.parse_disclosure, item)
        digest = None if error else bundle.parse_disclosure(item).digest.hex()
        cases.append({"disclosure": item, "sha256": digest, "error": error})
    return cases


def custody_row(event: Case) -> str:
    """Return the row of custody.csv that an event of custody gives."""
    return bundle.custody_csv_row(*(event[name] for name in ("idx", "subj", "typ", "ts", "act", "data")))


NAMES = [
    "MANIFEST", "heads/0", "heads/17.proof", "anchors/17.note", "anchors/17.proof", "anchors/17.0.tsr", "anchors/tsa-chain.pem",
    "detector-state/mill-1.bin", "readings.parquet", "heads/017", "heads/-1", "heads/17.Proof", "heads/", "anchors/17.10.tsr",
    "anchors/17.tsr", "anchors/x.note", "anchors/../17.note", "detector-state/.bin", "detector-state/a/b.bin", "/MANIFEST",
    "manifest", "MANIFEST\n", "heads/\u0661", "detector-state/" + "a" * 65 + ".bin", "readings.csv ",
]  # fmt: skip


def names() -> list[Case]:
    """Return names of members, and names that are none."""
    return [{"name": name, "member": is_member(name)} for name in NAMES]


def _strange(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("../README.txt", "README.txt"):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), members["README.txt"])
    return target.getvalue()


@cache
def bundle_files() -> dict[str, bytes]:
    """Return the published bundles: one that holds, one edited, one that lacks an envelope, one that is no bundle."""
    log, honest = published_log()
    edited = {**honest, "readings.csv": honest["readings.csv"].replace(b",40.25,", b",4.25,", 1)}
    making.remanifest(edited)
    last = max(idx for idx, data in enumerate(log.entries) if data[4] == 1)
    lacking = making.members_of(log, without=frozenset({last}))
    return {
        "honest.emdi.zip": making.zip_of(honest).getvalue(),
        "reading-edited.emdi.zip": making.zip_of(edited).getvalue(),
        "last-envelope-left-out.emdi.zip": making.zip_of(lacking).getvalue(),
        "strange-member.emdi.zip": _strange(honest),
    }


def bundles() -> list[Case]:
    """Return how each bundle is judged: exit code, state of each step, what was found and where."""
    log, _ = published_log()
    other = f"log {NoteSigner(making.ORIGIN, seed('other')).vkey}\nquorum none\n"
    leaves = log.leaves()
    known = sign_note(Checkpoint(making.ORIGIN, 4, root_of(leaves[:4])).text(), log.log_key)
    fork = sign_note(Checkpoint(making.ORIGIN, 4, bytes(32)).text(), log.log_key)
    cases: list[tuple[str, str, str | None]] = [(name, log.policy, None) for name in bundle_files()]
    cases += [("honest.emdi.zip", other, None)]
    cases += [("honest.emdi.zip", log.policy, note.decode()) for note in (known, fork)]
    return [judge_bundle(*case) for case in cases]


def judge_bundle(file: str, policy: str, known: str | None, data: io.BytesIO | None = None) -> Case:
    """Verify a bundle (`data`, else the one made here) and return the case, texts for people left out."""
    opened: Any = data or io.BytesIO(bundle_files()[file])
    report = verify_bundle(opened, policy, known.encode() if known else None)
    found = [
        {name: value for name, value in finding.to_json().items() if name != "message"}
        for finding in report.findings
    ]
    states = {str(step.number): step.state for step in report.steps}
    case = {"file": file, "policy": policy, "known": known, "exit_code": report.exit_code}
    return {**case, "counts": report.counts, "steps": states, "findings": found}
