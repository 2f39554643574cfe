"""Check signatures in other processes: they are most of the work, and each stands alone."""

import multiprocessing
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from emdi.encoding import b64u_decode
from emdi.errors import EncodingError
from emdi.keys import PublicKey
from stackwitness.log.fsck.report import Report

BATCH = 512
AHEAD = 8
WORTH_PROCESSES = 20_000
ON_THE_SPOT = 8  # batches checked before processes are started: starting them takes as long

Job = tuple[PublicKey, bytes]
Place = tuple[int | None, str, str]


class Signatures:
    """Take (key, JWS) pairs as they come; each that does not hold becomes a finding.

    Those of small logs, and the first of large ones, are checked on the spot. `close` waits for what is under way and ends the processes.
    """

    def __init__(self, report: Report, entries: int) -> None:
        self._report = report
        self._jobs: list[Job] = []
        self._places: list[Place] = []
        self._under_way: deque[tuple[list[Place], Future[list[int]]]] = deque()
        self._pool: ProcessPoolExecutor | None = None
        self._worth = entries >= WORTH_PROCESSES
        self._on_the_spot = 0
        self._vouched: set[int] = set()

    def vouch(self, idx: int) -> None:
        """Take it that the signature of this entry was checked elsewhere, under the key the log names."""
        self._vouched.add(idx)

    def add(self, idx: int | None, table: str, key: str, public: PublicKey, jws: bytes) -> None:
        """Have one signature checked."""
        if idx in self._vouched:
            self._vouched.discard(idx)
            return
        self._jobs.append((public, jws))
        self._places.append((idx, table, key))
        if len(self._jobs) == BATCH:
            self._send()

    def close(self) -> None:
        """Finish all checks."""
        self._send()
        while self._under_way:
            self._receive()
        if self._pool is not None:
            self._pool.shutdown()

    def _send(self) -> None:
        jobs, places = self._jobs, self._places
        self._jobs, self._places = [], []
        if not jobs:
            return
        if self._pool is None and self._worth and self._on_the_spot == ON_THE_SPOT:
            # spawn: the parent holds database connections, which a forked child must not share
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(os.cpu_count() or 1, mp_context=context)
        if self._pool is None:
            self._on_the_spot += 1
            self._note(places, find_false(jobs))
            return
        self._under_way.append((places, self._pool.submit(find_false, jobs)))
        if len(self._under_way) > AHEAD:
            self._receive()

    def _receive(self) -> None:
        places, future = self._under_way.popleft()
        self._note(places, future.result())

    def _note(self, places: list[Place], false: list[int]) -> None:
        for number in false:
            idx, table, key = places[number]
            self._report.tamper("envelope.signature", table, key, "the signature does not hold", idx)


def find_false(jobs: list[Job]) -> list[int]:
    """Return the numbers of the jobs whose signature does not hold."""
    return [number for number, (public, jws) in enumerate(jobs) if not holds(public, jws)]


def holds(public: PublicKey, jws: bytes) -> bool:
    """Tell whether the signature of a well-formed JWS holds."""
    signing_input, _, signature = jws.rpartition(b".")
    try:
        return verify_fast(public, b64u_decode(signature), signing_input)
    except EncodingError:
        return False


def verify_fast(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    """Tell whether a signature holds. libsodium is twice as fast and stricter: only its yes is taken."""
    if key.alg == "Ed25519":
        try:
            crypto_sign_open(signature + signed, key.raw)
        except (CryptoError, ValueError):
            return key.verify(signature, signed)
        return True
    return key.verify(signature, signed)
