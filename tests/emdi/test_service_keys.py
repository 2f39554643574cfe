"""The service's own keys: valid by log index, followed by both signatures, suspect from an index on."""

from typing import Any

import pytest

from emdi.encoding import b64u_encode, dump_json
from emdi.envelope import ZERO_HASH
from emdi.errors import EmdiError
from emdi.event import Event, seal_event
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.service_keys import SERVICE_COMPROMISE, SERVICE_KEY, seal_service_proof
from tests.emdi.making import refused, seed
from tests.emdi.test_keyring import GENESIS, SERVICE

ORIGIN = "log.example/1"
SECOND, THIRD, THIEF = (
    LocalKey.from_seed(seed(word), kid)
    for word, kid in (("second", "service-2"), ("third", "service-3"), ("thief", "service-2"))
)


def new_ring() -> KeyRing:
    ring = KeyRing()
    ring.take_genesis(0, dump_json(GENESIS), ORIGIN)
    return ring


def event(signer: LocalKey, typ: str, data: dict[str, Any], subj: str = "log") -> Event:
    return seal_event(signer, typ=typ, subj=subj, sseq=0, sprev=ZERO_HASH, act="operator", ts_ms=1, data=data)


def follow(old: LocalKey, new: LocalKey, signer: LocalKey | None = None, **changes: Any) -> Event:
    data = {
        "kid": new.kid,
        "alg": new.public.alg,
        "public_b64u": b64u_encode(new.public.raw),
        "old_kid": old.kid,
        "proof": seal_service_proof(new, ORIGIN, old.kid, old.public),
    }
    subj = changes.pop("subj", "log")
    return event(signer or old, SERVICE_KEY, {**data, **changes}, subj)


def test_each_key_signs_behind_its_event_and_up_to_the_next_one() -> None:
    ring = new_ring()
    ring.take_event(5, follow(SERVICE, SECOND))
    ring.take_event(9, follow(SECOND, THIRD))
    valid = {"service-1": range(1, 6), "service-2": range(6, 10), "service-3": range(10, 13)}
    for kid, indexes in valid.items():
        for idx in range(1, 13):
            if idx in indexes:
                ring.service_key(kid, idx)
            else:
                refused("key.revoked" if idx > indexes[-1] else "key.unknown", ring.service_key, kid, idx)


REFUSED: dict[str, tuple[Event, str]] = {
    "signed by the new key alone": (follow(SERVICE, SECOND, signer=SECOND), "key.unknown"),
    "signed by another key of the old name": (
        follow(SERVICE, SECOND, signer=LocalKey.from_seed(seed("thief"), SERVICE.kid)),
        "envelope.signature",
    ),
    "without the new key's proof": (
        follow(SERVICE, SECOND, proof=seal_service_proof(THIEF, ORIGIN, SERVICE.kid, SERVICE.public)),
        "key.proof",
    ),
    "with a proof for another log": (
        follow(SERVICE, SECOND, proof=seal_service_proof(SECOND, "x", SERVICE.kid, SERVICE.public)),
        "key.proof",
    ),
    "with a proof that names another old key": (
        follow(SERVICE, SECOND, proof=seal_service_proof(SECOND, ORIGIN, SERVICE.kid, THIEF.public)),
        "key.proof",
    ),
    "that follows itself": (follow(SERVICE, LocalKey.from_seed(seed("x"), SERVICE.kid)), "key.duplicate"),
    "that names another old key": (follow(SERVICE, SECOND, old_kid="service-9"), "key.event"),
    "on another subject": (follow(SERVICE, SECOND, subj="station:S"), "key.event"),
    "without members": (event(SERVICE, SERVICE_KEY, {"old_kid": SERVICE.kid}), "key.event"),
    "a compromise of the key in use": (
        event(SERVICE, SERVICE_COMPROMISE, {"kid": SERVICE.kid, "suspect_from_idx": 1}),
        "key.old",
    ),
    "a compromise of nothing": (
        event(SERVICE, SERVICE_COMPROMISE, {"kid": ["x"], "suspect_from_idx": 1}),
        "key.event",
    ),
    "a compromise from nowhere": (
        event(SERVICE, SERVICE_COMPROMISE, {"kid": SERVICE.kid, "suspect_from_idx": True}),
        "key.event",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_changes_nothing(name: str) -> None:
    given, code = REFUSED[name]
    ring = new_ring()
    with pytest.raises(EmdiError) as caught:
        ring.take_event(3, given)
    assert caught.value.code == code
    assert ring.service.spans() == new_ring().service.spans()


def test_a_compromise_only_widens_what_is_suspect() -> None:
    ring = new_ring()
    ring.take_event(5, follow(SERVICE, SECOND))
    for from_idx in (4, 2, 3):
        ring.take_event(
            6, event(SECOND, SERVICE_COMPROMISE, {"kid": SERVICE.kid, "suspect_from_idx": from_idx})
        )
    assert [ring.service.suspect(SERVICE.kid, idx) for idx in range(5)] == [False, False, True, True, True]
    assert not ring.service.suspect(SECOND.kid, 9)


def test_an_ended_key_changes_nothing_any_more() -> None:
    ring = new_ring()
    ring.take_event(5, follow(SERVICE, SECOND))
    refused("key.revoked", ring.take_event, 6, follow(SERVICE, THIRD))
    refused(
        "key.revoked",
        ring.take_event,
        6,
        event(SERVICE, SERVICE_COMPROMISE, {"kid": SERVICE.kid, "suspect_from_idx": 1}),
    )
