"""The monitor: one turn after another over one log, with a mirror, a memory and alarms of its own."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emdi.checkpoint import open_checkpoint
from emdi.errors import EmdiError
from emdi.head import head_root
from emdi.policy import Policy
from emdi.proof_check import STALE_MS
from emdi.proof_file import EXIT_CODES, ProofFile
from emdi.shard import Previous
from stackwitness_client.errors import ClientError, ServerError, ServerRefused
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.alarms import Alarm, AlarmBook
from stackwitness_client.monitor.anchors import AnchorCheck
from stackwitness_client.monitor.catalog import check_catalog
from stackwitness_client.monitor.compare import View, compare, open_witness
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.flags import FlagCheck
from stackwitness_client.monitor.heads import check_heads, final_head_at
from stackwitness_client.monitor.mirror import Mirror, write_durably
from stackwitness_client.monitor.projection import ProjectionCheck
from stackwitness_client.monitor.replay import MAX_PER_TYPE
from stackwitness_client.monitor.source import HttpSource
from stackwitness_client.monitor.state import Seen, State
from stackwitness_client.monitor.sync import Refused, Sync, prove

UNREACHABLE = 3
POLICY_NOT_MET = 4
SERVED_POLICY = "log-policy.txt"
SUCCESSOR = "successor"
GRAVEST = (1, 4, 2, 3)
AHEAD_ENTRIES = 4096  # two entries of one transaction never stand further apart
SILENCE_MS = 26 * 3_600_000  # without witnesses: the daily head alone makes an entry a day


@dataclass
class Turn:
    """What one turn did: the exit code it stands for, new alarms, what could not be checked; `next`: of the successor."""

    size: int = 0
    entries: int = 0
    readings: int = 0
    flags: int = 0
    ended_ms: int = 0
    codes: set[int] = field(default_factory=set)
    raised: list[tuple[Alarm, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: "Turn | None" = None

    @property
    def exit_code(self) -> int:
        """Return the gravest code."""
        return next((code for code in GRAVEST if code in self.codes), 0)


def wall_ms() -> int:
    """Return the clock of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Monitor:
    """Watch one log from outside. `home` is a folder of its own; nothing here touches the server's database.

    With a token of the role auditor it also compares what the server shows with what the log signs; `token_of` gives
    the token of a log that follows this one, by its origin, None while there is none. `tsa_roots` (PEM) are the
    time-stamp authorities to trust; without them time stamps are kept and not checked.
    """

    def __init__(
        self,
        home: Path,
        link: ServerLink,
        policy: Policy,
        *,
        api: bool = False,
        witness_urls: Sequence[str] = (),
        now_ms: Callable[[], int] = wall_ms,
        rng: random.Random | None = None,
        progress: Callable[[int, int], None] = lambda at, size: None,
        new_requests: int = 200,
        sample_requests: int = 10,
        token_of: Callable[[str], str | None] = lambda origin: None,
        tsa_roots: bytes | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.state = State(home / "state.db")
        self.mirror = Mirror(home / "mirror")
        self.alarms = AlarmBook(home / "alarms", self.state)
        self.last = Turn(codes={EXIT_CODES[alarm.type] for alarm in self.alarms.standing()})
        self._link = link
        self._source = HttpSource(link)
        self._policy = policy
        self._api = api
        self._witness_urls = witness_urls
        self._now_ms = now_ms
        self._random = rng or random.SystemRandom()
        self._sync = Sync(self._source, self.state, self.mirror, now_ms, progress)
        self._token_of = token_of
        self._tsa_roots = tsa_roots
        self._budget = (new_requests, sample_requests)
        self._progress = progress
        self._moved = False
        self._opened: ServerLink | None = None
        self.successor: Monitor | None = None

    def close(self) -> None:
        """Close the state, and what was opened for a successor."""
        self.state.close()
        self._close_successor()

    def _close_successor(self) -> None:
        if self.successor is not None:
            self.successor.close()
        if self._opened is not None:
            self._opened.close()
        self.successor = self._opened = None

    def turn(self) -> Turn:
        """Do everything once; whatever is wrong with the log becomes an alarm, not an error."""
        turn = Turn()
        try:
            self._follow(turn)
            newest = self.state.newest()
            if newest is not None and self.state.replayed == newest.tree.size and not self._moved:
                self._check_with_own_files(turn, newest)
        except Refused as refused:
            self._write(turn, refused.key, refused.proof)
        except FileNotFoundError as error:
            says = f"the log does not serve {error}, which its checkpoint covers"
            self._write(turn, f"missing:{error}", self._observation("missing", says))
        except ServerError as error:
            turn.notes.append(f"not reached: {error}")
            if (
                self.state.get("frozen_idx") is None
            ):  # a frozen log that was read whole has nothing more to say
                turn.codes.add(UNREACHABLE)
                self._check_silence(turn)
        except ClientError as error:
            turn.codes.add(UNREACHABLE)
            turn.notes.append(str(error))
        turn.codes |= {EXIT_CODES[alarm.type] for alarm in self.alarms.standing()}
        self._watch_successor(turn)
        turn.ended_ms = self._now_ms()
        self.last = turn
        return turn

    # The log ------------------------------------------------------------------------------------------
    def _follow(self, turn: Turn) -> None:
        asked_ms = self._now_ms()
        note = self._source.read("checkpoint")
        got_ms = self._now_ms()
        try:
            tree, verified = open_checkpoint(note, self._policy)
        except EmdiError as error:
            says = f"the checkpoint served is not one the policy accepts: {error}"
            proof = self._observation("policy", says, note=note.decode("utf-8", "replace")[:8192])
            raise Refused("policy", proof) from None
        self.alarms.end("policy")
        if tree.origin == self.state.get("successor_origin"):
            self._moved = True  # the old address belongs to the new log now
            return
        if self.state.get("origin", tree.origin) != tree.origin:
            raise ClientError(
                "monitor.origin",
                f"this home follows {self.state.get('origin')}, the URL now serves {tree.origin}: give it a home of its own",
            )
        with self.state.transaction():
            self.state.put("origin", tree.origin)
        times_ms = [time_s * 1000 for time_s in verified.times_s if time_s]
        first_ms, last_ms = min(times_ms, default=got_ms), max(times_ms, default=asked_ms)
        turn.entries = self._sync.follow(tree, note, first_ms, last_ms)
        turn.size = tree.size
        self._keep_policy()
        self._check_fresh(turn, note, max(times_ms, default=None))

    def _keep_policy(self) -> None:
        """Keep the policy the log says is in force, for those who read the mirror; this monitor has its own."""
        path, text = self.home / SERVED_POLICY, str(self.state.get("policy", "")).encode()
        if not path.exists() or path.read_bytes() != text:
            write_durably(path, text)

    def _check_fresh(self, turn: Turn, note: bytes, cosigned_ms: int | None) -> None:
        """A log that lives has its checkpoint cosigned every ten minutes; one that shows an old one hides news."""
        now_ms = self._now_ms()
        if self.state.get("frozen_idx") is not None:
            return
        if cosigned_ms is None:
            turn.notes.append("freshness not checked: no witness cosigned the checkpoint")
            newest_ms = int(self.state.get("newest_recv_ms", now_ms))
            if self.state.get("heads", False) and now_ms - newest_ms > SILENCE_MS:
                says = f"no new entry for {(now_ms - newest_ms) // 3_600_000} hours, not even the daily head"
                seen = {"now_ms": now_ms, "seen_ms": [newest_ms]}
                self._write(turn, "stale", self._observation("stale", says, (note,), **seen))
                return
        elif now_ms - cosigned_ms > STALE_MS:
            says = f"the checkpoint served was cosigned {(now_ms - cosigned_ms) // 60_000} minutes ago"
            self._write(turn, "stale", self._observation("stale", says, (note,), now_ms=now_ms))
            return
        self.alarms.end("stale")

    def _check_silence(self, turn: Turn) -> None:
        newest, now_ms = self.state.newest(), self._now_ms()
        if newest is not None and now_ms - newest.last_ms > STALE_MS:
            says = f"no answer and no newer checkpoint for {(now_ms - newest.last_ms) // 60_000} minutes"
            seen_ms = [newest.last_ms]
            self._write(
                turn,
                "stale",
                self._observation("stale", says, (newest.note,), now_ms=now_ms, seen_ms=seen_ms),
            )

    def _check_witnesses(self, turn: Turn, newest: Seen) -> None:
        """What a witness cosigned and what this monitor was shown are one history, or there is a proof."""
        ours = View("this monitor", newest.note, newest.tree, self.mirror.read)
        for url in self._witness_urls:
            try:
                self._compare(turn, open_witness(url, newest.tree.origin, self._policy), ours)
            except (ClientError, EmdiError) as error:
                turn.notes.append(f"witness not compared: {error}")

    def _compare(self, turn: Turn, theirs: View, ours: View) -> None:
        found = compare(theirs, ours, [self._source.read], self._now_ms())
        if found.proof is not None:
            self._write(turn, f"fork:{theirs.tree.size}:{theirs.tree.root.hex()}", found.proof)
        elif found.undecided:
            turn.notes.append(f"{theirs.name} not compared: {found.says}")

    def _unmet(self, below: int) -> Iterator[Finding]:
        """An admitted loss and a new epoch are stored with their event in one transaction: neither comes alone."""
        for key, want_idx, have_idx in self.state.take_unmet(below):
            typ, _, env_id = key.partition(":")
            if want_idx is not None:
                says = f"entry {want_idx} (envelope {env_id[:16]}) calls for an event {typ}, and the log holds none"
            else:
                says = f"entry {have_idx} ({typ}) speaks of envelope {env_id[:16]}, which does not say so"
            leaf = want_idx if want_idx is not None else have_idx
            yield Finding("missing", f"missing:{key}", says, () if leaf is None else (leaf,), {"why": says})

    # The log after this one ---------------------------------------------------------------------------
    def _watch_successor(self, turn: Turn) -> None:
        """Once this log is frozen, take a turn of the one that follows it too, in a home below this one."""
        newest = self.state.newest()
        if newest is None or self.state.get("frozen_idx") != newest.tree.size - 1:
            return
        origin = str(self.state.get("successor_origin"))
        if self.successor is not None and not self.successor._api and self._token_of(origin) is not None:
            self._close_successor()  # its first token has come
        if self.successor is None:
            self.successor = self._open_successor(turn, origin)
        if self.successor is None:
            return
        turn.next = self.successor.turn()
        turn.codes |= turn.next.codes
        turn.raised += turn.next.raised
        if self.successor.state.replayed:
            self._check_succession(turn, newest, self.successor)

    def _open_successor(self, turn: Turn, origin: str) -> "Monitor | None":
        urls = [log.url for log in self._policy.logs if log.url and log.key.name == origin]
        if not urls and not self._moved:
            turn.notes.append(
                f"frozen; its successor {origin} is not watched: the policy names no address of it"
            )
            return None
        token = self._token_of(origin)  # the frozen log's token opens nothing in another
        self._opened = ServerLink(urls[0] if urls else self._link.url, token=token)
        new, sample = self._budget
        successor = Monitor(
            self.home / SUCCESSOR,
            self._opened,
            self._policy,
            api=token is not None,
            witness_urls=self._witness_urls,
            now_ms=self._now_ms,
            rng=self._random,
            progress=self._progress,
            new_requests=new,
            sample_requests=sample,
            token_of=self._token_of,
            tsa_roots=self._tsa_roots,
        )
        with successor.state.transaction():
            successor.state.put("origin", origin)  # whatever else the address serves is not the successor
        return successor

    def _check_succession(self, turn: Turn, newest: Seen, successor: "Monitor") -> None:
        """Leaf 0 of the successor commits to where this log ended, as this monitor saw it end."""
        tree = newest.tree
        root = head_root(final_head_at(self.state, tree.size))
        ended = Previous(tree.origin, tree.size, tree.root, root)
        if successor.state.get("previous") != ended.members():
            says = (
                f"leaf 0 of {self.state.get('successor_origin')} does not commit to where {tree.origin} ended"
            )
            proof = self._observation("missing", says, (newest.note,), leaf_0=successor.state.get("previous"))
            self._write(turn, "succession", proof)

    # What stands on the log ---------------------------------------------------------------------------
    def _check_with_own_files(self, turn: Turn, newest: Seen) -> None:
        """What follows reads the mirror: files that are gone or broken there are this monitor's own trouble."""
        try:
            self._check_rest(turn, newest)
        except (EmdiError, FileNotFoundError) as error:
            turn.codes.add(UNREACHABLE)
            turn.notes.append(f"this monitor's own mirror is damaged ({error}): give it a new home")

    def _check_rest(self, turn: Turn, newest: Seen) -> None:
        self._check_witnesses(turn, newest)
        self._raise(turn, newest, self._unmet(max(turn.size - turn.entries, turn.size - AHEAD_ENTRIES)))
        self._raise(turn, newest, check_heads(self.state, self._source, self.mirror))
        self._check_anchors(turn, newest)
        if not self._api:
            turn.notes.append("readings, flags and catalog not checked: no token")
            return
        now_ms = self._now_ms()
        projection = ProjectionCheck(self._link, self.state, self.mirror, self._random)
        flags = FlagCheck(self._link, self.state)
        new, sample = self._budget
        checks: tuple[tuple[str, Iterator[Finding]], ...] = (
            ("readings", projection.run(now_ms, new_requests=new, sample_requests=sample)),
            ("flags", flags.run(now_ms)),
            ("catalog", check_catalog(self._link, self.state)),
        )
        for name, findings in checks:
            try:
                self._raise(turn, newest, findings)
            except ServerRefused as error:
                turn.notes.append(f"{name} not checked: {error}")
                turn.codes.add(2)
        turn.readings, turn.flags = projection.compared, flags.compared

    def _check_anchors(self, turn: Turn, newest: Seen) -> None:
        """What an authority stamped is this log, and its files are on this disk too."""
        check = AnchorCheck(self.state, self._source, self.mirror, self._policy, self._tsa_roots)
        self._raise(turn, newest, check.run(self._now_ms()))
        ours = View("this monitor", newest.note, newest.tree, self.mirror.read)
        for stamped in check.forks:
            self._compare(turn, stamped, ours)
        turn.notes += check.notes
        if check.strangers:
            turn.codes.add(POLICY_NOT_MET)

    def _raise(self, turn: Turn, newest: Seen, findings: Iterator[Finding]) -> None:
        """Keep findings, then write the alarm of each one that waits, with its proof from the mirror."""
        for finding in findings:
            if self.state.count_of(finding.type) < MAX_PER_TYPE:
                with self.state.transaction():
                    self.state.find(finding)
            else:
                turn.codes.add(EXIT_CODES[finding.type])
        for finding in self.state.pending():
            proof = prove(finding, newest, self.state, self.mirror, self._now_ms())
            self._write(turn, finding.key, proof)

    def _observation(self, kind: str, says: str, notes: tuple[bytes, ...] = (), **seen: object) -> ProofFile:
        return ProofFile(kind, says, self._now_ms(), notes, (), None, {"why": says, **seen})

    def _write(self, turn: Turn, key: str, proof: ProofFile) -> None:
        turn.codes.add(proof.exit_code)
        alarm = self.alarms.write(key, proof)
        if alarm is not None:
            turn.raised.append((alarm, proof.says))
