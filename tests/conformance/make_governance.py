"""Vectors of what governs a log: the key that signs its events, its policy, and why somebody did something.

Run by `tests.conformance.make_vectors`; the cases say themselves what goes in and what comes out.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from emdi.encoding import b64u_encode
from emdi.envelope import ZERO_HASH
from emdi.event import Event, parse_event, seal_event
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.note import NoteSigner
from emdi.policy import read_change
from emdi.service_keys import seal_service_proof
from emdi.tables import Disclosure, format_disclosure, parse_disclosure, salted_sha256
from tests.conformance.make_history import LOG, SERVICE, WHY, Case, code_of, geneses
from tests.emdi.making import START_MS, seed

NEXT = LocalKey.from_seed(seed("service-next"), "service-2")
THIEF = LocalKey.from_seed(seed("thief"), "service-2")
SALT = bytes(range(32))
# The members of data that name a text by its salted hash.
SALTED = ("reason_sha256", "why_sha256", "display_sha256")


def _event(
    key: LocalKey, typ: str, data: dict[str, Any], subj: str = "log", act: str = "operator-1"
) -> Event:
    return seal_event(key, typ=typ, subj=subj, sseq=0, sprev=ZERO_HASH, act=act, ts_ms=START_MS, data=data)


def _successor(new: LocalKey, old: LocalKey, prover: LocalKey) -> dict[str, Any]:
    public = {"alg": new.public.alg, "public_b64u": b64u_encode(new.public.raw)}
    proof = seal_service_proof(prover, LOG.verifier.name, old.kid, old.public)
    return {"kid": new.kid, **public, "old_kid": old.kid, "proof": proof}


def _suspect(key: LocalKey, kid: str, from_idx: object) -> Event:
    data = {"kid": kid, "suspect_from_idx": from_idx, "why_sha256": WHY}
    return _event(key, "service.compromise", data)


def _life() -> Iterator[Event]:
    """Yield the events of one change of the key, with the lies a thief of either could log around it."""
    honest = _successor(NEXT, SERVICE, NEXT)
    short = {**honest, "proof": ""}
    yield _event(NEXT, "service.key", {"kid": "service-3"})  # by a key that is none yet
    yield _suspect(SERVICE, "service-1", 1)  # the key in use
    yield _event(SERVICE, "service.key", _successor(NEXT, SERVICE, THIEF))
    yield _event(SERVICE, "service.key", {**short, "old_kid": "service-0"})
    yield _event(SERVICE, "service.key", {**short, "kid": "service-1"})
    yield _event(SERVICE, "service.key", {"kid": "service-2"}, subj="station:S")
    yield _event(SERVICE, "service.key", {"kid": "service-2"})
    yield _event(SERVICE, "service.key", honest)  # the one that counts
    yield _event(SERVICE, "service.key", {"kid": "service-3"})
    yield _event(NEXT, "service.key", {**short, "kid": "service-1", "old_kid": "service-2"})
    yield _suspect(NEXT, "service-9", 5)
    yield _suspect(NEXT, "service-1", "5")
    yield _suspect(SERVICE, "service-1", 5)
    for from_idx in (5, 4, 6):  # the lowest holds
        yield _suspect(NEXT, "service-1", from_idx)


def service_keys() -> list[Case]:
    """Return one log of changes of the service's key, each taken or refused; then which key counts where."""
    ring = KeyRing()
    ring.take_genesis(0, geneses()[0]["body"].encode())
    cases: list[Case] = []
    for idx, event in enumerate(_life(), 1):
        cases.append({"idx": idx, "event": event.jws.decode(), "error": code_of(ring.take_event, idx, event)})
    places = (
        [("service-1", n) for n in (1, 3, 4, 8, 9)]
        + [("service-2", n) for n in (7, 8, 9)]
        + [("service-9", 9)]
    )
    for kid, idx in places:
        suspect, error = ring.service.suspect(kid, idx), code_of(ring.service_key, kid, idx)
        cases.append({"kid": kid, "at_idx": idx, "suspect": suspect, "error": error})
    return cases


def policy_changes() -> list[Case]:
    """Return `data` of policy.change: it changes the policy of the log, or is refused and changes nothing."""
    text = f"log {LOG.vkey}\nquorum none\n"
    other = f"log {NoteSigner('log.example/2', seed('log')).vkey}\nquorum none\n"
    unread = [f"log {LOG.vkey}\n", text + "quorum none\n", "", other, text + "\ufeff"]
    changes: list[dict[str, Any]] = [
        {"policy": item, "sha256": hashlib.sha256(item.encode()).hexdigest()}
        for item in [text, other.replace("quorum none\n", "") + text, text + "# ours\n", *unread]
    ]
    good = changes[0]
    changes += [{**good, "sha256": WHY}, {**good, "sha256": good["sha256"].upper()}, {"policy": text}]
    changes += [{**good, "policy": [text]}, {"sha256": good["sha256"]}]
    return [
        {"origin": LOG.verifier.name, "data": data, "error": code_of(read_change, data, LOG.verifier.name)}
        for data in changes
    ]


def reasons() -> list[Case]:
    """Return events that bind words by their salted hash, each with lines that say the words, or others."""
    text = "Hearing of 3 March, \u9648\u8ff0"
    digest = salted_sha256(SALT, text)
    asked = {
        "export_id": "x1",
        "stns": ["S", "T"],
        "from_ms": START_MS,
        "to_ms": START_MS + 1,
        "entries": None,
    }
    events = [
        _event(SERVICE, "export.requested", {**asked, "redacted": False, "why_sha256": digest.hex()}, "station:S"),
        _event(SERVICE, "review.decision", {"review_id": "S-1", "flag_id": "S-0", "decision": "confirmed_odd",
                                            "reason_sha256": b64u_encode(digest)}, "station:S"),
    ]  # fmt: skip
    said = [(SALT, text), (SALT, text + " "), (SALT[::-1], text)]
    cases = []
    for number, event in enumerate(events):
        for salt, words in said if number == 0 else said[:1]:
            line = format_disclosure(Disclosure(event.event_id, salt, words))
            case = {"event": event.jws.decode(), "disclosure": line}
            cases.append({**case, "holds": binds(event, line)})
    return cases


def binds(event: Event, line: str) -> bool:
    """Tell whether a line of disclosures.jsonl says the words that an event names by a hash."""
    disclosure = parse_disclosure(line)
    digests = [event.data[name] for name in SALTED if name in event.data]
    spellings = {disclosure.digest.hex(), b64u_encode(disclosure.digest)}
    return disclosure.event_id == event.event_id and not spellings.isdisjoint(digests)


def run_reason(case: Case) -> bool:
    """Run a case of `reasons` from the file alone."""
    return binds(parse_event(case["event"].encode()), case["disclosure"])
