"""An act counts only of somebody who, by the log, held the role it takes."""

import pytest

from emdi.errors import OfficerError
from emdi.event import Event, seal_event
from emdi.keys import LocalKey
from emdi.officers import ENDING_MS, Officers

KEY = LocalKey.from_seed(b"s" * 32, "service-1")
ENDED_MS = 1_000_000


def event(typ: str, act: str, ts_ms: int = 0, subj: str = "station:S1", **data: object) -> Event:
    return seal_event(
        KEY, typ=typ, subj=subj, sseq=0, sprev=bytes(32), act=act, ts_ms=ts_ms, ref=(), data=data
    )


def grant(name: str, role: str) -> Event:
    return event("access.grant", "service:test", subj=f"account:{name}", account_id=name, role=role)


@pytest.fixture
def officers() -> Officers:
    made = Officers()
    for idx, (name, role) in enumerate({"o1": "operator", "o2": "operator", "i1": "inspector"}.items()):
        made.take_event(idx, grant(name, role), 0)
    made.take_event(3, event("access.revoke", "o1", ENDED_MS, subj="account:o2"), ENDED_MS)
    return made


@pytest.mark.parametrize(
    "act",
    [
        event("key.request", "o1"),
        event("key.register", "o1", approvals=["o2", "o1"]),
        event("limit.change", "o2", ENDED_MS + ENDING_MS),  # let in before, signed just after
        event("review.decision", "i1"),
        event("epoch.ack", "i1"),
        event("flag.raised", "system"),
    ],
    ids=lambda act: f"{act.typ} {act.act}",
)
def test_who_held_the_role_may_act(officers: Officers, act: Event) -> None:
    officers.take_event(9, act, act.ts_ms)


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (event("key.request", "ghost"), "officer.unknown"),
        (event("key.register", "o1", approvals=["o1", "ghost"]), "officer.unknown"),
        (event("limit.change", "i1"), "officer.role"),
        (event("review.decision", "o1"), "officer.role"),
        (event("epoch.ack", "ghost"), "officer.unknown"),
        (event("key.revoke", "o2", ENDED_MS + ENDING_MS + 1), "officer.revoked"),
    ],
    ids=lambda item: item if isinstance(item, str) else f"{item.typ} {item.act}",
)
def test_who_did_not_may_not(officers: Officers, act: Event, code: str) -> None:
    with pytest.raises(OfficerError) as refused:
        officers.take_event(9, act, act.ts_ms)
    assert refused.value.code == code


def test_a_grant_on_another_subject_grants_nothing() -> None:
    officers = Officers()
    officers.take_event(
        1, event("access.grant", "x", subj="account:other", account_id="o1", role="operator"), 0
    )
    with pytest.raises(OfficerError):
        officers.take_event(2, event("key.request", "o1"), 0)


def test_an_act_dated_back_counts_by_its_receipt(officers: Officers) -> None:
    act = event("limit.change", "o2", ENDED_MS - 1)
    officers.take_event(8, act, ENDED_MS + ENDING_MS)
    with pytest.raises(OfficerError) as refused:
        officers.take_event(9, act, ENDED_MS + ENDING_MS + 1)
    assert refused.value.code == "officer.revoked"
