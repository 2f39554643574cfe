"""The log process: sequence, publish, have it signed, rename the checkpoint into place; then again."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import sqlalchemy as sa
import structlog

from emdi.checkpoint import parse_checkpoint
from emdi.errors import EmdiError
from emdi.keys import Signer
from emdi.note import parse_note
from emdi.policy import Policy, parse_policy
from stackwitness import clock
from stackwitness.db.durability import refuse_fragile
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import StackwitnessError
from stackwitness.log.anchors import Anchors, anchoring
from stackwitness.log.announcing import Announcer
from stackwitness.log.disk import Disk, lock_file
from stackwitness.log.errors import LogCorrupt, LogForked, LogKeyInvalid, PolicyUnusable, SignerRefused
from stackwitness.log.genesis import make_genesis, read_genesis, store_genesis
from stackwitness.log.heads import Heads
from stackwitness.log.logkeys import read_log_keys
from stackwitness.log.notekeys import load_export_key
from stackwitness.log.policies import read_policy, take_policy
from stackwitness.log.previous import read_previous
from stackwitness.log.publisher import Publisher
from stackwitness.log.sequencer import BATCH, LogHead, Sequencer, lock_log, read_head, read_root
from stackwitness.log.service_keys import read_spans
from stackwitness.log.signer.client import SignerClient
from stackwitness.log.status import STATUS_FILE, LogWarning, StatusFile
from stackwitness.log.stopping import stop_on_signals
from stackwitness.log.watching import watch_database
from stackwitness.settings import Settings

RETRY_MS = 1_000
MIN_PAUSE_MS = 20
REFUSED_RETRY_MS = 15_000
PAUSES = 4  # checkpoints are apart at least so many times what one takes, at most twice checkpoint_ms
log = structlog.get_logger("log")


class CheckpointSigner(Protocol):
    """Whoever can sign this log's checkpoints: the client of the signer process."""

    def vkey(self) -> str:
        """Return the log's public key."""

    def head(self) -> bytes:
        """Return the last signed note; empty before the first."""

    def sign(self, size: int, root: bytes) -> bytes:
        """Return the signed note."""


class LogWiring(Protocol):
    """The part of the service's wiring that the log process needs."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""

    @property
    def engine(self) -> sa.Engine:
        """The database."""

    @property
    def service_key(self) -> Signer:
        """The key that signs events; leaf 0 names its public half."""


class LogLoop:
    """Drive one log. Each step may fail at any point and be called again: nothing is remembered that a
    restart would miss.
    """

    def __init__(
        self, engine: sa.Engine, disk: Disk, signer: CheckpointSigner, heads: Heads | None = None
    ) -> None:
        self._engine = engine
        self._heads = heads
        self._signer = signer
        self._sequencer = Sequencer(engine, disk)
        self._publisher = Publisher(disk)
        self.announcer = Announcer(disk)
        self.anchors: Anchors | None = None
        self._checked = False

    @property
    def warnings(self) -> tuple[LogWarning, ...]:
        """What is wrong though the log moves."""
        return self.announcer.warnings + (() if self.anchors is None else self.anchors.warnings)

    def check_signed(self) -> None:
        """Refuse a database that is not the one last signed: an older copy, or another history
        (LogForked).
        """
        note = self._signer.head()
        if note:
            signed = parse_checkpoint(parse_note(note).text)
            with unit_of_work(self._engine, "sw_seq") as conn:
                head, root = read_head(conn), read_root(conn, signed.size)
            if root != signed.root:
                raise LogForked(
                    f"signed: {signed.size} entries, root {signed.root.hex()}; "
                    f"database: {head.size} entries, root there {root.hex() if root else 'none'}"
                )
        self._checked = True

    def sequence(self) -> int:
        """Sequence all that waits; return how many entries."""
        if not self._checked:
            self.check_signed()
        total = 0
        while True:
            count = self._sequencer.sequence_once()
            total += count
            if count < BATCH and not (total == 1 and count == 1):
                return total

    def _policy_in_force(self) -> Policy | None:
        with unit_of_work(self._engine, "sw_seq") as conn:
            text = read_policy(conn)
        return None if text is None else parse_policy(text)

    def publish(self) -> LogHead:
        """Bring disk and checkpoint up to the sequenced log; return what is now published.

        Order: bundles and tiles durable, the signature, the witnesses, the checkpoint, then heads that are due.
        Raises OSError, StackwitnessError.
        """
        if not self._checked:
            self.check_signed()
        with unit_of_work(self._engine, "sw_seq") as conn:
            head = read_head(conn)
            if head.size == 0:
                return head
            self._publisher.publish(conn, head.size)
        try:
            note = self._signer.sign(head.size, head.root)
        except StackwitnessError:
            self._checked = False
            raise
        self.announcer.follow_keys(self._policy_in_force)
        self.announcer.announce(note, head.size)
        if self._heads is not None:
            self._heads.make_due(head.size)
        return head


def ensure_genesis(
    engine: sa.Engine, settings: Settings, service_key: Signer, signer: CheckpointSigner
) -> None:
    """Create leaf 0 at the very first start; later, insist that it names the keys in use (LogForked)."""
    vkey = signer.vkey()
    with unit_of_work(engine, "sw_seq") as conn:
        lock_log(conn)
        stored = read_genesis(conn)
        if stored is not None and vkey in (known := read_log_keys(conn, stored).vkeys):
            vkey = known[0]  # leaf 0 names the first key, for ever
        created_ms = clock.now_ms() if stored is None else stored.created_ms
        export_key = load_export_key(settings, create=stored is None)
        before = read_previous(conn)
        first = read_spans(conn, service_key)[0]  # as for the log's key: those that follow are events
        wanted = make_genesis(
            settings.log_origin,
            vkey,
            first.kid,
            first.public,
            export_key.vkey,
            created_ms,
            settings.key_approvals if stored is None else stored.key_approvals,
            None if before is None else before[0].members(),
        )
        if stored is None and (read_head(conn).size or signer.head()):
            raise LogForked("the log has been signed before, but this database has no leaf 0")
        if stored is None:
            store_genesis(conn, wanted)
        elif stored != wanted:
            raise LogForked("leaf 0 of this database names another log, or other keys")


def run_log(wiring: LogWiring, stop: threading.Event | None = None) -> None:
    """Run the log process until SIGTERM (or `stop`). What fails is logged, shown as an alarm and tried
    again.
    """
    stop = stop or stop_on_signals()
    settings = wiring.settings
    status = StatusFile(settings.home / STATUS_FILE)
    lock: AbstractContextManager[object] | None = None
    while lock is None and not stop.is_set():
        lock = lock_file(settings.log_dir / ".lock")
        if lock is None:  # another log process leads on this disk; be ready to take over
            stop.wait(RETRY_MS / 1000)
    with lock or nullcontext():
        signer = SignerClient(settings.signer_socket)
        disk = Disk(settings.log_dir)
        loop = LogLoop(wiring.engine, disk, signer, Heads(wiring.engine, disk, wiring.service_key))
        turns = Turns(
            loop,
            lambda: start_log(wiring, loop, signer),
            lambda: watch_database(wiring.engine, wiring.service_key),
        )
        loop.anchors = make_anchors(wiring)
        with anchoring(loop.anchors, stop):
            while not stop.is_set():
                stop.wait(turns.take(settings, status) / 1000)
        loop.announcer.close()


def make_anchors(wiring: LogWiring) -> Anchors | None:
    """Return what has checkpoints time-stamped; None when the settings name no authority."""
    settings = wiring.settings
    if not settings.tsa_urls:
        return None
    return Anchors(
        wiring.engine,
        wiring.service_key,
        Disk(settings.log_dir),
        settings.tsa_urls,
        every_ms=settings.anchor_ms,
        roots=settings.tsa_root_file,
    )


def start_log(wiring: LogWiring, loop: LogLoop, signer: CheckpointSigner) -> None:
    """Make sure of the database and of leaf 0, and follow the policy in force."""
    settings = wiring.settings
    if settings.mode == "production":
        with unit_of_work(wiring.engine, "sw_seq") as conn:
            refuse_fragile(conn)
    ensure_genesis(wiring.engine, settings, wiring.service_key, signer)
    policy = take_policy(wiring.engine, wiring.service_key, signer.vkey(), settings.policy_file)
    timeout_s = settings.witness_timeout_ms / 1000
    loop.announcer.follow(policy, timeout_s, require_quorum=settings.require_quorum)


class Turns:
    """Take the log's turns: sequence often, publish now and then. After a failure nothing more is
    sequenced until a checkpoint is out again, so that the queue fills and ingest learns of it.
    """

    def __init__(
        self, loop: LogLoop, start: Callable[[], None], watch: Callable[[], object] = lambda: None
    ) -> None:
        self._loop = loop
        self._start = start
        self._watch = watch
        self._started = False
        self._blocked = False
        self._published_ms = 0
        self._took_ms = 0

    def _pause_ms(self, settings: Settings) -> int:
        """Return how far checkpoints are apart. One that took long (large envelopes: every checkpoint writes the
        unfinished bundle again) makes the next one wait, that ingest may have the disk and the processor meanwhile.
        """
        return max(settings.checkpoint_ms, min(PAUSES * self._took_ms, 2 * settings.checkpoint_ms))

    def take(self, settings: Settings, status: StatusFile) -> int:
        """Do what is due and return how many ms to wait: turns begin integrate_ms apart, as far as they are
        shorter.
        """
        began_ms = clock.now_ms()
        try:
            if not self._started:
                self._start()
                self._started = True
            if not self._blocked:
                self._watch()
                self._loop.sequence()
            # abs: a clock set back must not hold up checkpoints; half a turn early is not worth a whole one late
            due_ms = self._pause_ms(settings) - settings.integrate_ms // 2
            if self._blocked or abs(began_ms - self._published_ms) >= due_ms:
                publishing_ms = clock.now_ms()
                head = self._loop.publish()
                self._took_ms = abs(clock.now_ms() - publishing_ms)
                self._published_ms, self._blocked = began_ms, False
                status.clear(head.size, self._loop.warnings)
        except (OSError, EmdiError, StackwitnessError, sa.exc.SQLAlchemyError) as error:
            self._blocked = self._started
            status.alarm(error)
            return retry_pause_ms(error)
        return max(MIN_PAUSE_MS, settings.integrate_ms - abs(clock.now_ms() - began_ms))


def retry_pause_ms(error: Exception) -> int:
    """Return how long to wait after an error: longer when only a person can help."""
    return (
        REFUSED_RETRY_MS
        if isinstance(error, LogCorrupt | LogForked | LogKeyInvalid | PolicyUnusable | SignerRefused)
        else RETRY_MS
    )
