"""Ask the policy's witnesses to cosign a checkpoint (c2sp.org/tlog-witness): all at once, within one deadline."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.errors import EmdiError, PolicyError
from emdi.note import parse_note
from emdi.policy import Policy, PolicyWitness
from emdi.tiles import TileReader
from emdi.witness import (
    MAX_ANSWER_BYTES,
    CosignatureRequest,
    format_request,
    parse_size,
    take_cosignatures,
)
from stackwitness_client.http import LOOPBACK, certificates

# One for a size not known yet, one more for a witness that another process of ours moved meanwhile.
ATTEMPTS = 3
SAID_CHARS = 120


@dataclass(frozen=True)
class Cosigned:
    """A checkpoint with the cosignatures that came in time; `missing` says of each other witness why not."""

    note: bytes
    quorum: bool
    missing: tuple[str, ...] = ()


class Witnesses:
    """Hold the witnesses of one policy; `close` ends their threads and connections."""

    def __init__(self, policy: Policy, timeout_s: float) -> None:
        self.policy = policy
        self.timeout_s = timeout_s
        self._asked = [_Witness(witness, timeout_s) for witness in policy.witnesses]
        self._threads = ThreadPoolExecutor(max(1, len(self._asked)), "witness")

    def cosign(self, note: bytes, tiles: TileReader) -> Cosigned:
        """Return the signed checkpoint with all cosignatures got within the deadline; never raises for what
        a witness does. `tiles` are those of the checkpoint's size.
        """
        if not self._asked:
            return Cosigned(note, True)
        prove = _Proofs(tiles)
        deadline = time.monotonic() + self.timeout_s
        running = {
            item: self._threads.submit(item.ask, note, prove, deadline) for item in self._asked if item.idle
        }
        # Whoever was late last time is asked, but waited for only when the quorum needs it.
        wait([future for item, future in running.items() if not item.late], self.timeout_s)
        if not self._reaches_quorum(note + "".join(_lines_of(running.values())).encode()):
            wait(running.values(), max(0.0, deadline - time.monotonic()))
        lines: list[str] = []
        missing: list[str] = []
        for item in self._asked:
            try:
                lines += _outcome(running.get(item))
            except _Refused as why:
                missing.append(f"{item.name}: {why}")
                item.late = isinstance(why, _TooLate)
        cosigned = note + "".join(lines).encode()
        return Cosigned(cosigned, self._reaches_quorum(cosigned), tuple(missing))

    def close(self) -> None:
        """Let go of everything; an answer still under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for item in self._asked:
            item.close()

    def _reaches_quorum(self, note: bytes) -> bool:
        try:
            self.policy.check(note)
        except PolicyError:
            return False
        return True


class _Refused(Exception):
    """Why a witness gave no cosignature."""


class _TooLate(_Refused):
    """It did not answer within the deadline."""

    def __init__(self) -> None:
        super().__init__("no answer in time")


class _Proofs:
    """Consistency proofs to one tree, from whatever size a witness names; shared between threads."""

    def __init__(self, tiles: TileReader) -> None:
        self._tiles = tiles
        self._lock = threading.Lock()

    def __call__(self, old: int) -> tuple[bytes, ...]:
        if old == 0:
            return ()
        with self._lock:
            return tuple(self._tiles.consistency(old))


class _Witness:
    """One witness; remembers the size it cosigned last, so that one request is enough the next time."""

    def __init__(self, witness: PolicyWitness, timeout_s: float) -> None:
        self.name = witness.name
        self._key = witness.key
        self._url = witness.url.rstrip("/") + "/add-checkpoint" if witness.url else ""
        self.late = False
        self._old = 0
        self._busy = threading.Lock()
        trust_env = urlsplit(self._url).hostname not in LOOPBACK
        self._client = httpx2.Client(
            timeout=timeout_s, trust_env=trust_env, verify=certificates(trust_env=trust_env)
        )

    @property
    def idle(self) -> bool:
        """Tell whether the last request has ended; one that drips on is not asked again meanwhile."""
        return not self._busy.locked()

    def close(self) -> None:
        self._client.close()

    def ask(self, note: bytes, prove: Callable[[int], tuple[bytes, ...]], deadline: float) -> tuple[str, ...]:
        """Return the witness' signature lines; raises _Refused."""
        with self._busy:
            if not self._url:
                raise _Refused("the policy gives no address")
            try:
                return self._ask(note, prove, deadline)
            except httpx2.TimeoutException:
                raise _TooLate from None
            except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
                raise _Refused(str(error) or type(error).__name__) from None
            except EmdiError as error:
                raise _Refused(error.message) from None

    def _ask(
        self, note: bytes, prove: Callable[[int], tuple[bytes, ...]], deadline: float
    ) -> tuple[str, ...]:
        parsed = parse_note(note)
        checkpoint = parse_checkpoint(parsed.text)
        self._old = min(self._old, checkpoint.size)
        for _ in range(ATTEMPTS):
            request = CosignatureRequest(self._old, prove(self._old), note)
            status, body = self._post(format_request(request), deadline)
            if status == 200:
                lines = take_cosignatures(parsed, body, (self._key,))
                self._old = checkpoint.size
                self.late = False
                return lines
            if status != 409:
                said = body[:SAID_CHARS].decode("utf-8", "replace").strip()
                raise _Refused(f"answered {status}: {said if said.isprintable() else repr(said)}")
            self._meet(parse_size(body), checkpoint)
        raise _Refused("its size changes with every request")

    def _meet(self, size: int, checkpoint: Checkpoint) -> None:
        if size > checkpoint.size:
            raise _Refused(f"FORK? it has cosigned {size} entries, this log has {checkpoint.size}")
        if size == self._old:
            raise _Refused(f"FORK? it has cosigned another tree of {size} entries")
        self._old = size

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        with self._client.stream("POST", self._url, content=body) as response:
            return response.status_code, b"".join(_within(response.iter_bytes(), deadline))


def _within(parts: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    """Pass on a body until the deadline, and no more of it than an answer can have."""
    taken = 0
    for part in parts:
        taken += len(part)
        if taken > MAX_ANSWER_BYTES:
            raise _Refused("its answer is too long")
        if time.monotonic() > deadline:
            raise _TooLate
        yield part


def _outcome(future: "Future[tuple[str, ...]] | None") -> tuple[str, ...]:
    if future is None or not future.done():
        raise _TooLate
    return future.result()


def _lines_of(futures: Iterable["Future[tuple[str, ...]]"]) -> Iterator[str]:
    """Return the signature lines that are there by now."""
    for future in futures:
        if future.done() and future.exception() is None:
            yield from future.result()
