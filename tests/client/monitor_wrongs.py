"""What a dishonest log does to a monitor that has followed it, and the alarm each must raise."""

import os
from collections.abc import Callable
from typing import Any

from emdi.entry import KIND_EVENT, KIND_QUARANTINED
from emdi.envelope import Skip
from emdi.head import format_head
from emdi.keys import LocalKey
from emdi.merkle import leaf_hash, root_of
from emdi.note import NoteSigner
from tests.client.monitor_watch import Watch, head_data, head_lines, record
from tests.emdi.making import seed
from tests.emdi.making_log import Log
from tests.support.static_log import StaticLog

ACK = {"ep": 0, "why_sha256": "ab" * 32}
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
    granted = {"account_id": "x", "role": "auditor", "agency": None, "display_sha256": "ab" * 32}
    idx = w.event("account:x", "access.grant", granted, sseq=1, sprev=bytes(31) + b"x")
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
    return ["give a head of 5 lines"]


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


def act(w: Watch, typ: str, data: dict[str, Any], name: str) -> int:
    w.log.events.append(w.log.make_event(typ, data, name))
    return w.append(KIND_EVENT, w.log.events[-1].jws)


def act_of_nobody(w: Watch) -> list[str]:
    idx = act(w, "epoch.ack", ACK, "ghost")
    w.publish()
    return [f"entry {idx} names key", "grants 'ghost' access"]


def act_in_another_role(w: Watch) -> list[str]:
    """Who sets limits and keys does not judge: an operator's word stands where an inspector's must."""
    idx = act(w, "epoch.ack", ACK, "operator-1")
    w.publish()
    return [f"entry {idx} names key", "'operator-1' is operator, and only inspectors do epoch.ack"]


def act_after_the_end(w: Watch) -> list[str]:
    [granted] = [event for event in w.log.grants if event.subj == "account:inspector-1"]
    after: dict[str, Any] = {"sseq": 1, "sprev": granted.event_id, "ts_ms": granted.ts_ms - 3_600_000}
    ended = w.event(
        granted.subj, "access.revoke", {"account_id": "inspector-1", "why_sha256": "ab" * 32}, **after
    )
    idx = act(w, "epoch.ack", ACK, "inspector-1")
    w.publish()
    return [f"entry {idx} names key", f"the access of 'inspector-1' ended at idx {ended}"]


def act_dated_back(w: Watch) -> list[str]:
    """Who signs as the service writes into an event what time he likes; when it came shows in its entry."""
    [granted] = [event for event in w.log.grants if event.subj == "account:inspector-1"]
    after: dict[str, Any] = {"sseq": 1, "sprev": granted.event_id, "ts_ms": granted.ts_ms}
    ended = w.event(
        granted.subj, "access.revoke", {"account_id": "inspector-1", "why_sha256": "ab" * 32}, **after
    )
    w.now_ms += 3_600_000
    idx = act(w, "epoch.ack", ACK, "inspector-1")
    w.publish()
    return [f"entry {idx} names key", f"the access of 'inspector-1' ended at idx {ended}"]


def key_of_one_officer(w: Watch) -> list[str]:
    other = Log()
    other.register_key(LocalKey.generate("Ed25519", "mill-1-x"))
    asked, agreed = other.events[-2:]
    act(w, "key.request", dict(asked.data), "operator-1")
    data = {**agreed.data, "approvals": ["operator-1"], "request": w.log.events[-1].event_id.hex()}
    idx = act(w, "key.register", data, "operator-1")
    w.publish()
    return [f"entry {idx} names key", "approved by fewer than 2 people"]


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
    (act_of_nobody, "signature", 1),
    (act_in_another_role, "signature", 1),
    (act_after_the_end, "signature", 1),
    (act_dated_back, "signature", 1),
    (key_of_one_officer, "signature", 1),
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
