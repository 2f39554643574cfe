"""Hold a proof file against a policy: what follows from signatures and hashes, and what only its maker says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from emdi.chain import StationHead, check_next, check_subject
from emdi.checkpoint import Checkpoint, open_checkpoint
from emdi.encoding import b64_decode, b64u_decode, load_json
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_READING, Entry, parse_entry
from emdi.envelope import Envelope, parse_envelope
from emdi.errors import ChainError, EmdiError, EnvelopeError, ProofFileError
from emdi.event import Event, parse_event
from emdi.head import head_root
from emdi.jws import verify_signature
from emdi.keys import PublicKey
from emdi.merkle import leaf_hash, verify_consistency, verify_inclusion
from emdi.pack import Record
from emdi.policy import NO_QUORUM, Policy
from emdi.proof_file import ProofFile
from emdi.service_keys import SERVICE_KEY
from emdi.units import format_at

BACK_DATED_MS = 60_000
STALE_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class Account:
    """What a checked file says: `proven` by keys and hashes, `observed` by its maker alone."""

    type: str
    says: str
    proven: tuple[str, ...]
    observed: tuple[str, ...]


class Opened:
    """A proof file whose notes, leaves and prefix hold; sizes and roots come from the signed notes only."""

    def __init__(self, proof: ProofFile, policy: Policy) -> None:
        self.proof = proof
        # A thief of the log's key gets no cosignatures: what he signs is evidence all the same.
        log_only = replace(policy, quorum=NO_QUORUM)
        opened = [open_checkpoint(note, log_only) for note in proof.notes]
        self.checkpoints: list[Checkpoint] = [checkpoint for checkpoint, _ in opened]
        self.times_ms = [[time_s * 1000 for time_s in note.times_s if time_s] for _, note in opened]
        self.proven: list[str] = []
        self.observed: list[str] = []
        for checkpoint, (_, note) in zip(self.checkpoints, opened, strict=True):
            signed = f"{checkpoint.origin} signed a tree of {checkpoint.size} entries"
            self.proven.append(f"{signed}, root {checkpoint.root.hex()} (signatures: {', '.join(note.by)})")
        self.entries = [self._prove(place) for place in range(len(proof.leaves))]
        if proof.prefix is not None:
            tree = self.checkpoints[proof.prefix.note]
            prefix = proof.prefix
            verify_consistency(prefix.size, tree.size, prefix.root, tree.root, prefix.path)
            self.proven.append(f"in that tree the first {prefix.size} entries have root {prefix.root.hex()}")

    def _prove(self, place: int) -> Entry:
        leaf = self.proof.leaves[place]
        tree = self.checkpoints[leaf.note]
        verify_inclusion(leaf.idx, tree.size, leaf_hash(leaf.entry), leaf.path, tree.root)
        entry = parse_entry(leaf.entry)
        self.proven.append(f"entry {leaf.idx} (kind {entry.kind}) is in the tree of {tree.size}")
        return entry

    def envelope(self, place: int) -> Envelope:
        """Return leaf number `place` as a parsed envelope."""
        return parse_envelope(self.entries[place].body)

    def event(self, place: int, typ: str | None = None) -> Event:
        """Return leaf number `place` as a parsed event (of this type)."""
        if len(self.entries) <= place or self.entries[place].kind != KIND_EVENT:
            raise unproven(f"leaf {place} is not an event")
        event = parse_event(self.entries[place].body)
        if typ is not None and event.typ != typ:
            raise unproven(f"leaf {place} is an event {event.typ}, not {typ}")
        return event

    def seen(self, name: str) -> Any:
        """Return a member of `observed`; raise ProofFileError when it is missing."""
        if name not in self.proof.observed:
            raise ProofFileError("proof_file.observed", f"observed lacks {name!r}")
        return self.proof.observed[name]

    def time_ms(self, place: int, *, latest: bool) -> tuple[int, bool]:
        """Return when note `place` existed, and whether a witness says so or only the file's maker."""
        if self.times_ms[place]:
            return (max if latest else min)(self.times_ms[place]), True
        return int(self.seen("seen_ms")[place]), False


def check_proof(proof: ProofFile, policy: Policy) -> Account:
    """Check a proof file with nothing but a policy.

    Raises ProofFileError("proof_file.unproven") when the file does not show what its type says, and what notes,
    policies, proofs and entries raise when they do not hold.
    """
    opened = Opened(proof, policy)
    try:
        _CHECKS[proof.type](opened)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise ProofFileError(
            "proof_file.observed", f"a member is missing or of another type: {error}"
        ) from None
    return Account(proof.type, proof.says, tuple(opened.proven), tuple(opened.observed))


def unproven(message: str) -> ProofFileError:
    """Return the error that says that a file does not prove what it claims."""
    return ProofFileError("proof_file.unproven", message)


def signed_record(envelope: Envelope, channel: str, at_ms: int) -> Record | None:
    """Return the reading that an envelope signs for a channel and a time, if any."""
    return next((item for item in envelope.records if (item.name, item.at_ms) == (channel, at_ms)), None)


def signed_flag(events: Mapping[str, Event]) -> dict[str, Any]:
    """Return what a server must show of a flag, from its events by role: raised, newest, decision (if any)."""
    raised, newest = events["raised"], events.get("newest", events["raised"])
    names = ("flag_id", "detector", "detector_version", "kind", "verdict")
    shown = {name: raised.data[name] for name in names if name in raised.data}
    shown |= {"stn": raised.subj.partition(":")[2], "event_id": raised.event_id.hex()}
    shown |= {"from_at": raised.data["from_ms"], "channels": list(raised.data["channels"])}
    shown |= {"to_at": newest.data["to_ms"]} | {name: newest.data[name] for name in ("text_en", "text_zh")}
    lapse, decision = events.get("lapse"), events.get("decision")
    if lapse is not None and (lapse.typ, lapse.data.get("flag_id")) != (
        "flag.lapsed",
        raised.data["flag_id"],
    ):
        raise unproven("the lapse is not one of this flag")
    shown["lapsed"] = None if lapse is None else lapse.event_id.hex()
    return shown | {"decision": None if decision is None else decision.data["decision"]}


def _fork(opened: Opened) -> None:
    prefix = opened.proof.prefix
    first, second = opened.checkpoints
    if first.origin != second.origin:
        raise unproven("the two notes are of two logs")
    if prefix is None:
        if first.size != second.size or first.root == second.root:
            raise unproven("the two trees are of different sizes, or the same")
        opened.proven.append(f"two different trees of {first.size} entries: no log can hold both")
        return
    smaller = opened.checkpoints[1 - prefix.note]
    if prefix.size != smaller.size or prefix.root == smaller.root:
        raise unproven("the smaller tree is a prefix of the larger one")
    opened.proven.append(
        f"the signed tree of {smaller.size} entries is not a prefix of the larger one: a fork"
    )


def _rollback(opened: Opened) -> None:
    first, second = opened.checkpoints
    if first.origin != second.origin or second.size >= first.size:
        raise unproven("the second tree is not smaller than the first")
    seen = [format_at(int(at_ms)) for at_ms in opened.seen("seen_ms")]
    opened.observed.append(f"size {first.size} was seen at {seen[0]}, size {second.size} served at {seen[1]}")


def _gossip(opened: Opened) -> None:
    envelope, idx, prefix = opened.envelope(0), opened.proof.leaves[0].idx, opened.proof.prefix
    if envelope.cp is None:
        raise unproven("the envelope names no checkpoint")
    size, root = envelope.cp
    if size > idx:
        opened.proven.append(
            f"station {envelope.stn} had verified {size} entries before its entry {idx} was made"
        )
    elif prefix is None or prefix.size != size or prefix.root == root:
        raise unproven("the checkpoint the envelope names is a prefix of the log")
    else:
        opened.proven.append(f"station {envelope.stn} signed that it was shown root {root.hex()} at {size}")


def _value(opened: Opened) -> None:
    envelope, idx = opened.envelope(0), opened.proof.leaves[0].idx
    stn, channel, at_ms = opened.seen("stn"), opened.seen("channel"), int(opened.seen("at_ms"))
    record = signed_record(envelope, channel, at_ms)
    if envelope.stn != stn or record is None:
        raise unproven(f"entry {idx} signs no reading of {stn} {channel} at that time")
    value = None if record.value is None else float(record.value)
    shown = opened.seen("shown")
    place = f"{stn} {channel} at {format_at(at_ms)}"
    opened.proven.append(f"entry {idx} signs {place}: {value} ({record.status})")
    if shown is None:
        opened.observed.append(f"the server does not show {place}")
        return
    shown_value = None if shown["value"] is None else float(shown["value"])
    if (shown_value, shown["status"]) == (value, record.status):
        raise unproven("the value shown is the value signed")
    opened.observed.append(f"the server shows {place}: {shown_value} ({shown['status']})")


def _unsigned(opened: Opened) -> None:
    shown, at = opened.seen("shown"), format_at(int(opened.seen("at_ms")))
    opened.observed.append(
        f"the server shows {opened.seen('stn')} {opened.seen('channel')} at {at}: {shown['value']}"
        f" ({shown['status']}), and no entry of the log signs it"
    )


def _missing_flag(opened: Opened) -> None:
    event = opened.event(0, "flag.raised")
    if event.data["flag_id"] != opened.seen("flag_id"):
        raise unproven("the event raises another flag")
    opened.observed.append(f"the server does not list flag {event.data['flag_id']}")


def _flag(opened: Opened) -> None:
    roles = dict(zip(opened.seen("roles"), range(len(opened.entries)), strict=True))
    signed = signed_flag({role: opened.event(place) for role, place in roles.items()})
    name, shown = opened.seen("field"), opened.seen("shown")
    if signed["flag_id"] != opened.seen("flag_id") or signed[name] == shown:
        raise unproven(f"{name} of the flag is shown as signed")
    opened.proven.append(f"flag {signed['flag_id']}: the log says {name} = {signed[name]!r}")
    opened.observed.append(f"the server shows {name} = {shown!r}")


def _catalog(opened: Opened) -> None:
    signed, shown = opened.event(0, "catalog.baseline").data["sha256"], opened.seen("sha256")
    if signed == shown:
        raise unproven("the catalog shown is the signed one")
    opened.proven.append(f"the signed baseline of the database's catalog is {signed}")
    opened.observed.append(f"the server's catalog is {shown}")
    opened.observed += [str(line) for line in opened.proof.observed.get("changes", [])]


def _head(opened: Opened) -> None:
    event = opened.event(0, "head.daily")
    lines = [str(line) for line in opened.seen("lines")]
    root = head_root(lines)
    if root == b64u_decode(event.data["root_b64u"]):
        raise unproven("the lines give the signed root")
    opened.proven.append(f"the head of {event.data['as_of']} entries was signed as {event.data['root_b64u']}")
    opened.observed.append(f"the entries give a head of {len(lines)} lines, root {root.hex()}")
    opened.observed += [str(line) for line in opened.proof.observed.get("changes", [])]


def _signature(opened: Opened) -> None:
    entry, idx = opened.entries[0], opened.proof.leaves[0].idx
    signed = parse_event(entry.body) if entry.kind == KIND_EVENT else parse_envelope(entry.body)
    if len(opened.entries) == 1:
        opened.proven.append(f"entry {idx} names key {signed.kid}")
        opened.observed.append(str(opened.seen("why")))
        return
    try:
        verify_signature(signed, _key_of(opened, signed.kid))
    except EnvelopeError as error:
        opened.proven.append(f"entry {idx} is not signed by its key {signed.kid}: {error.message}")
        return
    # The signature holds, so the second leaf must be what ended the key before this entry.
    ended = opened.event(1)
    followed = ended.typ in ("key.rotate", SERVICE_KEY)
    kid = ended.data.get("old_kid" if followed else "kid")
    if not (followed or ended.typ in ("key.revoke", "key.compromise")) or kid != signed.kid:
        raise unproven("the signature holds, and nothing here ends the key")
    if opened.proof.leaves[1].idx >= idx:
        raise unproven("the key was ended after the entry")
    opened.proven.append(
        f"key {signed.kid} was ended by entry {opened.proof.leaves[1].idx}, before entry {idx}"
    )


def _key_of(opened: Opened, kid: str) -> PublicKey:
    """Read the key `kid` from the leaf that names it: a key event, or leaf 0 for the service's."""
    for place, entry in enumerate(opened.entries[1:], 1):
        if entry.kind == KIND_GENESIS:
            members = load_json(entry.body)
            if members["service_kid"] == kid:
                return PublicKey.from_bytes("Ed25519", b64u_decode(members["service_public_b64u"]))
        elif entry.kind == KIND_EVENT:
            data = opened.event(place).data
            if data.get("kid") == kid and "public_b64u" in data:
                return PublicKey.from_bytes(data["alg"], b64u_decode(data["public_b64u"]))
    raise unproven(f"no leaf here names key {kid}")


def _chain(opened: Opened) -> None:
    last, idx = len(opened.entries) - 1, opened.proof.leaves[-1].idx
    try:
        if opened.entries[last].kind == KIND_READING:
            before = opened.envelope(0) if last else None
            head = None if before is None else StationHead(before.ep, before.seq, before.env_id)
            _same(before, envelope := opened.envelope(last))
            check_next(head, envelope)
        else:
            earlier = opened.event(0) if last else None
            event = opened.event(last)
            if earlier is not None and earlier.subj != event.subj:
                raise unproven("the two events are of two subjects")
            check_subject(None if earlier is None else (earlier.sseq, earlier.event_id), event)
    except ChainError as error:
        before_it = f"entry {opened.proof.leaves[0].idx}" if last else "an empty chain"
        opened.proven.append(f"entry {idx} does not follow {before_it}: {error}")
        opened.observed.append("between the two the log holds no entry of this chain")
        return
    raise unproven("the entry follows the one before it")


def _same(before: Envelope | None, envelope: Envelope) -> None:
    if before is not None and before.stn != envelope.stn:
        raise unproven("the two envelopes are of two stations")


def _equivocation(opened: Opened) -> None:
    one, two = opened.envelope(0), opened.envelope(1)
    if (one.stn, one.ep, one.seq) != (two.stn, two.ep, two.seq) or one.env_id == two.env_id:
        raise unproven("the two envelopes do not claim one place")
    opened.proven.append(f"station {one.stn} signed two envelopes for epoch {one.ep}, seq {one.seq}")


def _back_dated(opened: Opened) -> None:
    leaf, recv_ms = opened.proof.leaves[0], opened.entries[0].recv_ms
    until_ms, witnessed = opened.time_ms(leaf.note, latest=False)
    if recv_ms > until_ms + BACK_DATED_MS:
        message = f"entry {leaf.idx} says it was received at {format_at(recv_ms)}"
        said = f"{message}, yet it was in the tree at {format_at(until_ms)}"
    else:
        place = 1 - leaf.note
        since_ms, witnessed = opened.time_ms(place, latest=True)
        if opened.checkpoints[place].size > leaf.idx or recv_ms >= since_ms - BACK_DATED_MS:
            raise unproven("the time of receipt fits the two checkpoints")
        message = f"entry {leaf.idx} says it was received at {format_at(recv_ms)}"
        said = f"{message}, yet at {format_at(since_ms)} the log did not hold it"
    (opened.proven if witnessed else opened.observed).append(said)


def _iat(opened: Opened) -> None:
    envelope, leaf = opened.envelope(0), opened.proof.leaves[0]
    from_ms, to_ms = int(opened.seen("from_ms")), int(opened.seen("to_ms"))
    if from_ms <= envelope.iat_ms <= to_ms:
        raise unproven("the device's clock fits")
    opened.proven.append(f"entry {leaf.idx}: the device says it signed at {format_at(envelope.iat_ms)}")
    opened.observed.append(f"it can only have been between {format_at(from_ms)} and {format_at(to_ms)}")


def _entry(opened: Opened) -> None:
    tree, idx, hashed = opened.checkpoints[0], int(opened.seen("idx")), b64_decode(opened.seen("leaf"))
    path = [b64_decode(item) for item in opened.seen("path")]
    verify_inclusion(idx, tree.size, hashed, path, tree.root)
    if leaf_hash(b64_decode(opened.seen("served"))) == hashed:
        raise unproven("the bytes served are those of the log")
    opened.proven.append(f"leaf {idx} of the tree is {hashed.hex()}")
    opened.observed.append(f"the server's bytes for entry {idx} give another leaf hash")


def _malformed(opened: Opened) -> None:
    entry = opened.entries[0]
    try:
        if entry.kind == KIND_EVENT:
            parse_event(entry.body)
        elif entry.kind != KIND_GENESIS:
            parse_envelope(entry.body)
    except EmdiError as error:
        opened.proven.append(f"entry {opened.proof.leaves[0].idx} cannot be read: {error}")
        return
    opened.observed.append(str(opened.seen("why")))


def _stale(opened: Opened) -> None:
    now_ms = int(opened.seen("now_ms"))
    at_ms, witnessed = (
        opened.time_ms(0, latest=True) if opened.checkpoints else (int(opened.seen("seen_ms")[0]), False)
    )
    if now_ms - at_ms <= STALE_MS:
        raise unproven("the checkpoint is younger than 15 minutes")
    said = "cosigned" if witnessed else "first seen"
    opened.observed.append(f"at {format_at(now_ms)} the newest checkpoint was {said} at {format_at(at_ms)}")


def _observation(opened: Opened) -> None:
    opened.observed.append(str(opened.seen("why")))


_CHECKS: Mapping[str, Callable[[Opened], None]] = {
    "fork": _fork,
    "rollback": _rollback,
    "gossip": _gossip,
    "value": _value,
    "unsigned": _unsigned,
    "missing-flag": _missing_flag,
    "flag": _flag,
    "catalog": _catalog,
    "head": _head,
    "signature": _signature,
    "chain": _chain,
    "equivocation": _equivocation,
    "back-dated": _back_dated,
    "iat": _iat,
    "entry": _entry,
    "malformed": _malformed,
    "stale": _stale,
    "tiles": _observation,
    "missing": _observation,
    "policy": _observation,
}
