"""The parsers that meet foreign bytes, each as a function of bytes from which only EmdiError may escape."""

import io
import json
from collections.abc import Callable
from dataclasses import replace

from emdi import bundle, tiles
from emdi.checkpoint import Checkpoint, open_checkpoint
from emdi.encoding import dump_json, load_json
from emdi.entry import parse_entry
from emdi.envelope import parse_columns, parse_envelope
from emdi.errors import EmdiError, EncodingError
from emdi.event import Event, parse_event, verify_key_proof
from emdi.head import format_head, head_root, parse_head, verify_line
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.layout import anchors_in, heads_in, is_member
from emdi.merkle import root_of
from emdi.note import NoteSigner, VerifierKey, format_note, parse_note, sign_note, verify_note
from emdi.policy import format_policy, parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import ProofFile, format_proof, parse_proof
from emdi.receipt import verify_receipt
from emdi.report import make_report
from emdi.runs import RunChain, parse_run
from emdi.scope import officers_of, parse_scope
from emdi.shard import Previous, chains_of, parse_previous
from emdi.witness import CosignatureRequest, format_request, parse_request, parse_size, take_cosignatures
from stackwitness_client.verify import verify_bundle
from stackwitness_detectors import DetectorError
from stackwitness_detectors.codec import decode_state, encode_state, state_hash
from tests.conformance.make_history import KIND_6_LINE, LEAVES, runs
from tests.emdi.making import START_MS, Log, honest_log, members_of, seed, zip_of
from tests.fuzz.sealed_log import read_sealed_log, script_of

# The error that a parser may raise beside EmdiError, where it belongs to another package.
OWN_ERRORS: dict[str, type[Exception]] = {"detector state": DetectorError}
LOG = honest_log()
MEMBERS = members_of(LOG)
POLICY = parse_policy(LOG.policy)
JWS = LOG.envelopes[0].jws
KEY = LocalKey.generate("Ed25519", "k")
WITNESS = NoteSigner("witness.example/1", bytes(32), 4)


def fork_proof() -> bytes:
    """Return the file that proves two trees of one size."""
    entries = [*LOG.leaves()[:-1], bytes(32)]
    other = sign_note(
        Checkpoint(LOG.log_key.verifier.name, len(entries), root_of(entries)).text(), LOG.log_key
    )
    return format_proof(ProofFile("fork", "two trees", 0, (LOG.checkpoint(), other)))


def read_zip(data: bytes) -> None:
    with bundle.BundleReader(io.BytesIO(data)) as reader:
        for name in reader.sizes:
            for _ in reader.lines(name):
                pass


def read_tables(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for parse in (bundle.parse_disclosure, bundle.parse_proof):
        try:
            parse(text)
        except EmdiError:
            continue


AS_OF, HEAD_LINES = max(LOG.heads.items())
PREVIOUS = Previous(LOG.log_key.verifier.name, 9, bytes(32), head_root(HEAD_LINES))
STRONG = NoteSigner("pq.example", seed("pq"), 6)
COSIGNED = format_note(
    Checkpoint("log.example/1", 9, root_of(LEAVES)).text(), [KIND_6_LINE.read_text(encoding="utf-8")]
)


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def read_line_proof(data: bytes) -> None:
    """A line of a head and, after the first newline, its proof as a bundle holds it."""
    line, _, proof = text_of(data).partition("\n")
    index, path = bundle.parse_proof(proof)
    verify_line(line, index, len(HEAD_LINES), path, head_root(HEAD_LINES))


def read_genesis(data: bytes) -> None:
    members = KeyRing().take_genesis(0, data)
    if "previous" in members:
        parse_previous(members["previous"])


def genesis() -> bytes:
    log = Log()
    log.genesis()
    members = {**json.loads(parse_entry(log.entries[0]).body), "previous": PREVIOUS.members()}
    return dump_json(members)


def with_data(event: Event, data: bytes) -> Event:
    """Return the event with other data, as its signer could have put there."""
    members = load_json(data)
    if not isinstance(members, dict):
        raise EncodingError("json.form", "data is an object")
    return replace(event, data=members)


def read_key_event(data: bytes) -> None:
    ring = KeyRing()
    request, register, rotate = (event for event in LOG.events if event.typ.startswith("key."))
    for event in (request, with_data(register, data), with_data(rotate, data)):
        try:
            ring.take_event(1, event)
        except EmdiError:
            continue
    officers_of(with_data(register, data))


def read_run(data: bytes) -> None:
    event = with_data(replace(LOG.events[0], typ="detector.run"), data)
    RunChain(complete=True).take_event(event)
    RunChain(complete=True).take_event(replace(event, typ="late.arrival"))
    parse_run(event)


def read_custody(data: bytes) -> None:
    members = load_json(data)
    for typ in ("evidence.viewed", "export.made"):
        try:
            bundle.custody_csv_row(1, "station:s", typ, START_MS, "auditor-1", members)
        except (KeyError, TypeError):  # the caller names the event
            continue


def read_names(data: bytes) -> None:
    names = text_of(data).split("\n")
    known = [name for name in names if is_member(name)]
    heads_in(known)
    anchors_in(known)


def read_state(data: bytes) -> None:
    state_hash(data)
    decode_state(data)


def read_report(data: bytes) -> None:
    """readings.csv, then after an empty line flags' disclosures, as a forger could leave them."""
    table, _, texts = data.partition(b"\n\n")
    make_report(
        bundle.BundleReader(zip_of({**MEMBERS, "readings.csv": table + b"\n", "disclosures.jsonl": texts}))
    )


MORE: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "head": (lambda data: head_root(parse_head(data)), format_head(HEAD_LINES)),
    "line proof": (
        read_line_proof,
        (HEAD_LINES[0] + "\n" + MEMBERS[f"heads/{AS_OF}.proof"].decode().split("\n")[0]).encode(),
    ),
    "genesis": (read_genesis, genesis()),
    "previous head": (lambda data: chains_of(PREVIOUS, data), format_head(HEAD_LINES)),
    "key event": (read_key_event, dump_json(LOG.events[2].data)),
    "run": (read_run, json.dumps(runs()[0]["items"][3]["data"]).encode()),
    "custody row": (read_custody, b'{"what":"flag","id":"s-1","export_id":"e-1"}'),
    "member names": (
        read_names,
        b"heads/15\nheads/15.proof\nanchors/15.0.tsr\nanchors/15.note\ndetector-state/s.bin",
    ),
    "detector state": (read_state, encode_state({"a": [1, 2.5], "b": "c"})),
    "report": (read_report, MEMBERS["readings.csv"] + b"\n" + MEMBERS["disclosures.jsonl"]),
    "witness size": (parse_size, b"1234\n"),
    "policy of kind 6": (
        lambda data: parse_policy(text_of(data)),
        f"{LOG.policy.splitlines()[0]}\nwitness w {STRONG.vkey}\nquorum w\n".encode(),
    ),
    "cosignature 6": (lambda data: verify_note(data, [STRONG.verifier]), COSIGNED),
}
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "note": (parse_note, sign_note("hello\n", LOG.log_key)),
    "vkey": (lambda data: VerifierKey.parse(data.decode("utf-8", "replace")), LOG.log_key.vkey.encode()),
    "checkpoint": (lambda data: open_checkpoint(data, POLICY), LOG.checkpoint()),
    "policy": (lambda data: parse_policy(data.decode("utf-8", "replace")), format_policy(POLICY).encode()),
    "witness request": (parse_request, format_request(CosignatureRequest(1, (bytes(32),), LOG.checkpoint()))),
    "witness answer": (
        lambda data: take_cosignatures(parse_note(LOG.checkpoint()), data, (WITNESS.verifier,)),
        WITNESS.cosign(parse_note(LOG.checkpoint()).text, 1_790_000_000).encode(),
    ),
    "receipt": (lambda data: verify_receipt(data, JWS, POLICY), MEMBERS["export.tlog-proof"]),
    "json": (load_json, LOG.envelopes[0].payload),
    "envelope": (parse_envelope, JWS),
    "columns": (parse_columns, JWS),
    "event": (parse_event, LOG.events[0].jws),
    "key proof": (
        lambda data: verify_key_proof(data.decode("utf-8", "replace"), stn="s", kid="k", key=KEY.public),
        JWS,
    ),
    "entry": (parse_entry, LOG.entries[3]),
    "entry bundle": (tiles.decode_bundle, tiles.encode_bundle(LOG.entries[:2])),
    "tile path": (
        lambda data: tiles.parse_tile_path(data.decode("utf-8", "replace")),
        b"tile/0/x001/067.p/8",
    ),
    "proof file": (lambda data: check_proof(parse_proof(data), POLICY), fork_proof()),
    "entries.bin": (lambda data: list(bundle.iter_entries(io.BytesIO(data))), MEMBERS["entries.bin"]),
    "manifest": (bundle.parse_manifest, MEMBERS["MANIFEST"]),
    "scope": (parse_scope, MEMBERS["scope.json"]),
    "tables": (read_tables, MEMBERS["disclosures.jsonl"]),
    "zip": (read_zip, zip_of(MEMBERS).getvalue()),
    "verifier": (lambda data: verify_bundle(io.BytesIO(data), LOG.policy), zip_of(MEMBERS).getvalue()),  # type: ignore[arg-type]
    "sealed log": (read_sealed_log, script_of(LOG)),
    **MORE,
}


def run(name: str, data: bytes) -> None:
    """Feed one input to one parser; anything but an EmdiError escapes."""
    try:
        PARSERS[name][0](data)
    except (EmdiError, OWN_ERRORS.get(name, EmdiError)):
        return
