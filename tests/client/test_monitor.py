"""The monitor over logs of files: honest ones pass in silence, each dishonesty raises its alarm, with a proof."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, encode_entry, parse_entry
from emdi.envelope import Skip
from emdi.head import format_head, head_root
from emdi.keys import LocalKey
from emdi.merkle import leaf_hash, root_of
from emdi.shard import Previous
from tests.client.monitor_watch import Watch, head_data, head_lines, last_note, record
from tests.client.monitor_wrongs import WRONGS, Wrong, edit_entry_and_tree
from tests.emdi.making import START_MS, Log
from tests.support.static_log import static_log, whole_log


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    log = whole_log()
    with static_log(tmp_path / "site", log.log_key) as site:
        (tmp_path / "site").mkdir(exist_ok=True)
        made = Watch(log, site, tmp_path / "monitor")
        made.publish()
        yield made


@pytest.fixture
def followed(watch: Watch) -> Watch:
    """A monitor that has followed an honest log for a while."""
    assert watch.look().exit_code == 0
    watch.later()
    return watch


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_honest_log_is_followed_in_silence(watch: Watch) -> None:
    turn = watch.look()
    assert (turn.exit_code, turn.size, turn.entries, watch.alarms()) == (
        0,
        len(watch.log.entries),
        turn.size,
        [],
    )
    for count in (1, 250, 300):
        watch.later()
        for _ in range(count):
            watch.envelope()
        watch.publish()
        turn = watch.look()
        assert (turn.exit_code, turn.entries, turn.raised) == (0, count, [])
        mirrored, served = files(watch.home / "mirror"), files(watch.site.folder / "log")
        assert served.items() <= mirrored.items()
    watch.later()
    watch.publish()
    assert (watch.look().exit_code, watch.look().entries) == (0, 0)


def test_cp_of_a_device_is_gossip_that_fits(followed: Watch) -> None:
    leaves = [leaf_hash(entry) for entry in followed.log.entries]
    for size in (1, 3, len(leaves)):
        followed.envelope(cp=(size, root_of(leaves[:size])))
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (0, [])


def test_heads_recompute(followed: Watch) -> None:
    lines = head_lines(followed.log)
    followed.event("log", "head.daily", head_data(lines, len(followed.log.entries)))
    followed.site.write(f"heads/{len(followed.log.entries) - 1}", format_head(lines))
    # Later entries change the heads, not the head signed before.
    followed.envelope()
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (0, [])
    assert (followed.home / "mirror/heads" / str(len(followed.log.entries) - 2)).read_bytes() == format_head(
        lines
    )


def test_an_admitted_loss_and_its_event_are_no_alarm(followed: Watch) -> None:
    last = followed.log.envelopes[-1]
    followed.envelope(seq=last.seq + 4, skip=Skip(last.seq + 1, last.seq + 3, "spool lost"))
    gap: dict[str, Any] = {"ep": last.ep, "from": last.seq + 1, "to": last.seq + 3, "why": "spool lost"}
    gap["env_id"] = followed.log.envelopes[-1].env_id.hex()
    followed.log.events.append(followed.log.make_event("gap.opened", gap))
    followed.append(KIND_EVENT, followed.log.events[-1].jws)
    followed.publish()
    for _ in range(2):
        assert (followed.look().exit_code, followed.alarms()) == (0, [])
        followed.later()


def test_a_successor_goes_on_where_the_shard_before_ended(watch: Watch) -> None:
    old, lines = watch.log, head_lines(watch.log)
    ended = Previous("log.example/2025", len(old.entries), root_of(old.leaves()), head_root(lines))
    new = Log()
    new.genesis()
    members = {**json.loads(parse_entry(new.entries[0]).body), "previous": ended.members()}
    new.entries[0] = encode_entry(KIND_GENESIS, START_MS, json.dumps(members).encode())
    new.let_officers_in()
    new.station = LocalKey.generate("Ed25519", "mill-1-c")
    new.register_key(new.station)
    new.envelopes = old.envelopes[-1:]
    watch.log = new
    watch.site.write("previous/head", format_head(lines))
    watch.site.write("previous/checkpoint", last_note(ended))
    watch.envelope(cp=(5, root_of(old.leaves()[:5])))
    watch.publish()
    assert (watch.look().exit_code, watch.alarms()) == (0, [])
    last = new.envelopes[-1]
    watch.envelope(seq=last.seq + 2, prev=bytes(32))
    watch.publish()
    assert (watch.look().exit_code, watch.alarms()) == (1, ["chain"])


@pytest.mark.parametrize(("wrong", "kind", "code"), WRONGS, ids=lambda item: getattr(item, "__name__", ""))
def test_each_dishonesty_raises_its_alarm_once(followed: Watch, wrong: Wrong, kind: str, code: int) -> None:
    words = wrong(followed)
    turn = followed.look()
    assert (turn.exit_code, followed.alarms()) == (code, [kind]), turn.raised
    account = followed.check(kind)
    told = "\n".join((account.says, *account.proven, *account.observed))
    for word in words:
        assert word in told
    # A fact is told once; it stands until somebody takes the file away.
    again = followed.look()
    assert (again.exit_code, again.raised, followed.alarms()) == (code, [], [kind])


def test_a_condition_that_ends_takes_its_alarm_along(followed: Watch) -> None:
    followed.later(3600)
    assert followed.look().exit_code == 2
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (0, [])
    assert [path.name for path in (followed.home / "alarms/over").iterdir()] == ["1-stale.json"]
    followed.later(3600)
    assert [alarm.n for alarm, _ in followed.look().raised] == [2]


def test_nothing_of_a_fork_enters_the_mirror(followed: Watch) -> None:
    before = files(followed.home / "mirror")
    edit_entry_and_tree(followed)
    followed.look()
    assert (followed.home / "mirror/checkpoint").read_bytes() == before["checkpoint"]


def test_a_log_that_does_not_answer_is_not_an_alarm_until_it_is_old(followed: Watch, tmp_path: Path) -> None:
    url, followed.site.url = followed.site.url, "http://127.0.0.1:9"
    assert (followed.look().exit_code, followed.alarms()) == (3, [])
    followed.later(3600)
    assert (followed.look().exit_code, followed.alarms()) == (2, ["stale"])
    followed.check("stale")
    followed.site.url = url
    followed.publish()
    assert (followed.look().exit_code, followed.alarms()) == (0, [])


def test_a_damaged_mirror_is_not_blamed_on_the_log(followed: Watch) -> None:
    for _ in range(260):
        followed.envelope()
    followed.publish()
    assert followed.look().exit_code == 0
    bundle = followed.home / "mirror/tile/entries/000"
    whole = bundle.read_bytes()
    bundle.write_bytes(bytes(len(whole)))
    early = followed.log.envelopes[20]
    place = {
        "seq": early.seq,
        "prev": early.prev,
        "ep": early.ep,
        "records": [record(followed.now_ms, "7.0")],
    }
    followed.envelope(kind=KIND_QUARANTINED, **place)
    followed.publish()
    turn = followed.look()
    assert (turn.exit_code, followed.alarms()) == (3, [])
    assert "own mirror is damaged" in turn.notes[-1]
    # Nothing was forgotten: with the file put right, the alarm comes with its proof.
    bundle.write_bytes(whole)
    assert (followed.look().exit_code, followed.alarms()) == (1, ["equivocation"])
    followed.check("equivocation")
