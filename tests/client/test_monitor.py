"""The monitor over logs of files: honest ones pass in silence, each dishonesty raises its alarm, with a proof."""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emdi.encoding import b64u_encode
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, encode_entry, parse_entry
from emdi.envelope import ZERO_HASH, Skip, seal_envelope
from emdi.event import seal_event
from emdi.head import format_head, head_root, station_line, subject_line
from emdi.keys import LocalKey
from emdi.merkle import leaf_hash, root_of
from emdi.note import NoteSigner
from emdi.pack import Record
from emdi.policy import parse_policy
from emdi.proof_check import Account, check_proof
from emdi.proof_file import parse_proof
from emdi.shard import Previous
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.loop import Monitor, Turn
from tests.emdi.making import START_MS, STN, Log, seed
from tests.support.static_log import StaticLog, static_log, whole_log

DAY_MS = 86_400_000


@dataclass
class Watch:
    """A log in memory, published as files, and a monitor of it with a clock of its own."""

    log: Log
    site: StaticLog
    home: Path
    now_ms: int = START_MS + 600_000
    turns: list[Turn] = field(default_factory=list)
    link: ServerLink | None = None

    def publish(self, entries: list[bytes] | None = None) -> None:
        self.site.publish(self.log.entries if entries is None else entries, self.now_ms)

    def look(self) -> Turn:
        if self.link is None or self.link.url != self.site.url:
            self.link = ServerLink(self.site.url)
        policy = parse_policy(self.site.policy)
        monitor = Monitor(self.home, self.link, policy, now_ms=lambda: self.now_ms, rng=random.Random(1))
        try:
            self.turns.append(monitor.turn())
        finally:
            monitor.close()
        return self.turns[-1]

    def later(self, seconds: int = 60) -> None:
        self.now_ms += 1000 * seconds

    def alarms(self) -> list[str]:
        return sorted(path.stem.partition("-")[2] for path in (self.home / "alarms").glob("*.json"))

    def check(self, kind: str) -> Account:
        """Check the one alarm of this type as a stranger would: file and policy, nothing else."""
        [path] = (self.home / "alarms").glob(f"*-{kind}.json")
        return check_proof(parse_proof(path.read_bytes()), parse_policy(self.site.policy))

    def append(self, kind: int, body: bytes, recv_ms: int | None = None) -> int:
        at_ms = self.now_ms if recv_ms is None else recv_ms
        self.log.entries.append(encode_entry(kind, at_ms, body))
        return len(self.log.entries) - 1

    def envelope(self, **changes: Any) -> int:
        """Append the station's next envelope, with these claims changed."""
        last = self.log.envelopes[-1]
        claims: dict[str, Any] = {
            "stn": STN,
            "ep": last.ep,
            "seq": last.seq + 1,
            "prev": last.env_id,
            "cp": None,
        }
        claims |= {"iat_ms": self.now_ms, "records": [record(self.now_ms)]}
        kind, recv_ms = changes.pop("kind", KIND_READING), changes.pop("recv_ms", None)
        made = seal_envelope(changes.pop("signer", self.log.station), **{**claims, **changes})
        self.log.envelopes.append(made)
        return self.append(kind, made.jws, recv_ms)

    def event(self, subj: str, typ: str, data: dict[str, Any], **changes: Any) -> int:
        """Append the first event of a subject of its own."""
        claims: dict[str, Any] = {"sseq": 0, "sprev": ZERO_HASH, "act": "system", "ts_ms": self.now_ms}
        signer = changes.pop("signer", self.log.service)
        made = seal_event(signer, subj=subj, typ=typ, data=data, **{**claims, **changes})
        return self.append(KIND_EVENT, made.jws)


def record(at_ms: int, value: str = "41.5") -> Record:
    return Record("nox-0", at_ms, "mg/m3", Decimal(value), "N")


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
    new.station = LocalKey.generate("Ed25519", "mill-1-c")
    new.register_key(new.station)
    new.envelopes = old.envelopes[-1:]
    watch.log = new
    watch.site.write("previous/head", format_head(lines))
    watch.envelope(cp=(5, root_of(old.leaves()[:5])))
    watch.publish()
    assert (watch.look().exit_code, watch.alarms()) == (0, [])
    last = new.envelopes[-1]
    watch.envelope(seq=last.seq + 2, prev=bytes(32))
    watch.publish()
    assert (watch.look().exit_code, watch.alarms()) == (1, ["chain"])


def head_lines(log: Log) -> list[str]:
    last, event = log.envelopes[-1], log.events[-1]
    lines = [
        station_line(STN, last.ep, last.seq, last.env_id),
        subject_line(event.subj, event.sseq, event.event_id),
    ]
    return sorted(lines)


def head_data(lines: list[str], as_of: int) -> dict[str, Any]:
    root = b64u_encode(head_root(lines))
    return {
        "as_of": as_of,
        "date": "2026-09-21",
        "lines": len(lines),
        "root_b64u": root,
        "occasion": "demand",
    }


# Each makes one thing wrong and returns the words its alarm must hold.
Wrong = Callable[[Watch], list[str]]


def edit_entry_and_tree(w: Watch) -> list[str]:
    entries = list(w.log.entries)
    entries[6] = entries[6][:-1] + bytes([entries[6][-1] ^ 1])
    w.envelope()
    w.publish([*entries, w.log.entries[-1]])
    return [f"tree of {len(entries)} entries is not a prefix"]


def other_root_same_size(w: Watch) -> list[str]:
    w.publish([*w.log.entries[:-1], w.log.entries[-2]])
    return ["two different trees"]


def cut_the_tail(w: Watch) -> list[str]:
    size = len(w.log.entries)
    w.publish(w.log.entries[:-3])
    return [f"size {size}", f"size {size - 3} served"]


def cut_the_tail_and_go_on(w: Watch) -> list[str]:
    del w.log.entries[-3:], w.log.envelopes[-3:]
    w.envelope()
    w.publish()
    return ["is not a prefix of the larger one: a fork"]


def swap_bundle_bytes(w: Watch) -> list[str]:
    idx = w.envelope()
    w.publish()
    entries = list(w.log.entries)
    entries[idx] = entries[idx][:-1] + bytes([entries[idx][-1] ^ 1])
    w.site.write_tiles(entries)
    tiles = [leaf_hash(entry) for entry in w.log.entries]
    w.site.write(f"tile/0/000.p/{len(tiles)}", b"".join(tiles))
    return [f"entry {idx} give another leaf hash"]


def break_a_tile(w: Watch) -> list[str]:
    w.envelope()
    w.publish()
    w.site.write(f"tile/0/000.p/{len(w.log.entries)}", os.urandom(32 * len(w.log.entries)))
    return ["do not give the signed root"]


def leave_one_out(w: Watch) -> list[str]:
    w.envelope()
    w.log.entries.pop()
    idx = w.envelope()
    w.publish()
    return [f"entry {idx} does not follow", "chain.gap"]


def forged_envelope(w: Watch) -> list[str]:
    idx = w.envelope(signer=LocalKey.from_seed(seed("thief"), "mill-1-a"))
    w.publish()
    return [f"entry {idx}", "mill-1-a"]


def ended_key(w: Watch) -> list[str]:
    idx = w.envelope(signer=LocalKey.from_seed(seed("station"), "mill-1-a"))
    w.publish()
    return ["key mill-1-a was ended by entry", f"before entry {idx}"]


def forged_event(w: Watch) -> list[str]:
    w.event("account:x", "access.grant", {}, signer=LocalKey.from_seed(seed("thief"), "service-1"))
    w.publish()
    return ["is not signed by its key service-1"]


def lost_event(w: Watch) -> list[str]:
    idx = w.event("account:x", "access.grant", {}, sseq=1, sprev=bytes(31) + b"x")
    w.publish()
    return [f"entry {idx} does not follow an empty chain"]


def false_gossip(w: Watch) -> list[str]:
    w.envelope(cp=(5, bytes(32)))
    w.publish()
    return ["in that tree the first 5 entries have root", "signed that it was shown root 0000"]


def gossip_of_a_lost_tail(w: Watch) -> list[str]:
    idx = w.envelope(cp=(len(w.log.entries) + 9, bytes(32)))
    w.publish()
    return [f"before its entry {idx} was made"]


def back_dated(w: Watch) -> list[str]:
    w.later(3600)
    idx = w.envelope(recv_ms=w.now_ms - 3_900_000)
    w.publish()
    return [f"entry {idx} says it was received at", "did not hold it"]


def post_dated(w: Watch) -> list[str]:
    idx = w.envelope(recv_ms=w.now_ms + 120_000)
    w.publish()
    return [f"entry {idx} says it was received at", "yet it was in the tree"]


def signed_in_the_future(w: Watch) -> list[str]:
    w.envelope(iat_ms=w.now_ms + 3_600_000)
    w.publish()
    return ["the device says it signed at"]


def signed_before_what_it_names(w: Watch) -> list[str]:
    w.envelope()
    w.publish()
    assert w.look().exit_code == 0
    w.later(7200)
    leaves = [leaf_hash(entry) for entry in w.log.entries]
    w.envelope(cp=(len(leaves), root_of(leaves)), iat_ms=w.now_ms - 7_800_000)
    w.publish()
    return ["the device says it signed at"]


def two_for_one_place(w: Watch) -> list[str]:
    last = w.log.envelopes[-1]
    made = {"seq": last.seq, "prev": last.prev, "ep": last.ep, "records": [record(w.now_ms, "7.0")]}
    w.envelope(kind=KIND_QUARANTINED, **made)
    w.publish()
    return [f"two envelopes for epoch {last.ep}, seq {last.seq}"]


def unreadable(w: Watch) -> list[str]:
    idx = w.append(KIND_EVENT, b"not a JWS")
    w.publish()
    return [f"entry {idx} cannot be read"]


def silent_about_a_loss(w: Watch) -> list[str]:
    last = w.log.envelopes[-1]
    idx = w.envelope(seq=last.seq + 4, skip=Skip(last.seq + 1, last.seq + 3, "spool lost"))
    w.publish()
    assert w.look().exit_code == 0  # the event may yet come
    w.later()
    w.envelope()
    w.publish()
    return [f"entry {idx} (envelope", "calls for an event gap.opened"]


def hidden_in_the_head(w: Watch) -> list[str]:
    lines = [line for line in head_lines(w.log) if line.startswith("subject")]
    w.event("log", "head.daily", head_data(lines, len(w.log.entries)))
    w.site.write(f"heads/{len(w.log.entries) - 1}", format_head(lines))
    w.publish()
    return ["give a head of 2 lines"]


def other_head_served(w: Watch) -> list[str]:
    lines = head_lines(w.log)
    w.event("log", "head.daily", head_data(lines, len(w.log.entries)))
    w.site.write(f"heads/{len(w.log.entries) - 1}", format_head(lines[:1]))
    w.publish()
    return [f"- {lines[1]}"]


def frozen(w: Watch) -> list[str]:
    w.later(3600)
    return ["the newest checkpoint was cosigned at"]


def no_quorum(w: Watch) -> list[str]:
    w.site.publish(w.log.entries, None)
    return ["policy.quorum"]


def stolen_log_key(w: Watch) -> list[str]:
    thief = StaticLog(w.site.folder, NoteSigner(w.site.signer.verifier.name, seed("thief")))
    thief.publish(w.log.entries, w.now_ms)
    return ["policy.log"]


WRONGS: list[tuple[Wrong, str, int]] = [
    (edit_entry_and_tree, "fork", 1),
    (other_root_same_size, "fork", 1),
    (cut_the_tail, "rollback", 1),
    (cut_the_tail_and_go_on, "fork", 1),
    (swap_bundle_bytes, "entry", 1),
    (break_a_tile, "tiles", 1),
    (leave_one_out, "chain", 1),
    (lost_event, "chain", 1),
    (forged_envelope, "signature", 1),
    (ended_key, "signature", 1),
    (forged_event, "signature", 1),
    (false_gossip, "gossip", 1),
    (gossip_of_a_lost_tail, "gossip", 1),
    (back_dated, "back-dated", 1),
    (post_dated, "back-dated", 1),
    (signed_in_the_future, "iat", 1),
    (signed_before_what_it_names, "iat", 1),
    (two_for_one_place, "equivocation", 1),
    (unreadable, "malformed", 3),
    (silent_about_a_loss, "missing", 2),
    (hidden_in_the_head, "head", 1),
    (other_head_served, "head", 1),
    (frozen, "stale", 2),
    (no_quorum, "policy", 4),
    (stolen_log_key, "policy", 4),
]


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
