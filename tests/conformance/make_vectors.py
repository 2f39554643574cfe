"""Make the published vectors of the format: `python -m tests.conformance.make_vectors` writes tests/conformance/vectors.

Each file is one JSON object: what the cases are, then the cases, a line each. A case says what goes in and either what
comes out or the `error` code it must be refused with. Bytes stand in base64 (names end in _b64), hashes in hex.
"""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from emdi import tiles
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_decode, b64u_decode, b64u_encode, load_json, parse_uint
from emdi.entry import encode_entry, parse_entry
from emdi.envelope import parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event, seal_event, seal_key_proof, verify_key_proof
from emdi.keys import LocalKey, PublicKey
from emdi.merkle import inclusion_path, leaf_hash, root_of
from emdi.note import NoteSigner, format_note, parse_note, sign_note
from emdi.policy import parse_policy
from emdi.receipt import Receipt, format_receipt, parse_receipt, verify_receipt
from tests.conformance import make_exports, make_governance, make_history
from tests.conformance.make_merkle import consistency_probes, flip, inclusion_probes
from tests.emdi import test_must_fail as stations
from tests.emdi import test_must_fail_log as logs
from tests.emdi.making import seed

FOLDER = Path(__file__).parent / "vectors"
MAX_INPUT_BYTES = 4096
Case = dict[str, Any]


def code_of(call: Any, *arguments: object, **options: object) -> str | None:
    """Return the code a call is refused with; None when it goes through."""
    try:
        call(*arguments, **options)
    except EmdiError as error:
        return error.code
    return None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _inputs(items: Iterable[bytes], call: Any) -> list[Case]:
    return [
        {"input_b64": _b64(item), "error": code_of(call, item)}
        for item in items
        if len(item) <= MAX_INPUT_BYTES
    ]


def texts() -> list[Case]:
    """Return spellings of numbers, base64 and base64url: one is right."""
    samples = {
        "uint": (["0", "7", "10", str(2**63 - 1), "007", "1_000", " 5", "5\n", "+7", "-1", "\u0663", "", "1e3", str(2**63)],
                 lambda text: str(parse_uint(text, "encoding.uint"))),
        "b64": (["", "AA==", "AAA=", "AAAA", "+/+/", "AB==", "AAB=", "AA", "A A=", "AAA\n", "_-8="],
                lambda text: b64_decode(text).hex()),
        "b64u": (["", "AA", "AAA", "AAAA", "-_-_", "AB", "AA==", "AA=", "A A", "AAAA\n", "+/+/"],
                 lambda text: b64u_decode(text).hex()),
    }  # fmt: skip
    cases = []
    for form, (values, read) in samples.items():
        for text in values:
            error = code_of(read, text)
            cases.append({"form": form, "text": text, "error": error, "value": None if error else read(text)})
    return cases


def json_texts() -> list[Case]:
    """Return JSON that is I-JSON, and much that is not."""
    good = [
        b"{}",
        b'{"a":[1,2.50,-0.5e-3]}',
        b"[" * 8 + b"]" * 8,
        b"[9007199254740991]",
        '"\u00e9\U0001f32b"'.encode(),
    ]
    return _inputs([*good, *(data for data, _ in stations.JSON_FAULTS)], load_json)


def envelopes() -> list[Case]:
    """Return envelopes signed by the key `station`: well-formed ones, then every fault of header, claim and form."""
    good = [
        stations.claims(),
        stations.claims(cp=[7, stations.ZEROS], ep=3),
        stations.claims(skip={"from": 0, "to": 4, "why": "power"}, seq=5),
        stations.claims(
            p=[*stations.record(), {"n": "so2", "u": "mg/m3", "vs": "missing", "st": "D", "t": 0.5}]
        ),
    ]
    jws = [stations.sealed(payload) for payload in good]
    jws += [stations.sealed(stations.claims(), header) for header, _ in stations.HEADERS]
    jws += [stations.sealed(stations.claims(**changes)) for changes, _ in stations.CLAIM_FAULTS]
    jws += [form for form, _ in stations.FORMS]
    cases = _inputs(jws, parse_envelope)
    for case in cases:
        if case["error"] is None:
            envelope = parse_envelope(base64.b64decode(case["input_b64"]))
            case |= {
                "env_id": envelope.env_id.hex(),
                "stn": envelope.stn,
                "ep": envelope.ep,
                "seq": envelope.seq,
            }
            case["records"] = [
                [
                    item.name,
                    item.at_ms,
                    item.unit,
                    None if item.value is None else str(item.value),
                    item.status,
                ]
                for item in envelope.records
            ]
    return cases


def events() -> list[Case]:
    """Return events signed by the key `station` (any key will do for the form)."""
    place: dict[str, Any] = {"subj": "station:s", "act": "system", "ts_ms": 5}
    first = seal_event(
        stations.KEY, typ="flag.raised", sseq=0, sprev=bytes(32), data={"e": 0.25}, ref=(3, "a"), **place
    )
    second = seal_event(stations.KEY, typ="key.revoke", sseq=1, sprev=first.event_id, data={}, **place)
    faults = [{**stations.EVENT, name: value} for name, value in stations.EVENT_FAULTS]
    spoilt = [stations.sign_jws(stations.KEY, "emdi-ev+jws", json.dumps(item).encode()) for item in faults]
    cases = _inputs([first.jws, second.jws, *spoilt], parse_event)
    for case, event in zip(cases, (first, second), strict=False):
        case |= {
            "event_id": event.event_id.hex(),
            "subj": event.subj,
            "sseq": event.sseq,
            "sprev": event.sprev.hex(),
        }
    return cases


def key_proofs() -> list[Case]:
    """Return a proof of possession, held against four claims."""
    thief = LocalKey.from_seed(seed("thief"), "k-1")
    proof = seal_key_proof(stations.KEY, "s")
    claims = [
        ("s", "k-1", stations.KEY),
        ("t", "k-1", stations.KEY),
        ("s", "k-2", stations.KEY),
        ("s", "k-1", thief),
    ]
    return [
        {
            "proof_b64": _b64(proof.encode()), "stn": stn, "kid": kid, "public_b64u": b64u_encode(key.public.raw),
            "error": code_of(verify_key_proof, proof, stn=stn, kid=kid, key=key.public),
        }
        for stn, kid, key in claims
    ]  # fmt: skip


def signatures() -> list[Case]:
    """Return signatures of both algorithms over one text; the ES256 twin holds too, which is why ids leave it out."""
    text, order = b"signed text", 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    private = ec.derive_private_key(int.from_bytes(seed("p-256"), "big") % order, ec.SECP256R1())
    der = private.sign(text, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    low, twin = (number.to_bytes(32, "big") for number in (s, order - s))
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    first = r.to_bytes(32, "big")
    p256 = [first + low, first + twin, low + first, bytes(64), (first + low)[:63], first + low + b"\0", der]
    ed = stations.KEY.sign(text)
    ed25519 = [ed, flip(ed), flip(ed, 511), bytes(64), ed[:63], ed + b"\0"]
    cases = []
    for alg, raw, samples in (("Ed25519", stations.KEY.public.raw, ed25519), ("ES256", point, p256)):
        public = PublicKey.from_bytes(alg, raw)
        for item in samples:
            case = {
                "alg": alg,
                "public_b64u": b64u_encode(raw),
                "text_b64": _b64(text),
                "signature_b64": _b64(item),
            }
            cases.append({**case, "holds": public.verify(item, text)})
    return cases


def paths() -> list[Case]:
    """Return paths of tiles and bundles."""
    good = [
        "tile/0/000",
        "tile/0/000.p/1",
        "tile/63/999",
        "tile/0/x001/x234/067.p/8",
        "tile/entries/x001/000.p/255",
    ]
    cases = []
    for path in [*good, *logs.PATHS]:
        error = code_of(tiles.parse_tile_path, path)
        cases.append(
            {"path": path, "error": error, "value": None if error else list(tiles.parse_tile_path(path))}
        )
    return cases


def bundles() -> list[Case]:
    """Return entry bundles."""
    good = [tiles.encode_bundle([b"a"]), tiles.encode_bundle([b"one", b"two" * 100])]
    return _inputs([*good, *logs.BUNDLES], tiles.decode_bundle)


def entries() -> list[Case]:
    """Return log entries."""
    good = [encode_entry(kind, 1790000000900, b"body") for kind in range(4)]
    cases = _inputs([*good, *logs.ENTRIES], parse_entry)
    for case, data in zip(cases, good, strict=False):
        case["leaf"] = leaf_hash(data).hex()
    return cases


def notes() -> list[Case]:
    """Return signed notes, by form only."""
    return _inputs([logs.NOTE, *(data for data, _ in logs.NOTE_FAULTS)], parse_note)


def policies() -> list[Case]:
    """Return policy files, and checkpoints held against one that wants two of three witnesses."""
    cases: list[Case] = [
        {"policy": text, "checkpoint_b64": None, "error": code_of(parse_policy, text)}
        for text in [
            logs.L + "quorum none\n",
            logs.L + logs.W + "quorum w\n",
            *(text for text, _ in logs.POLICIES),
        ]
        if len(text) <= MAX_INPUT_BYTES
    ]
    witnesses = [NoteSigner(f"w{n}.example", seed(f"w{n}"), 4) for n in range(3)]
    text = logs.L + "".join(f"witness w{n} {item.vkey}\n" for n, item in enumerate(witnesses))
    text += "group any-two 2 w0 w1 w2\nquorum any-two\n"
    body = Checkpoint("log.example/1", 1, leaf_hash(b"a")).text()
    signed, lines = logs.LOG.sign(body), [item.cosign(body, 1790000000) for item in witnesses]
    forged = lines[1].replace("w1.example", "w0.example")
    notes_of = [
        [signed, *lines],
        [signed, *lines[:2]],
        [signed, lines[2]],
        [signed],
        lines,
        [signed, lines[0], forged],
    ]
    for chosen in notes_of:
        note = format_note(body, chosen)
        error = code_of(parse_policy(text).check, note)
        cases.append({"policy": text, "checkpoint_b64": _b64(note), "error": error})
    return cases


def receipts() -> list[Case]:
    """Return receipts of envelope 2 of three, held against the policy and the envelope, then spoilt."""
    jws = [stations.sealed(stations.claims(seq=0, iat=n)) for n in range(3)]
    data = [encode_entry(1, 1790000000900 + n, item) for n, item in enumerate(jws)]
    leaves = [leaf_hash(item) for item in data]
    note = sign_note(Checkpoint("log.example/1", 3, root_of(leaves)).text(), logs.LOG)
    good = format_receipt(Receipt(data[1][:13], 1, tuple(inclusion_path(leaves, 1)), note))
    policy_text = f"log {logs.LOG.vkey}\nquorum none\n"
    policy = parse_policy(policy_text)
    spoilt = [
        good.replace(b"index 1", b"index 2"),
        good.replace(b"\n3\n", b"\n4\n"),
        good.replace(b"extra R", b"extra S"),
    ]
    cases = [
        {"receipt_b64": _b64(item), "envelope_b64": _b64(body), "policy": policy_text,
         "error": code_of(verify_receipt, item, body, policy)}
        for item, body in [(good, jws[1]), (good, jws[0]), *((item, jws[1]) for item in spoilt)]
    ]  # fmt: skip
    for item in logs.RECEIPTS:
        if len(item) <= MAX_INPUT_BYTES:
            cases.append(
                {
                    "receipt_b64": _b64(item),
                    "envelope_b64": None,
                    "policy": None,
                    "error": code_of(parse_receipt, item),
                }
            )
    return cases


FILES = {
    "texts": ("One spelling of numbers, base64 and base64url (formats.md, opening)", texts),
    "json": ("I-JSON as payloads must be (formats.md 1)", json_texts),
    "envelope": (
        "Envelopes: form, header, claims, pack; signatures are not judged (formats.md 1, 2)",
        envelopes,
    ),
    "event": ("Events: form, header, claims (formats.md 3)", events),
    "key_proof": ("Proofs of possession (formats.md 3)", key_proofs),
    "signature": ("Signatures of both algorithms (formats.md 1)", signatures),
    "entry": ("Log entries and their leaf hashes (formats.md 4)", entries),
    "inclusion": ("Inclusion proofs, RFC 9162 2.1.3.2; leaf i is the byte i", inclusion_probes),
    "consistency": ("Consistency proofs, RFC 9162 2.1.4.2; leaf i is the byte i", consistency_probes),
    "tile_path": ("Paths of tiles: level (-1 entries), number, width (formats.md 4)", paths),
    "tile_bundle": ("Entry bundles (formats.md 4)", bundles),
    "note": ("Signed notes: form only (formats.md 4)", notes),
    "policy": ("Policies, and checkpoints held against them (formats.md 4)", policies),
    "receipt": ("Receipts (formats.md 4)", receipts),
    "genesis": ("Bodies of leaf 0 (formats.md 4)", make_history.geneses),
    "cosignature": (
        "Cosignatures of kinds 4 and 6 over checkpoints (formats.md 4)",
        make_history.cosignatures,
    ),
    "witness": (
        "What a witness in a given state answers to add-checkpoint (formats.md 4); leaf i is the byte i",
        make_history.witnesses,
    ),
    "head": ("Heads of the log: files, roots, proofs of lines (formats.md 5)", make_history.heads),
    "key_life": (
        "A log of key events, each taken or refused by code; then keys at log indexes (formats.md 6)",
        make_history.key_life,
    ),
    "service_keys": (
        "A log of changes of the service's key, each taken or refused by code; then keys at log indexes (formats.md 6)",
        make_governance.service_keys,
    ),
    "policy_change": (
        "What a policy.change must say to count (formats.md 3, 4)",
        make_governance.policy_changes,
    ),
    "reasons": (
        "Events that name words by a salted hash, and lines of disclosures.jsonl (formats.md 3, 8)",
        make_governance.reasons,
    ),
    "officers": (
        "Claims of events in the order of the log; each by an account that holds the role, or refused (formats.md 6)",
        make_history.officers,
    ),
    "runs": (
        "Envelopes and detector.run events of one station in the order of the log; what each run shows (formats.md 7)",
        make_history.runs,
    ),
    "proof_file": ("Proof files held against a policy (formats.md 9)", make_exports.proof_files),
    "scope": ("scope.json (formats.md 8)", make_exports.scopes),
    "tables": ("Rows of the tables and lines of disclosures.jsonl (formats.md 8)", make_exports.tables),
    "member_name": ("Names of members of a bundle (formats.md 8)", make_exports.names),
    "bundle": ("Whole bundles and how each is judged (formats.md 8, 10)", make_exports.bundles),
}


def render(name: str) -> str:
    """Return the text of one vector file."""
    about, make = FILES[name]
    lines = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in make())
    return f'{{"about": {json.dumps(about)},\n "cases": [\n{lines}\n]}}\n'


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8")
    for name, data in make_exports.bundle_files().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
