"""The witness' one decision: cosign this checkpoint, or say why not."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emdi.errors import NoteError, WitnessError
from emdi.note import NoteSigner, VerifierKey, format_note, parse_note, verify_note
from emdi.witness import SIZE_TYPE, Seen, check_extension, origin_path, parse_request
from stackwitness_client.witness.memory import WitnessMemory

PLAIN = "text/plain; charset=utf-8"
# A clock set back by more than this is broken: better no cosignature than one with a made-up time.
MAX_STEP_BACK_S = 60
STATUS = {"witness.request": 400, "witness.proof": 422}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status, body, media type."""

    status: int
    body: bytes
    media_type: str = PLAIN


def say(status: int, text: str) -> Reply:
    """Return a one-line answer."""
    return Reply(status, f"{text}\n".encode())


class Cosigner:
    """Cosign checkpoints of known logs. `pause` runs between check and commit; tests stall there."""

    def __init__(
        self,
        memory: WitnessMemory,
        signers: Sequence[NoteSigner],
        *,
        now_s: Callable[[], float] = time.time,
        pause: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._memory = memory
        self._signers = tuple(signers)
        self._now_s = now_s
        self._pause = pause

    def add_checkpoint(self, body: bytes) -> Reply:
        """Answer one add-checkpoint call (c2sp.org/tlog-witness); raises MemoryUnavailable."""
        try:
            request, checkpoint = parse_request(body)
        except WitnessError as error:
            return say(STATUS[error.code], error.message)
        origin, new = checkpoint.origin, Seen(checkpoint.size, checkpoint.root)
        keys = self._memory.log_keys(origin)
        if not keys:
            return say(404, "this log is not witnessed here")
        try:
            verify_note(request.checkpoint, keys)
        except NoteError as error:
            return say(403, f"no valid signature of the log: {error.message}")
        last = self._memory.recall(origin)
        try:
            check_extension(last.seen, request, checkpoint)
        except WitnessError as error:
            if error.code == "witness.conflict":
                return conflict(last.seen)
            return say(STATUS[error.code], error.message)
        now_s = int(self._now_s())
        if now_s < last.time_s - MAX_STEP_BACK_S:
            return say(503, "the clock of this witness went back")
        self._pause(checkpoint.size)
        made = _Cosigning(request.checkpoint, keys, self._signers)
        if self._memory.advance(origin, last.seen, new, now_s, made.note) is None:
            return conflict(self._memory.recall(origin).seen)
        return Reply(200, "".join(made.lines).encode())

    def newest(self, path: str) -> bytes | None:
        """Return the checkpoint cosigned last under `<hex SHA-256 of the origin>/checkpoint`, or None."""
        for origin in self._memory.origins():
            if origin_path(origin) == path:
                return self._memory.recall(origin).note or None
        return None


class _Cosigning:
    """The signature lines of one checkpoint, made once the time is settled."""

    def __init__(self, checkpoint: bytes, keys: Sequence[VerifierKey], signers: Sequence[NoteSigner]) -> None:
        self._checkpoint = parse_note(checkpoint)
        self._keys = {(key.name, key.keyid) for key in keys}
        self._signers = signers
        self.lines: list[str] = []

    def note(self, time_s: int) -> bytes:
        """Cosign, and return the checkpoint with the log's own lines and ours."""
        text = self._checkpoint.text
        self.lines = [signer.cosign(text, time_s) for signer in self._signers]
        known = [item for item in self._checkpoint.signatures if (item.name, item.keyid) in self._keys]
        return format_note(text, [*(item.line() for item in known), *self.lines])


def conflict(seen: Seen) -> Reply:
    """Return the answer that tells the size to start from."""
    return Reply(409, f"{seen.size}\n".encode(), SIZE_TYPE)
