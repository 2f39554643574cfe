"""The key ring: which key of which station was valid at which index, and which events it refuses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emdi.encoding import b64u_encode, dump_json
from emdi.envelope import ZERO_HASH
from emdi.errors import EmdiError, EnvelopeError
from emdi.event import Event, seal_event, seal_key_proof, seal_succession, verify_succession
from emdi.keyring import KeyRing
from emdi.keys import LocalKey
from emdi.note import NoteSigner
from tests.emdi.making import refused, seed

SERVICE = LocalKey.from_seed(seed("service"), "service-1")
FIRST, SECOND, THIEF = (
    LocalKey.from_seed(seed(word), kid)
    for word, kid in (("station", "s-1"), ("next", "s-2"), ("thief", "s-3"))
)
GENESIS = {
    "v": 1,
    "origin": "log.example/1",
    "service_kid": SERVICE.kid,
    "service_public_b64u": b64u_encode(SERVICE.public.raw),
    "export_vkey": NoteSigner("log.example/1/export", seed("export")).vkey,
}


def key_data(key: LocalKey, stn: str = "S") -> dict[str, Any]:
    return {
        "stn": stn,
        "kid": key.kid,
        "alg": key.public.alg,
        "public_b64u": b64u_encode(key.public.raw),
        "proof": seal_key_proof(key, stn),
    }


@dataclass
class Maker:
    """Feed one ring with events at ascending indexes."""

    ring: KeyRing = field(default_factory=KeyRing)
    idx: int = 0

    def event(self, typ: str, data: dict[str, Any], act: str = "a", stn: str = "S") -> Event:
        event = seal_event(
            SERVICE,
            typ=typ,
            subj=f"station:{stn}",
            sseq=0,
            sprev=ZERO_HASH,
            act=act,
            ts_ms=self.idx,
            data=data,
        )
        self.idx += 1
        self.ring.take_event(self.idx, event)
        return event

    def register(self, key: LocalKey, *, acts: tuple[str, str] = ("a", "b"), **changes: Any) -> int:
        request = self.event("key.request", key_data(key), acts[0])
        data = {**key_data(key), "approvals": list(acts), "request": request.event_id.hex(), **changes}
        self.event("key.register", data, acts[1])
        return self.idx

    def rotate(self, old: LocalKey, new: LocalKey, **changes: Any) -> int:
        proof = seal_succession(old, "S", new.kid, new.public)
        self.event("key.rotate", {**key_data(new), "old_kid": old.kid, "old_proof": proof, **changes})
        return self.idx


def codes(ring: KeyRing, kid: str, upto: int) -> list[str]:
    """Return what the ring says of a key at each index: "valid" or the error's code."""

    def ask(idx: int) -> str:
        try:
            ring.station_key("S", kid, idx)
        except EnvelopeError as error:
            return error.code
        return "valid"

    return [ask(idx) for idx in range(upto)]


def test_a_key_is_valid_behind_its_registration_and_upto_its_end() -> None:
    maker = Maker()
    since = maker.register(FIRST)
    until = maker.rotate(FIRST, SECOND)
    unknown, valid = ["key.unknown"] * (since + 1), ["valid"] * (until - since)
    assert codes(maker.ring, FIRST.kid, until + 3) == [*unknown, *valid, "key.revoked", "key.revoked"]
    assert codes(maker.ring, SECOND.kid, until + 3) == ["key.unknown"] * (until + 1) + ["valid", "valid"]
    (first, second) = maker.ring.spans("S")
    assert (first.officers, first.until_idx, second.succeeds) == (("a", "b"), until, FIRST.kid)
    assert maker.ring.spans("T") == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 60))
def test_compromises_only_widen_what_is_suspect(marks: list[int], idx: int) -> None:
    maker = Maker()
    maker.register(FIRST)
    for suspect_from_idx in marks:
        data = {"kid": FIRST.kid, "why": "lost", "suspect_from_idx": suspect_from_idx}
        maker.event("key.compromise", data)
    assert maker.ring.suspect("S", FIRST.kid, idx) == (idx >= min(marks))
    assert maker.ring.spans()[0].until_idx == 3  # the first of them ended it
    assert not maker.ring.suspect("T", FIRST.kid, idx)


def other_acts(maker: Maker) -> None:
    maker.register(FIRST, approvals=["x", "y"])


def one_officer_twice(maker: Maker) -> None:
    maker.register(FIRST, acts=("a", "a"))


def names_that_are_no_names(maker: Maker) -> None:
    maker.register(FIRST, approvals=[{"a": 1}, "b"])


def no_approvals(maker: Maker) -> None:
    maker.event("key.register", key_data(FIRST))


def nobody_asked(maker: Maker) -> None:
    maker.event("key.register", {**key_data(FIRST), "approvals": ["a", "b"], "request": "00" * 32}, "b")


def asked_about_another_key(maker: Maker) -> None:
    request = maker.event("key.request", key_data(LocalKey.from_seed(seed("other"), FIRST.kid)))
    data = {**key_data(FIRST), "approvals": ["a", "b"], "request": request.event_id.hex()}
    maker.event("key.register", data, "b")


def registered_twice(maker: Maker) -> None:
    maker.register(FIRST)
    maker.register(FIRST)


def rotated_without_the_old_key(maker: Maker) -> None:
    maker.register(FIRST)
    maker.rotate(FIRST, SECOND, old_proof=seal_succession(THIEF, "S", SECOND.kid, SECOND.public))


def rotated_to_a_key_of_that_name(maker: Maker) -> None:
    """The old key named "s-2"; the insider brings another key under that name."""
    maker.register(FIRST)
    false = LocalKey.from_seed(seed("false"), SECOND.kid)
    maker.rotate(FIRST, false, old_proof=seal_succession(FIRST, "S", SECOND.kid, SECOND.public))


def rotated_from_a_dead_key(maker: Maker) -> None:
    maker.register(FIRST)
    maker.event("key.revoke", {"kid": FIRST.kid, "why": "lost"})
    maker.rotate(FIRST, SECOND)


def rotated_from_nothing(maker: Maker) -> None:
    maker.rotate(FIRST, SECOND)


def revoked_on_another_subject(maker: Maker) -> None:
    maker.register(FIRST)
    maker.event("key.revoke", {"kid": FIRST.kid, "why": "x"}, stn="T")


def asked_on_another_subject(maker: Maker) -> None:
    maker.event("key.request", key_data(FIRST), stn="T")


def suspect_from_nowhere(maker: Maker) -> None:
    maker.register(FIRST)
    maker.event("key.compromise", {"kid": FIRST.kid, "why": "x", "suspect_from_idx": True})


REFUSED: list[tuple[Callable[[Maker], None], str]] = [
    (other_acts, "key.officers"),
    (one_officer_twice, "key.officers"),
    (names_that_are_no_names, "key.officers"),
    (no_approvals, "key.officers"),
    (nobody_asked, "key.request"),
    (asked_about_another_key, "key.officers"),
    (registered_twice, "key.duplicate"),
    (rotated_without_the_old_key, "key.old_proof"),
    (rotated_to_a_key_of_that_name, "key.old_proof"),
    (rotated_from_a_dead_key, "key.old"),
    (rotated_from_nothing, "key.unknown"),
    (revoked_on_another_subject, "key.station"),
    (asked_on_another_subject, "key.station"),
    (suspect_from_nowhere, "key.event"),
]


@pytest.mark.parametrize(("act", "code"), REFUSED, ids=[act.__name__ for act, _ in REFUSED])
def test_an_event_that_breaks_a_rule_changes_nothing(act: Callable[[Maker], None], code: str) -> None:
    maker = Maker()
    with pytest.raises(EmdiError) as caught:
        act(maker)
    assert caught.value.code == code
    twin = Maker()
    spans = maker.ring.spans()
    if spans:
        twin.register(FIRST)
        if code == "key.old":
            twin.event("key.revoke", {"kid": FIRST.kid, "why": "lost"})
    assert spans == twin.ring.spans()


def test_one_officer_suffices_where_leaf_0_says_so() -> None:
    body = dump_json({**GENESIS, "key_approvals": 1})
    ring = KeyRing()
    ring.take_genesis(0, body, "log.example/1")
    maker = Maker(ring)
    maker.event("key.request", key_data(FIRST))
    request = maker.event("key.request", key_data(FIRST))
    data = {**key_data(FIRST), "approvals": ["a"], "request": request.event_id.hex()}
    maker.event("key.register", data)
    assert maker.ring.station_key("S", FIRST.kid, 99) == FIRST.public
    assert ring.service_key(SERVICE.kid, 1) == SERVICE.public


def test_a_false_genesis_teaches_nothing() -> None:
    for idx, change, code in (
        (1, {}, "genesis.place"),
        (0, {"key_approvals": 0}, "genesis.form"),
        (0, {"service_kid": 5}, "genesis.form"),
        (0, {"export_vkey": "x"}, "genesis.form"),
        (0, {"origin": "log.example/2"}, "genesis.origin"),
    ):
        ring = KeyRing()
        refused(code, ring.take_genesis, idx, dump_json({**GENESIS, **change}), "log.example/1")
        assert ring.genesis is None
        refused("key.unknown", ring.service_key, SERVICE.kid, 1)


def test_a_succession_names_both_keys() -> None:
    proof = seal_succession(FIRST, "S", SECOND.kid, SECOND.public)
    good: dict[str, Any] = {
        "stn": "S", "kid": SECOND.kid, "key": SECOND.public, "old_kid": FIRST.kid, "old_key": FIRST.public,
    }  # fmt: skip
    verify_succession(proof, **good)
    changes: list[dict[str, Any]] = [
        {"stn": "T"},
        {"kid": "s-9"},
        {"key": THIEF.public},
        {"old_kid": "s-9"},
        {"old_key": THIEF.public},
    ]
    for change in changes:
        with pytest.raises(EnvelopeError, match=r"key\.old_proof"):
            verify_succession(proof, **{**good, **change})


@given(
    st.lists(
        st.one_of(
            st.just(("rotate", 0, 0)),
            st.just(("register", 0, 0)),
            st.tuples(st.just("compromise"), st.integers(0, 7), st.integers(0, 40)),
        ),
        max_size=14,
    )
)
def test_suspicion_goes_on_through_rotations_and_ends_at_a_key_approved_afresh(
    acts: list[tuple[str, int, int]],
) -> None:
    """The rule said another way: a key is suspect from the lowest index declared of it or of any key before it."""
    maker = Maker()
    keys: list[LocalKey] = []
    before: dict[str, str] = {}
    declared: dict[str, list[int]] = {}
    for act, which, from_idx in [("register", 0, 0), *acts]:
        if act == "compromise":
            kid = keys[which % len(keys)].kid
            maker.event("key.compromise", {"kid": kid, "why": "lost", "suspect_from_idx": from_idx})
            declared.setdefault(kid, []).append(from_idx)
            continue
        new = LocalKey.from_seed(seed(f"key {len(keys)}"), f"s-{len(keys)}")
        if act == "register":
            maker.register(new)
        elif maker.ring.spans()[-1].until_idx is None:
            maker.rotate(keys[-1], new)
            before[new.kid] = keys[-1].kid
        else:
            continue
        keys.append(new)
    for span in maker.ring.spans():
        line = [span.kid]
        while line[-1] in before:
            line.append(before[line[-1]])
        marks = [mark for kid in line for mark in declared.get(kid, ())]
        assert span.suspect_from_idx == min(marks, default=None)
        assert (span.compromised_kid in line) == bool(marks)
        for idx in (0, 20, 60):
            assert maker.ring.suspect("S", span.kid, idx) == any(idx >= mark for mark in marks)
