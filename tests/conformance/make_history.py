"""Vectors of what grows with the log: heads, witnesses, cosignatures, leaf 0, keys, runs of the detectors.

Run by `tests.conformance.make_vectors`; the cases say themselves what goes in and what comes out.
"""

import base64
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode, dump_json
from emdi.envelope import ZERO_HASH
from emdi.errors import EmdiError
from emdi.event import Event, seal_event, seal_key_proof, seal_succession
from emdi.head import format_head, head_root, line_proof, parse_head, station_line, subject_line
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.merkle import consistency_path, empty_root, leaf_hash, root_of
from emdi.note import NoteSigner, VerifierKey, format_note, sign_note, verify_note
from emdi.officers import Officers
from emdi.runs import RunChain, Span
from emdi.shard import Previous, parse_previous
from emdi.tables import salted_sha256
from emdi.witness import CosignatureRequest, Seen, format_request
from stackwitness_client.witness.cosigner import Cosigner, Reply
from stackwitness_client.witness.memory import WitnessMemory
from tests.emdi import test_head
from tests.emdi.making import START_MS, seed

Case = dict[str, Any]
NOW_S = 1_790_000_000
LOG = NoteSigner("log.example/1", seed("log"))
WITNESS = NoteSigner("w.example", seed("w"), 4)
LEAVES = [leaf_hash(bytes([number])) for number in range(9)]
SERVICE = LocalKey.from_seed(seed("service"), "service-1")
# What a reason is named by; its salt and words stand in no event.
WHY = salted_sha256(bytes(range(32)), "lost").hex()
# ML-DSA signs with randomness: this line was made once, and is verified each time.
KIND_6_LINE = Path(__file__).with_name("cosignature_kind_6.txt")


def code_of(call: Callable[..., object], *arguments: object) -> str | None:
    """Return the code a call is refused with; None when it goes through."""
    try:
        call(*arguments)
    except EmdiError as error:
        return error.code
    return None


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def heads() -> list[Case]:
    """Return the head of given last entries with every line's proof, lines that are not in it, and bad files."""
    ids = [bytes([number]) * 32 for number in range(5)]
    lines = [station_line(f"s-{n}", n, 7 * n, ids[n]) for n in range(3)]
    lines += [subject_line("log", 3, ids[3]), subject_line("station:s-1", 0, ids[4])]
    data = format_head(lines)
    cases: list[Case] = [
        {"head": data.decode(), "lines": len(lines), "root": head_root(lines).hex(), "error": None}
    ]
    for line in parse_head(data):
        index, path = line_proof(lines, line)
        cases.append(_line_case(line, index, len(lines), path, head_root(lines), None))
    index, path = line_proof(lines, lines[1])
    other = station_line("s-1", 1, 8, ids[1])
    for change in ((other, index), (lines[1], index + 1)):
        cases.append(_line_case(*change, len(lines), path, head_root(lines), "proof.inclusion"))
    cases.append({"head": "", "lines": 0, "root": empty_root().hex(), "error": None})
    for bad, _ in test_head.FAULTS:
        cases.append({"head_b64": b64(bad), "error": code_of(parse_head, bad)})
    return cases


def _line_case(line: str, index: int, count: int, path: list[bytes], root: bytes, error: str | None) -> Case:
    hashes = [item.hex() for item in path]
    return {"line": line, "index": index, "lines": count, "path": hashes, "root": root.hex(), "error": error}


def _note(size: int, signer: NoteSigner = LOG, root: bytes | None = None) -> bytes:
    return sign_note(Checkpoint(LOG.verifier.name, size, root or root_of(LEAVES[:size])).text(), signer)


def _ask(old: int, size: int, **changes: Any) -> bytes:
    proof = changes.get("proof", consistency_path(LEAVES[:size], old) if 0 < old < size else ())
    return format_request(CosignatureRequest(old, tuple(proof), changes.get("note", _note(size))))


def answer_of(seen_size: int, body: bytes) -> Reply:
    """Return what a witness with one log answers that has cosigned a tree of `seen_size` leaves of LEAVES."""
    with tempfile.TemporaryDirectory() as folder:
        memory = WitnessMemory(Path(folder, "witness.db"))
        memory.add_log(LOG.verifier)
        if seen_size:
            seen = Seen(seen_size, root_of(LEAVES[:seen_size]))
            memory.advance(LOG.verifier.name, Seen(), seen, NOW_S - 60, lambda time_s: _note(seen_size))
        return Cosigner(memory, [WITNESS], now_s=lambda: NOW_S).add_checkpoint(body)


def witnesses() -> list[Case]:
    """Return requests to a witness in a given state, and its answers."""
    stranger = NoteSigner("log.example/1", seed("thief"))
    elsewhere = sign_note(
        Checkpoint("log.example/2", 1, LEAVES[0]).text(), NoteSigner("log.example/2", seed("log"))
    )
    bodies = [
        (0, _ask(0, 1)), (0, _ask(0, 9)), (3, _ask(3, 7)), (4, _ask(4, 8)), (7, _ask(7, 7)),
        (3, _ask(0, 7)), (3, _ask(5, 7)), (7, _ask(3, 5)), (3, _ask(7, 5)),
        (3, _ask(3, 7, proof=consistency_path(LEAVES[:7], 3)[:-1])), (3, _ask(3, 7, proof=[bytes(32)] * 3)),
        (7, _ask(7, 7, note=_note(7, root=bytes(32)))), (0, _ask(0, 7, proof=[bytes(32)])),
        (0, _ask(0, 0, note=_note(0, root=bytes(32)))), (0, _ask(0, 0, note=_note(0, root=empty_root()))),
        (0, _ask(0, 1, note=_note(1, stranger))), (0, _ask(0, 1, note=elsewhere)),
        (0, b""), (0, _ask(0, 1).replace(b"old 0", b"old 00")), (0, _ask(0, 1).replace(b"old 0\n", b"old 0\nAAAA\n")),
        (0, _ask(0, 1)[:-1]),
    ]  # fmt: skip
    cases = []
    for seen_size, body in bodies:
        reply = answer_of(seen_size, body)
        told = reply.body.decode() if reply.status in (200, 409) else None
        state = {"size": seen_size, "root": root_of(LEAVES[:seen_size]).hex()}
        case = {
            "log": LOG.vkey,
            "witness": WITNESS.vkey,
            "state": state,
            "time_s": NOW_S,
            "body_b64": b64(body),
        }
        cases.append({**case, "status": reply.status, "media_type": reply.media_type, "answer": told})
    return cases


def cosignatures() -> list[Case]:
    """Return cosigned checkpoints of both kinds, held against the cosigner's key."""
    strong = NoteSigner("pq.example", seed("pq"), 6)
    text = Checkpoint(LOG.verifier.name, 9, root_of(LEAVES)).text()
    later = Checkpoint(LOG.verifier.name, 8, root_of(LEAVES[:8])).text()
    line = KIND_6_LINE.read_text(encoding="utf-8")
    weak = WITNESS.cosign(text, NOW_S)
    renamed = VerifierKey("other.example", 6, strong.verifier.public)
    cases = [(WITNESS.vkey, text, weak), (WITNESS.vkey, later, weak), (strong.vkey, text, line)]
    cases += [(strong.vkey, later, line), (renamed.format(), text, line)]
    return [_cosigned(vkey, format_note(body, [item])) for vkey, body, item in cases]


def _cosigned(vkey: str, note: bytes) -> Case:
    key = VerifierKey.parse(vkey)
    error = code_of(verify_note, note, [key])
    time_s = None if error else verify_note(note, [key]).times_s[0]
    return {"vkey": vkey, "note": note.decode(), "error": error, "time_s": time_s}


def _genesis(**changes: Any) -> bytes:
    members = {
        "v": 1, "origin": LOG.verifier.name, "policy": f"log {LOG.vkey}\nquorum none\n", "service_kid": SERVICE.kid,
        "service_public_b64u": b64u_encode(SERVICE.public.raw),
        "export_vkey": NoteSigner("log.example/1/export", seed("export")).vkey, "created_ms": START_MS,
    }  # fmt: skip
    return dump_json({name: value for name, value in {**members, **changes}.items() if value is not None})


def geneses() -> list[Case]:
    """Return bodies of leaf 0: what a verifier learns from each, or refuses."""
    ended = Previous("log.example/0", 9, root_of(LEAVES), bytes(32)).members()
    bodies = [
        _genesis(), _genesis(key_approvals=1), _genesis(previous=ended), _genesis(key_approvals=3),
        _genesis(key_approvals=0), _genesis(service_kid=None), _genesis(service_kid=5), _genesis(export_vkey="x"),
        _genesis(service_public_b64u="AA"), _genesis(origin=None), _genesis(origin="log.example/2"), b"[]", b"",
        _genesis(previous={**ended, "more": 1}), _genesis(previous={**ended, "size": 0}),
        _genesis(previous={**ended, "root_b64u": "AA"}),
    ]  # fmt: skip
    cases = []
    for body in bodies:
        officers = read_genesis(body) if code_of(read_genesis, body) is None else None
        cases.append({"body": body.decode(), "error": code_of(read_genesis, body), "officers": officers})
    return cases


def read_genesis(body: bytes) -> int:
    """Return how many officers a key needs, with everything of leaf 0 checked."""
    ring = KeyRing()
    members = ring.take_genesis(0, body, LOG.verifier.name)
    if "previous" in members:
        parse_previous(members["previous"])
    return ring.officers


def _event(
    typ: str, data: dict[str, Any], act: str = "officer-1", sseq: int = 0, subj: str = "station:S"
) -> Event:
    sprev = bytes([sseq]) * 32 if sseq else ZERO_HASH
    return seal_event(SERVICE, typ=typ, subj=subj, sseq=sseq, sprev=sprev, act=act, ts_ms=START_MS, data=data)


def _key(word: str, kid: str, stn: str = "S") -> tuple[LocalKey, dict[str, Any]]:
    key = LocalKey.from_seed(seed(word), kid)
    public = {"alg": key.public.alg, "public_b64u": b64u_encode(key.public.raw)}
    return key, {"stn": stn, "kid": kid, **public, "proof": seal_key_proof(key, stn)}


def _life() -> Iterator[Event]:
    """Yield the events of two keys, with every lie an officer or thief could log between them."""
    first, one = _key("station", "k-1")
    second, two = _key("next", "k-2")
    _, stolen = _key("thief", "k-1")
    request = _event("key.request", one)
    named = {"approvals": ["officer-1", "officer-2"], "request": request.event_id.hex()}
    yield _event("key.register", {**one, **named}, "officer-2")  # nobody has asked yet
    yield request
    yield _event("key.register", {**one, **named, "approvals": ["officer-1", "officer-1"]})
    yield _event("key.register", one, "officer-2")
    yield _event("key.register", {**one, **named, "approvals": ["officer-3", "officer-2"]}, "officer-2")
    yield _event("key.register", {**stolen, **named}, "officer-2")
    yield _event("key.register", {**one, **named, "proof": two["proof"]}, "officer-2")
    yield _event("key.register", {**one, **named}, "officer-2", subj="station:T")
    yield _event("key.register", {**one, **named}, "officer-2")  # the one that counts
    yield _event("key.register", {**one, **named}, "officer-2")
    proof = seal_succession(first, "S", "k-2", second.public)
    yield _event(
        "key.rotate",
        {**two, "old_kid": "k-1", "old_proof": seal_succession(second, "S", "k-2", second.public)},
    )
    yield _event("key.rotate", {**two, "old_kid": "k-0", "old_proof": proof})
    yield _event("key.rotate", {**two, "old_kid": "k-1", "old_proof": proof})  # so does this
    yield _event("key.revoke", {"kid": "k-9", "why_sha256": WHY})
    yield _event("key.compromise", {"kid": "k-2", "why_sha256": WHY, "suspect_from_idx": "12"})
    yield _event("key.compromise", {"kid": "k-2", "why_sha256": WHY, "suspect_from_idx": 15})
    yield _event("key.compromise", {"kid": "k-2", "why_sha256": WHY, "suspect_from_idx": 14})
    yield _event("key.compromise", {"kid": "k-2", "why_sha256": WHY, "suspect_from_idx": 16})


def key_life() -> list[Case]:
    """Return one log of key events, each taken or refused; then which key counts at which index."""
    ring = KeyRing()
    ring.take_genesis(0, _genesis())
    cases: list[Case] = []
    for idx, event in enumerate(_life(), 1):
        cases.append({"idx": idx, "event": event.jws.decode(), "error": code_of(ring.take_event, idx, event)})
    for kid, idx in (
        [("k-1", n) for n in (1, 9, 10, 13, 14)] + [("k-2", n) for n in (13, 14, 15, 16, 17)] + [("k-9", 9)]
    ):
        case = {"stn": "S", "kid": kid, "at_idx": idx, "suspect": ring.suspect("S", kid, idx)}
        cases.append({**case, "error": code_of(ring.station_key, "S", kid, idx)})
    cases.append(
        {
            "stn": "T",
            "kid": "k-1",
            "at_idx": 10,
            "suspect": False,
            "error": code_of(ring.station_key, "T", "k-1", 10),
        }
    )
    return cases


def _act(typ: str, act: str, at_ms: int = START_MS, **data: Any) -> Case:
    return {"typ": typ, "subj": "station:S", "act": act, "ts_ms": at_ms, "data": data}


def access_of(typ: str, account_id: str, **data: Any) -> Case:
    """Return the claims of an event on an account."""
    return {**_act(typ, "service:ops", account_id=account_id, **data), "subj": f"account:{account_id}"}


def officers() -> list[Case]:
    """Return events in the order of the log, each by somebody who holds the role it takes, or not."""
    acts = [
        _act("key.request", "ann"),
        access_of("access.grant", "ann", role="operator"),
        access_of("access.grant", "bo", role="operator"),
        access_of("access.grant", "cy", role="inspector"),
        {**access_of("access.grant", "dan", role="operator"), "subj": "account:ann"},
        _act("key.request", "ann"),
        _act("key.register", "bo", approvals=["ann", "bo"]),
        _act("key.register", "bo", approvals=["ann", "dan"]),
        _act("limit.change", "cy"),
        _act("review.decision", "cy"),
        _act("review.decision", "ann"),
        _act("epoch.ack", "cy"),
        access_of("access.grant", "cy", role="operator"),
        _act("limit.change", "cy"),
        access_of("access.revoke", "ann", why_sha256=WHY),
        _act("limit.change", "ann", START_MS + 60_000),
        _act("limit.change", "ann", START_MS + 60_001),
        _act("flag.raised", "system"),
    ]
    received = {len(acts) + 1: START_MS + 60_001}
    acts.append(_act("limit.change", "ann"))  # dated back, received after her end
    acts.append(_act("limit.change", "eve", approvals=["bo"]))  # only a new key has approvals
    received[len(acts) + 1] = START_MS
    acts.append(
        {**access_of("access.revoke", "bo", why_sha256=WHY), "ts_ms": START_MS + 10**9}
    )  # dated ahead
    acts.append(_act("limit.change", "bo", START_MS + 60_001))
    cases: list[Case] = [
        {"idx": idx, "recv_ms": received.get(idx, act["ts_ms"]), "event": act}
        for idx, act in enumerate(acts, 1)
    ]
    known = Officers()
    return [
        {**act, "error": code_of(known.take_event, act["idx"], act_of(act["event"]), act["recv_ms"])}
        for act in cases
    ]


def act_of(act: Case) -> Event:
    """Return an event with these claims."""
    return seal_event(SERVICE, sseq=0, sprev=ZERO_HASH, **act)


HOUR_MS = 3_600_000


def _run(hour: int, hours: int, before: str, after: str, span: tuple[int, int], **changes: Any) -> Event:
    data: dict[str, Any] = {
        "config_hash": "c" * 64, "version": "1", "from_ms": hour * HOUR_MS, "upto_ms": (hour + hours) * HOUR_MS,
        "input": {"ep_first": 0, "seq_first": span[0], "ep_last": 0, "seq_last": span[1], "count": 60 * hours},
        "state_before": before * 64, "state_after": after * 64, "findings": 0, "digest": "d" * 64,
    }  # fmt: skip
    return _event("detector.run", {**data, **changes}, "service:worker")


LATE = {"ep": 0, "seq": 6, "seq_last": 6, "envelopes": 1, "from_ms": HOUR_MS, "to_ms": 5 * HOUR_MS}
# Envelopes by seq, with the hour whose readings each carries: seq 6 brings hour 1 again, seq 8 hour 3.
HOURS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 1, 7: 6, 8: 3}


def runs() -> list[Case]:
    """Return the envelopes and runs of a station in the order of the log; each run with the faults it shows."""
    honest: list[int | Event] = [0, 1, 2, _run(0, 2, "", "1", (0, 1)), 3, 4, _run(2, 2, "1", "2", (2, 3))]
    later: list[int | Event] = [*honest, 5, _run(4, 1, "2", "3", (4, 4)), 6]
    # What came late is judged by going back to where an earlier run ended; from the run behind it nothing goes on.
    back = _run(2, 2, "1", "5", (2, 3))
    late = _event(
        "late.arrival", {**LATE, "seq": 8, "seq_last": 8, "from_ms": 3 * HOUR_MS, "to_ms": 4 * HOUR_MS}
    )
    chains: list[list[int | Event]] = [
        [*later, _event("late.arrival", LATE), 7, _run(5, 1, "3", "4", (5, 5))],
        [*later, 7, _run(5, 1, "3", "4", (5, 5))],
        [*honest, 5, 7, _run(5, 1, "2", "3", (5, 5))],
        [*honest, 5, _run(4, 1, "9", "3", (4, 4))],
        [*honest, _run(4, 1, "2", "3", (4, 4))],
        [*honest, 5, _run(4, 1, "2", "3", (3, 4))],
        [0, 1, 2, 3, 4, _run(2, 2, "1", "2", (2, 3))],
        [0, 1, 2, _run(0, 2, "", "1", (0, 1), digest="D")],
        [0, 1, 2, _run(0, 2, "", "1", (0, 1), input={})],
        # Twice is once too often: no late reading calls for it.
        [*honest, 8, late, back, back, 5, _run(4, 1, "2", "6", (4, 4))],
        # A late arrival before anything was judged.
        [0, 1, _event("late.arrival", {**LATE, "seq": 1, "seq_last": 1})],
    ]
    return [{"items": list(_judge(RunChain(complete=True), chain))} for chain in chains]


def _judge(chain: RunChain, items: list[int | Event]) -> Iterator[Case]:
    for item in items:
        if isinstance(item, Event):
            faults = [fault.code for fault in chain.take_event(item)]
            yield {"typ": item.typ, "data": item.data, "faults": faults}
        else:
            span = Span((0, item), HOURS[item] * HOUR_MS, (HOURS[item] + 1) * HOUR_MS - 60_000)
            chain.take_envelope(span)
            yield {"ep": 0, "seq": item, "first_ms": span.first_ms, "last_ms": span.last_ms}
