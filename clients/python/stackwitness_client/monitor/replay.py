"""Take the log's entries in order: signatures, chains, gossip and clocks, each held against what came before."""

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emdi import chain
from emdi.columns import Columns
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING, Entry, parse_entry
from emdi.envelope import Envelope, parse_columns
from emdi.errors import ChainError, EmdiError, EnvelopeError, OfficerError
from emdi.event import Event, parse_event
from emdi.event_form import check_form
from emdi.jws import verify_signature
from emdi.keyring import KEY_EVENTS
from emdi.officers import ACCESS_EVENTS
from emdi.policy import read_change
from emdi.proof_check import BACK_DATED_MS, signed_flag
from emdi.runs import Span
from emdi.shard import Previous, chains_of, check_end, parse_previous
from emdi.units import format_at
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.judged import JudgedStations
from stackwitness_client.monitor.state import Seen, State, SubjectHead

IAT_SLACK_MS = 5 * 60_000  # a device's clock may be off by this much
MAX_PER_TYPE = 100  # alarms of one type; more of the same are counted, not filed
PREVIOUS_HEAD, PREVIOUS_CHECKPOINT = "previous/head", "previous/checkpoint"
_ROOTS = 4096


@dataclass(frozen=True, slots=True)
class Between:
    """Entries below `end` were first covered by the tree `by`, and were not in the tree `after` (None: unknown)."""

    end: int
    by: Seen
    after: Seen | None


class Replay:
    """Take entries from `state.replayed` on; what is wrong goes to `state.find`.

    `root_at(size)` gives the log's own root at a smaller size, `spans` say between which checkpoints entries came,
    `read` fetches a further file of the log.
    """

    def __init__(
        self,
        state: State,
        root_at: Callable[[int], bytes],
        spans: list[Between],
        read: Callable[[str], bytes],
    ) -> None:
        self._state = state
        self._read = read
        self._root_at = root_at
        self._spans = spans
        self._roots: OrderedDict[int, bytes] = OrderedDict()
        self._since: OrderedDict[int, int | None] = OrderedDict()
        self._recv_ms: int | None = None
        self._envelopes: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._touched: tuple[set[str], set[str]] = (set(), set())
        self._frozen_idx: int | None = state.get("frozen_idx")
        self._judged = JudgedStations(state)
        self.counts = {"envelopes": 0, "readings": 0, "events": 0, "quarantined": 0}

    def take(self, idx: int, data: bytes) -> None:
        """Take the entry at `idx`."""
        try:
            entry = parse_entry(data)
            self._refuse_behind_the_end(idx)
            self._dispatch(idx, entry)
        except EmdiError as error:
            says = f"entry {idx} of the log cannot be read: {error}"
            self._find(Finding("malformed", f"malformed:{idx}", says, (idx,), {"why": str(error)}))

    def _refuse_behind_the_end(self, idx: int) -> None:
        """Nothing follows log.freeze: whoever goes on behind it has ended a log for some and not for others."""
        if self._frozen_idx is not None:
            says = (
                f"entry {idx} stands behind entry {self._frozen_idx} (log.freeze), the last one of this log"
            )
            self._find(Finding("signature", f"frozen:{self._frozen_idx}", says, (idx,), {"why": says}))

    def flush(self) -> None:
        """Write what is buffered into the state's transaction."""
        db = self._state.db
        db.executemany("INSERT OR REPLACE INTO envelope VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._envelopes)
        db.executemany("INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?)", self._events)
        self._state.save_heads(*self._touched)
        self._judged.save()
        if self._recv_ms is not None:
            self._state.put("newest_recv_ms", self._recv_ms)
        self._envelopes, self._events, self._touched = [], [], (set(), set())

    def _dispatch(self, idx: int, entry: Entry) -> None:
        if entry.kind == KIND_GENESIS:
            self._take_genesis(idx, entry.body)
            return
        self._check_received(idx, entry)
        self._recv_ms = entry.recv_ms
        if entry.kind == KIND_READING:
            self._take_envelope(idx, *parse_columns(entry.body))
        elif entry.kind == KIND_EVENT:
            self._take_event(idx, parse_event(entry.body), entry.recv_ms)
        elif entry.kind == KIND_QUARANTINED:
            self._take_quarantined(idx, parse_columns(entry.body)[0])

    def _take_genesis(self, idx: int, body: bytes) -> None:
        members = self._state.ring.take_genesis(idx, body, self._spans[0].by.tree.origin)
        self._state.db.execute("INSERT OR REPLACE INTO key_entry VALUES (?, ?)", (idx, body))
        self._state.put("policy", str(members.get("policy", "")))
        if members.get("previous") is not None:
            self._take_previous(idx, parse_previous(members["previous"]))

    def _take_previous(self, idx: int, previous: Previous) -> None:
        """A shard goes on where the one before it ended: leaf 0 commits to every station's last envelope."""
        self._state.put("previous_size", previous.size)
        self._state.put("previous", previous.members())
        try:
            chains = chains_of(previous, self._read(PREVIOUS_HEAD))
            check_end(previous, self._read(PREVIOUS_CHECKPOINT))
        except (FileNotFoundError, EmdiError) as error:
            says = f"where the shard before this one ended is not served as leaf 0 commits to it: {error}"
            self._find(Finding("missing", "missing:previous", says, (idx,), {"why": says}))
            return
        for stn, head in chains.items():
            self._state.set_station(stn, *head, -1, 0)
            self._touched[0].add(stn)

    # Stations -----------------------------------------------------------------------------------------
    def _take_envelope(self, idx: int, envelope: Envelope, columns: Columns) -> None:
        self.counts["envelopes"] += 1
        self.counts["readings"] += len(columns.at_ms)
        self._check_envelope_signature(idx, envelope)
        stn = envelope.stn
        head = self._state.stations.get(stn)
        known = None if head is None else chain.StationHead(head.ep, head.seq, head.env_id)
        first_ms, last_ms = min(columns.at_ms), max(columns.at_ms)
        try:
            chain.check_next(known, envelope)
        except ChainError as error:
            says = f"station {stn}: entry {idx} (epoch {envelope.ep}, seq {envelope.seq}) breaks the chain: {error}"
            leaves = (idx,) if head is None or head.idx < 0 else (head.idx, idx)
            self._find(Finding("chain", f"chain:{idx}", says, leaves, {"stn": stn}))
        if envelope.cp is not None:
            self._check_gossip(idx, envelope, *envelope.cp)
        self._check_iat(idx, envelope)
        if envelope.skip is not None:
            self._state.want("gap.opened", envelope.env_id.hex(), idx)
        if known is not None and envelope.ep > known.ep:
            self._state.want("epoch.open", envelope.env_id.hex(), idx)
        if known is None or (envelope.ep, envelope.seq) > (known.ep, known.seq):
            head = self._state.set_station(
                stn, envelope.ep, envelope.seq, envelope.env_id, idx, last_ms - first_ms
            )
            self._touched[0].add(stn)
        assert head is not None  # the first envelope of a station always sets it
        place = (idx, head.station_no, envelope.ep, envelope.seq, envelope.env_id, first_ms, last_ms)
        self._envelopes.append((*place, len(columns.at_ms)))
        self._judged.take_envelope(stn, Span((envelope.ep, envelope.seq), first_ms, last_ms))

    def _check_envelope_signature(self, idx: int, envelope: Envelope) -> bool:
        ring, stn, kid = self._state.ring, envelope.stn, envelope.kid
        try:
            verify_signature(envelope, ring.station_key(stn, kid, idx))
        except EnvelopeError as error:
            span = next((span for span in ring.spans() if span.kid == kid), None)
            place: tuple[int, ...] = () if span is None or span.stn != stn else (span.since_idx,)
            if error.code == "key.revoked" and span is not None and span.until_idx is not None:
                place = (span.until_idx, span.since_idx)
            says = f"station {stn}: entry {idx} (epoch {envelope.ep}, seq {envelope.seq}): {error.message}"
            why = {"why": error.message, "stn": stn, "kid": kid}
            self._find(Finding("signature", f"signature:{idx}", says, (idx, *place), why))
            return False
        return True

    def _check_gossip(self, idx: int, envelope: Envelope, size: int, root: bytes) -> None:
        """A device names the last tree it verified: it must be a prefix of this log."""
        if size <= idx:
            if size not in self._roots:
                self._roots[size] = self._root_at(size)
                if len(self._roots) > _ROOTS:
                    self._roots.popitem(last=False)
            if self._roots[size] == root:
                return
        if size <= self._state.get("previous_size", 0):
            return  # perhaps a tree of the shard before this one, which this log does not hold
        says = (
            f"station {envelope.stn} signed in entry {idx} that it was shown another tree of {size} entries"
        )
        wanted = size if size <= idx else None
        self._find(
            Finding("gossip", f"gossip:{size}:{root.hex()}", says, (idx,), {"stn": envelope.stn}, (), wanted)
        )

    def _check_iat(self, idx: int, envelope: Envelope) -> None:
        """The device signed after the tree it names stood, and before a witness saw its entry."""
        to_ms = self._span(idx).by.first_ms + IAT_SLACK_MS
        from_ms = 0
        if envelope.cp is not None:
            size = envelope.cp[0]
            if size not in self._since:
                below = self._state.seen_below(size)
                self._since[size] = None if below is None else below.last_ms
                if len(self._since) > _ROOTS:
                    self._since.popitem(last=False)
            from_ms = (self._since[size] or IAT_SLACK_MS) - IAT_SLACK_MS
        if not from_ms <= envelope.iat_ms <= to_ms:
            says = (
                f"station {envelope.stn}: entry {idx} says it was signed at {format_at(envelope.iat_ms)},"
                f" outside [{format_at(from_ms)}, {format_at(to_ms)}]"
            )
            seen = {"stn": envelope.stn, "from_ms": from_ms, "to_ms": to_ms}
            self._find(Finding("iat", f"iat:{idx}", says, (idx,), seen))

    def _take_quarantined(self, idx: int, envelope: Envelope) -> None:
        self.counts["quarantined"] += 1
        if not self._check_envelope_signature(idx, envelope):
            return
        head = self._state.stations.get(envelope.stn)
        self.flush()
        row = self._state.db.execute(
            "SELECT idx, env_id FROM envelope WHERE station_no = ? AND ep = ? AND seq = ?",
            (-1 if head is None else head.station_no, envelope.ep, envelope.seq),
        ).fetchone()
        if row is not None and row[1] == envelope.env_id:
            says = f"entry {idx} sets aside the envelope of entry {row[0]}, as if station {envelope.stn} had"
            says += " contradicted itself; it did not"
            self._find(Finding("malformed", f"malformed:{idx}", says, (idx,), {"why": says}))
        elif row is not None:
            place = f"epoch {envelope.ep}, seq {envelope.seq}"
            says = f"station {envelope.stn} signed two envelopes for {place}: entries {row[0]} and {idx}"
            self._find(
                Finding("equivocation", f"equivocation:{idx}", says, (row[0], idx), {"stn": envelope.stn})
            )

    # Clocks -------------------------------------------------------------------------------------------
    def _span(self, idx: int) -> Between:
        while len(self._spans) > 1 and self._spans[0].end <= idx:
            self._spans.pop(0)
        return self._spans[0]

    def _check_received(self, idx: int, entry: Entry) -> None:
        """The time of receipt lies between two checkpoints, give or take the maximum merge delay."""
        span = self._span(idx)
        after_ms = 0 if span.after is None else span.after.last_ms - BACK_DATED_MS
        if after_ms <= entry.recv_ms <= span.by.first_ms + BACK_DATED_MS:
            return
        sizes = (span.by.tree.size,) if span.after is None else (span.by.tree.size, span.after.tree.size)
        early = entry.recv_ms < after_ms
        says = (
            f"entry {idx} says it was received at {format_at(entry.recv_ms)}, but it came into the log"
            f" {'after ' + format_at(after_ms + BACK_DATED_MS) if early else 'before ' + format_at(span.by.first_ms)}"
        )
        times = [span.by.first_ms] if span.after is None else [span.by.first_ms, span.after.last_ms]
        # One alarm for what one checkpoint brought: the first of them stands for all.
        key = f"back-dated:{span.by.tree.size}:{'early' if early else 'late'}"
        self._find(Finding("back-dated", key, says, (idx,), {"seen_ms": times}, sizes))

    # Events -------------------------------------------------------------------------------------------
    def _take_event(self, idx: int, event: Event, recv_ms: int) -> None:
        self.counts["events"] += 1
        signed = self._check_event_signature(idx, event)
        head = self._state.subjects.get(event.subj)
        try:
            chain.check_subject(None if head is None else (head.sseq, head.event_id), event)
        except ChainError as error:
            says = f"{event.subj}: entry {idx} ({event.typ}, number {event.sseq}) breaks the chain: {error}"
            leaves = (idx,) if head is None else (head.idx, idx)
            self._find(Finding("chain", f"chain:{idx}", says, leaves, {"subj": event.subj}))
        if head is None or event.sseq > head.sseq:
            self._state.subjects[event.subj] = SubjectHead(event.sseq, event.event_id, idx)
            self._touched[1].add(event.subj)
        self._events.append((idx, event.subj, event.sseq, event.event_id))
        if signed:
            if self._check_form(idx, event):
                self._check_judged(idx, event)
            self._learn(idx, event)
            self._check_officer(idx, event, recv_ms)

    def _check_event_signature(self, idx: int, event: Event) -> bool:
        try:
            verify_signature(event, self._state.ring.service_key(event.kid, idx))
        except EnvelopeError as error:
            span = next((span for span in self._state.ring.service.spans() if span.kid == event.kid), None)
            place: tuple[int, ...] = () if span is None else (span.since_idx,)
            if error.code == "key.revoked" and span is not None and span.until_idx is not None:
                place = (span.until_idx, span.since_idx)
            says = f"{event.subj}: entry {idx} ({event.typ}, number {event.sseq}): {error.message}"
            self._find(Finding("signature", f"signature:{idx}", says, (idx, *place), {"why": error.message}))
            return False
        return True

    def _check_form(self, idx: int, event: Event) -> bool:
        """What is signed and says nothing, or nonsense, changes nothing; nobody honest made it. Tell whether it says something."""
        try:
            check_form(event)
        except EmdiError as error:
            says = f"{event.subj}: entry {idx} ({event.typ}) says what nobody can take: {error.message}"
            self._find(Finding("malformed", f"malformed:{idx}", says, (idx,), {"why": says}))
            return False
        return True

    def _check_judged(self, idx: int, event: Event) -> None:
        """Runs that go back, late arrivals, lapses and the detectors' numbers follow from what was signed before."""
        for about, fault in self._judged.take_event(event):
            says = f"{about.subj}: number {about.sseq} ({about.typ}): {fault.text}"
            found = {"why": says, "code": fault.code}
            self._find(Finding("malformed", f"judged:{idx}:{fault.code}:{about.sseq}", says, (idx,), found))

    def _learn(self, idx: int, event: Event) -> None:
        try:
            if event.typ in KEY_EVENTS:
                self._state.ring.take_event(idx, event)
                self._state.db.execute("INSERT OR REPLACE INTO key_entry VALUES (?, ?)", (idx, event.jws))
            elif event.typ in ("flag.raised", "flag.extended", "flag.lapsed", "review.decision"):
                self._learn_flag(idx, event)
            elif event.typ == "head.daily":
                due = (idx, int(event.data["as_of"]), str(event.data["root_b64u"]))
                self._state.db.execute("INSERT OR REPLACE INTO head_due VALUES (?, ?, ?)", due)
            elif event.typ == "catalog.baseline":
                self._state.put("baseline", {"idx": idx, "sha256": event.data["sha256"]})
            elif event.typ in ("gap.opened", "epoch.open"):
                self._state.have(event.typ, str(event.data["env_id"]), idx)
            elif event.typ == "policy.change":
                self._state.put("policy", read_change(event.data, self._origin()))
            elif event.typ == "log.freeze":
                self._frozen_idx = idx
                self._state.put("frozen_idx", idx)
                self._state.put("successor_origin", str(event.data["successor_origin"]))
        except EmdiError as error:
            says = f"{event.subj}: entry {idx} ({event.typ}) breaks a rule: {error}"
            self._find(Finding("signature", f"signature:{idx}", says, (idx,), {"why": str(error)}))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            says = f"{event.subj}: entry {idx} ({event.typ}) lacks a member: {error}"
            self._find(Finding("malformed", f"malformed:{idx}", says, (idx,), {"why": says}))

    def _check_officer(self, idx: int, event: Event, recv_ms: int) -> None:
        """Whoever acted held the role, by the log's own grants: what the service signs in a made-up name is its invention."""
        if event.typ in ACCESS_EVENTS:
            self._state.db.execute("INSERT OR REPLACE INTO key_entry VALUES (?, ?)", (idx, event.jws))
            self._state.put(f"recv_ms:{idx}", recv_ms)
        try:
            self._state.officers.take_event(idx, event, recv_ms)
        except OfficerError as error:
            says = f"{event.subj}: entry {idx} ({event.typ}) is no act of an officer: {error.message}"
            why = {"why": error.message, "code": error.code}
            self._find(Finding("signature", f"officer:{idx}", says, (idx,), why))

    def _origin(self) -> str:
        return str((self._state.ring.genesis or {}).get("origin"))

    def _learn_flag(self, idx: int, event: Event) -> None:
        db, flag_id = self._state.db, str(event.data["flag_id"])
        row = db.execute(
            "SELECT shown, newest_idx, decision_idx FROM flag WHERE flag_id = ?", (flag_id,)
        ).fetchone()
        if event.typ == "flag.raised":
            given = (flag_id, idx, idx, None, json.dumps(signed_flag({"raised": event})))
            db.execute("INSERT OR IGNORE INTO flag VALUES (?, ?, ?, ?, ?, 0)", given)
        elif row is None:
            says = f"entry {idx} ({event.typ}) is about flag {flag_id}, which no earlier entry raises"
            self._find(Finding("signature", f"signature:{idx}", says, (idx,), {"why": says}))
        else:
            shown, newest_idx, decision_idx = json.loads(row[0]), row[1], row[2]
            if event.typ == "flag.extended":
                newest_idx = idx
                shown |= {"to_at": event.data["to_ms"], "text_en": event.data["text_en"]}
                shown |= {"text_zh": event.data["text_zh"], "lapsed": None, "lapse_idx": None}
            elif event.typ == "flag.lapsed":
                shown |= {"lapsed": event.event_id.hex(), "lapse_idx": idx}
            else:
                decision_idx, shown["decision"] = idx, event.data["decision"]
            db.execute(
                "UPDATE flag SET shown = ?, newest_idx = ?, decision_idx = ? WHERE flag_id = ?",
                (json.dumps(shown), newest_idx, decision_idx, flag_id),
            )

    def _find(self, finding: Finding) -> None:
        if self._state.count_of(finding.type) < MAX_PER_TYPE:
            self._state.find(finding)
        else:
            self._state.put(f"more:{finding.type}", int(self._state.get(f"more:{finding.type}", 0)) + 1)
