"""Signed well, and saying nothing, or in the name of somebody who did not act: monitor, verifier and `fsck` name each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from emdi.entry import KIND_EVENT
from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.verify import Report, verify_bundle
from tests.client.monitor_watch import Watch
from tests.emdi.making import STN, Log, honest_log, members_of, zip_of
from tests.service.evidence_support import make_shop
from tests.support.static_log import static_log, whole_log

SHA = "ab" * 32
LIMIT = {"stn": STN, "channel": "nox-0", "old": 50, "new": 80, "why_sha256": SHA, "from_ms": 0}
GRANT = {"account_id": "x", "role": "operator", "agency": None, "display_sha256": SHA}
CONFIG = {"config_hash": SHA, "version": "1", "config": {"budget": 0.25}, "numpy": "2"}
# (type, subject, good data, what is bent in it, the words that name it)
BENT: list[tuple[str, str, dict[str, Any], dict[str, Any], str]] = [
    ("limit.change", f"station:{STN}", LIMIT, {"new": "none"}, "new of limit.change is 'none'"),
    ("limit.change", f"station:{STN}", LIMIT, {"from_ms": -1}, "from_ms of limit.change is '-1'"),
    ("limit.change", f"station:{STN}", LIMIT, {"from_ms": 2**52}, "from_ms of limit.change is"),
    ("limit.change", f"station:{STN}", LIMIT, {"stn": "other"}, "is not the one of its subject"),
    ("limit.change", f"station:{STN}", LIMIT, {"why_sha256": "because"}, "why_sha256 of limit.change"),
    ("access.grant", "account:x", GRANT, {"role": "king"}, "role of access.grant is 'king'"),
    ("access.grant", "account:x", GRANT, {"role": ["operator"]}, "role of access.grant"),
    ("access.grant", "account:x", GRANT, {"account_id": "y"}, "is not the one of its subject"),
    ("access.grant", "account:x", GRANT, {"display_sha256": None}, "display_sha256 of access.grant"),
    ("access.revoke", "account:x", {"account_id": "x", "why_sha256": SHA}, {"account_id": 7}, "account_id of"),
    ("access.token", "account:x", {"account_id": "x", "kind": "bearer", "token_sha256": SHA, "expires_ms": 1},
     {"expires_ms": "never"}, "expires_ms of access.token is 'never'"),
    ("detector.config", "detector", CONFIG, {"config": "lax"}, "config of detector.config is 'lax'"),
    ("detector.config", "detector", CONFIG, {"config_hash": "x"}, "config_hash of detector.config"),
    ("epoch.ack", f"station:{STN}", {"ep": 0, "why_sha256": SHA}, {"ep": True}, "ep of epoch.ack is 'True'"),
    ("detector.run", f"station:{STN}", {}, {"input": []}, "is malformed"),
    ("station.register", f"station:{STN}", {"stn": STN, "name": "Mill"}, {"name": {}}, "name of station.register"),
    ("channel.set", f"station:{STN}", {"stn": STN}, {"channels": [{"name": "so2"}]}, "channels of channel.set"),
]  # fmt: skip
ACTOR = {"limit.change": "operator-1", "epoch.ack": "inspector-1"}
ids = pytest.mark.parametrize(
    ("typ", "subj", "good", "bent", "words"), BENT, ids=[f"{one[0]} {next(iter(one[3]))}" for one in BENT]
)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Watch]:
    log = whole_log()
    with static_log(tmp_path / "site", log.log_key) as site:
        made = Watch(log, site, tmp_path / "monitor")
        made.publish()
        assert made.look().exit_code == 0
        made.later()
        yield made


def append(w: Watch, typ: str, subj: str, data: dict[str, Any], act: str = "system") -> int:
    if not subj.startswith("station:"):
        return w.event(subj, typ, data, act=act)
    w.log.events.append(w.log.make_event(typ, data, act))
    return w.append(KIND_EVENT, w.log.events[-1].jws)


@ids
def test_the_monitor_names_it(
    followed: Watch, typ: str, subj: str, good: dict[str, Any], bent: dict[str, Any], words: str
) -> None:
    idx = append(followed, typ, subj, good | bent, ACTOR.get(typ, "system"))
    followed.publish()
    turn = followed.look()
    assert (turn.exit_code, followed.alarms()) == (3, ["malformed"]), turn.raised
    says = followed.check("malformed").says
    assert f"entry {idx} ({typ})" in says
    assert words in says


@pytest.mark.parametrize(
    ("typ", "subj", "good"),
    [(typ, subj, good) for typ, subj, good, bent, _ in BENT if not set(bent) & {"input", "channels"}],
)
def test_what_makes_sense_is_not_accused(followed: Watch, typ: str, subj: str, good: dict[str, Any]) -> None:
    append(followed, typ, subj, good, ACTOR.get(typ, "system"))
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (0, [])


def told(log: Log) -> Report:
    return verify_bundle(zip_of(members_of(log)), log.policy)  # type: ignore[arg-type]


def test_the_verifier_tells_it_and_the_evidence_stays_what_it_is() -> None:
    log, wanted = honest_log(), []
    for typ, _, good, bent, words in BENT:
        if typ == "limit.change" and "why_sha256" not in bent:
            log.explain(typ, {**good, **bent}, "because", "operator-1")
            wanted.append(words)
    report = told(log)
    assert report.exit_code == 0, report.text()
    for words in wanted:
        assert [note for note in report.notes if "changes nothing" in note and words in note], report.notes


def test_fsck_names_it(settings: Settings, engine: sa.Engine) -> None:
    shop = make_shop(settings, engine)
    for typ, subj, good, bent, _ in BENT:
        where = "station:S1" if subj.startswith("station:") else subj
        with engine.begin() as conn:
            append_event(conn, shop.service_key, typ=typ, subj=where, act="inspector-1", data=good | bent)
    shop.loop.sequence()
    shop.loop.publish()
    found = [
        one.line()
        for one in fsck(engine, settings.log_dir, shop.log.policy).findings
        if one.code == "event.data"
    ]
    assert len(found) >= len(BENT)
    for typ, _, _, _, words in BENT:
        if "not the one of its subject" not in words:
            assert [line for line in found if typ in line and words in line], (typ, words, found)


APPROVED = {"approvals": ["inspector-1"]}


@pytest.mark.parametrize(
    ("typ", "data"),
    [
        ("epoch.ack", {"ep": 0, "why_sha256": SHA, **APPROVED}),
        ("limit.change", {**LIMIT, "approvals": ["operator-1", "operator-2"]}),
    ],
)
def test_an_act_hides_behind_nobody_s_approvals(followed: Watch, typ: str, data: dict[str, Any]) -> None:
    """Only a new key has approvals: elsewhere they name others than the one who acted."""
    append(followed, typ, f"station:{STN}", data, "ghost")
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (1, ["signature"])
    assert "grants 'ghost' access" in followed.check("signature").says


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
def test_an_end_dated_ahead_ends_all_the_same(followed: Watch, again: bool) -> None:
    """Who holds the service's key could write an end of access that never comes."""
    w = followed
    [granted] = [event for event in w.log.grants if event.subj == "account:inspector-1"]
    after: dict[str, Any] = {"sseq": 1, "sprev": granted.event_id, "ts_ms": w.now_ms + 10**10}
    ended = w.event(granted.subj, "access.revoke", {"account_id": "inspector-1", "why_sha256": SHA}, **after)
    if again:
        w.publish()
        assert w.look().exit_code == 0
    w.now_ms += 3_600_000
    append(w, "epoch.ack", f"station:{STN}", {"ep": 0, "why_sha256": SHA}, "inspector-1")
    w.publish()
    w.look()
    assert f"the access of 'inspector-1' ended at idx {ended}" in w.check("signature").says
