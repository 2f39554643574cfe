"""Keep the time stamps the log speaks of: on a disk of one's own, each held against the event that names it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from cryptography import x509

from emdi.anchor import ANCHORED, CHAIN, FOLDER, MOST_AUTHORITIES, Anchor, anchor_of
from emdi.checkpoint import open_checkpoint
from emdi.entry import parse_entry
from emdi.errors import EmdiError, EncodingError
from emdi.event import parse_event
from emdi.policy import NO_QUORUM, Policy
from stackwitness_client.monitor.compare import View
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.mirror import Mirror
from stackwitness_client.monitor.source import Source
from stackwitness_client.monitor.state import State
from stackwitness_client.monitor.sync import entry_at
from stackwitness_client.verify.timestamps import (
    TimestampRefused,
    check_timestamp,
    have_library,
    open_timestamp,
    read_certificates,
)

NEW_A_TURN = 500  # the first turn over a log of years fetches the rest in the turns that follow
GRACE_MS = 600_000  # another monitor's mirror may be behind by a turn
KEPT, HELD, STRANGER = "kept", "held", "stranger"


@dataclass
class AnchorCheck:
    """One turn's look; `forks` are stamped checkpoints of another tree, `notes` what a person should read.

    `roots` is PEM of the authorities one trusts; without it the bytes are kept and nobody's word is taken.
    """

    state: State
    source: Source
    mirror: Mirror
    policy: Policy
    roots: bytes | None
    forks: list[View] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strangers: int = 0

    def run(self, now_ms: int) -> Iterator[Finding]:
        """Learn of anchors, fetch what is not kept, judge it; raises ServerError, then the same are due again."""
        yield from self._learn()
        due = self._rows("verdict IS NULL ORDER BY idx LIMIT ?", NEW_A_TURN)
        if due:
            self._fetch_chain()
        for idx, anchor in due:
            yield from self._take(idx, anchor, now_ms)
        self._take_last()
        self._judge()
        self._tell()

    # What the log says -------------------------------------------------------------------------------
    def _learn(self) -> Iterator[Finding]:
        at, end = int(self.state.get("anchored_upto", 0)), self.state.replayed
        query = "SELECT idx FROM event WHERE subj = 'log' AND idx >= ? AND idx < ? ORDER BY idx"
        found: list[tuple[int, str]] = []
        for (idx,) in self.state.db.execute(query, (at, end)).fetchall():
            try:
                event = parse_event(parse_entry(entry_at(self.mirror, idx)).body)
                if event.typ == ANCHORED:
                    found.append((idx, json.dumps(asdict(anchor_of(event)))))
            except EncodingError as error:
                yield self._finding(
                    "malformed", idx, f"entry {idx} names a time stamp that is none: {error.message}"
                )
            except EmdiError:  # an entry that is wrong has its alarm already
                continue
        with self.state.transaction():
            self.state.db.executemany("INSERT OR IGNORE INTO anchor VALUES (?, ?, NULL)", found)
            self.state.put("anchored_upto", end)

    def _rows(self, where: str, *given: object) -> list[tuple[int, Anchor]]:
        rows = self.state.db.execute(f"SELECT idx, data FROM anchor WHERE {where}", given)
        return [(idx, Anchor(**json.loads(data))) for idx, data in rows]

    # Files -------------------------------------------------------------------------------------------
    def _fetch_chain(self) -> None:
        with suppress(FileNotFoundError):
            self.mirror.put(f"{FOLDER}/{CHAIN}", self.source.read(f"{FOLDER}/{CHAIN}"))

    def _take(self, idx: int, anchor: Anchor, now_ms: int) -> Iterator[Finding]:
        """Keep both files of an anchor, or say why not."""
        files: dict[str, bytes] = {}
        for path, sha256 in anchor.files.items():
            try:
                files[path] = self._own(path, sha256) or self.source.read(path)
            except FileNotFoundError:
                if self.state.suspect(f"anchor:{idx}:{path}", now_ms, GRACE_MS):
                    yield self._finding(
                        "missing", idx, f"the time stamp of entry {idx} is not served: {path}"
                    )
                continue
            if hashlib.sha256(files[path]).hexdigest() != sha256:
                yield self._finding(
                    "missing", idx, f"{path} is served with other bytes than entry {idx} names"
                )
                del files[path]
        if len(files) < len(anchor.files):
            return
        note, tsr = files.values()
        if why := self._refuse(anchor, note, tsr):
            yield self._finding("malformed", idx, f"entry {idx} names a time stamp that is none: {why}")
        for path, data in files.items():
            self.mirror.put(path, data)
        self.mirror.sync()
        self._put(idx, KEPT)
        self.state.clear_suspects(f"anchor:{idx}:")

    def _own(self, path: str, sha256: str) -> bytes | None:
        with suppress(FileNotFoundError):
            data = (self.mirror.root / path).read_bytes()
            return data if hashlib.sha256(data).hexdigest() == sha256 else None
        return None

    def _refuse(self, anchor: Anchor, note: bytes, tsr: bytes) -> str:
        """Return why the log's own key should not have signed this anchor, "" when nothing speaks against it."""
        if why := self._refuse_note(note, anchor.size):
            return why
        try:
            if have_library() and open_timestamp(tsr, note)[1].gen_time_ms != anchor.gen_time_ms:
                return f"{anchor.file} is of another time than the event says"
        except TimestampRefused as error:
            return str(error)
        return ""

    def _refuse_note(self, note: bytes, size: int) -> str:
        """Return why this is no checkpoint of the log at a size; one of another tree is a fork."""
        try:
            tree, _ = open_checkpoint(note, replace(self.policy, quorum=NO_QUORUM))
            if tree.size != size:
                return f"{size}.note is of {tree.size} entries"
            if size > self.state.replayed or self.mirror.tiles(size).root_at(size) != tree.root:
                self.forks.append(View(f"{FOLDER}/{size}.note", note, tree, None))
        except EmdiError as error:
            return str(error)
        return ""

    def _take_last(self) -> None:
        """A frozen log's last checkpoint is stamped too, and only its files say so: what is none is told and not kept."""
        end = self.state.get("frozen_idx")
        if end is None or end + 1 != self.state.replayed:
            return
        size, kept = end + 1, f"{FOLDER}/{end + 1}.note"
        if (self.mirror.root / kept).exists() and not self.state.get("end_refused", False):
            return
        try:
            note = self.source.read(kept)
        except FileNotFoundError:
            return
        if why := self._refuse_note(note, size):
            self.notes.append(f"{kept} is served, and is none: {why}")
            return
        self.mirror.put(kept, note)
        refused = False
        for name in (f"{FOLDER}/{size}.{k}.tsr" for k in range(MOST_AUTHORITIES)):
            with suppress(FileNotFoundError):
                tsr = self.source.read(name)
                if why := _refuse_stamp(tsr, note):
                    refused = True
                    self.notes.append(f"{name} is served, and is none: {why}")
                else:
                    self.mirror.put(name, tsr)
        self.mirror.sync()
        with self.state.transaction():  # it is asked again, as the note alone would say that all is here
            self.state.put("end_refused", refused)

    # Trust -------------------------------------------------------------------------------------------
    def _judge(self) -> None:
        if self.roots is None or not have_library():
            return
        roots = read_certificates(self.roots)
        try:
            chain = read_certificates((self.mirror.root / FOLDER / CHAIN).read_bytes())
        except (FileNotFoundError, TimestampRefused):
            chain = []
        for idx, anchor in self._rows("verdict IN (?, ?)", KEPT, STRANGER):
            self._put(idx, HELD if self._holds(anchor, roots, chain) else STRANGER)

    def _holds(
        self, anchor: Anchor, roots: Sequence[x509.Certificate], chain: Sequence[x509.Certificate]
    ) -> bool:
        note, tsr = ((self.mirror.root / path).read_bytes() for path in anchor.files)
        try:
            check_timestamp(tsr, note, roots, chain)
        except TimestampRefused:
            return False
        return True

    def _tell(self) -> None:
        query = "SELECT coalesce(verdict, ''), count(*) FROM anchor GROUP BY 1"
        counts: dict[str, int] = dict(self.state.db.execute(query).fetchall())
        say: list[tuple[str, Callable[[int], str]]] = [
            ("", lambda n: f"{n} time stamps are not fetched yet"),
            (KEPT, lambda n: f"{n} time stamps kept, not checked: {self._why()}"),
            (STRANGER, lambda n: f"{n} time stamps hold under none of your --tsa-root certificates"),
            (HELD, lambda n: f"{n} time stamps hold"),
        ]
        self.notes += [text(counts[verdict]) for verdict, text in say if counts.get(verdict)]
        self.strangers = counts.get(STRANGER, 0)

    def _why(self) -> str:
        return "no --tsa-root" if self.roots is None else "rfc3161-client is not installed"

    def _put(self, idx: int, verdict: str) -> None:
        with self.state.transaction():
            self.state.db.execute("UPDATE anchor SET verdict = ? WHERE idx = ?", (verdict, idx))

    @staticmethod
    def _finding(kind: str, idx: int, says: str) -> Finding:
        return Finding(kind, f"anchor:{kind}:{idx}", says, (idx,), {"why": says})


def _refuse_stamp(tsr: bytes, note: bytes) -> str:
    try:
        if have_library():
            open_timestamp(tsr, note)
    except TimestampRefused as error:
        return str(error)
    return ""
