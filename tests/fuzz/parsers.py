"""The parsers that meet foreign bytes, each as a function of bytes from which only EmdiError may escape."""

import io
from collections.abc import Callable

from emdi import bundle, tiles
from emdi.checkpoint import Checkpoint, open_checkpoint
from emdi.encoding import load_json
from emdi.entry import parse_entry
from emdi.envelope import parse_columns, parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event, verify_key_proof
from emdi.keys import LocalKey
from emdi.merkle import root_of
from emdi.note import NoteSigner, VerifierKey, parse_note, sign_note
from emdi.policy import format_policy, parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import ProofFile, format_proof, parse_proof
from emdi.receipt import verify_receipt
from emdi.scope import parse_scope
from emdi.witness import CosignatureRequest, format_request, parse_request, take_cosignatures
from stackwitness_client.verify import verify_bundle
from tests.emdi.making import honest_log, members_of, zip_of

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
}


def run(name: str, data: bytes) -> None:
    """Feed one input to one parser; anything but an EmdiError escapes."""
    try:
        PARSERS[name][0](data)
    except EmdiError:
        return
