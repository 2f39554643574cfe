"""What happens to a checkpoint once it is signed: witnesses cosign it, then everyone may read it."""

from collections.abc import Callable
from dataclasses import replace

from emdi.policy import Policy
from emdi.tiles import TileReader
from stackwitness import clock
from stackwitness.log.disk import Disk
from stackwitness.log.errors import QuorumMissing
from stackwitness.log.status import LogWarning
from stackwitness.log.witnesses import Cosigned, Witnesses

REPUBLISH_MS = 10 * 60_000
# A witness that was missing is asked again after this, even when the log does not grow.
ASK_AGAIN_MS = 15_000


class Announcer:
    """Publish signed checkpoints, cosigned by whichever witnesses answer; without a policy, by none."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._witnesses: Witnesses | None = None
        self._require_quorum = False
        self._signed = b""
        self._published_ms = 0
        self._last = Cosigned(b"", True)

    def follow(self, policy: Policy, timeout_s: float, *, require_quorum: bool = False) -> None:
        """Ask the witnesses of this policy from now on."""
        self.close()
        self._witnesses = Witnesses(policy, timeout_s) if policy.witnesses else None
        self._require_quorum = require_quorum
        self._signed = b""

    def follow_keys(self, read: Callable[[], Policy | None]) -> None:
        """Where the last checkpoint lacked the quorum, know the log's keys that are in force by now, and keep the witnesses:
        a key that was retired meanwhile takes its signature along, and the policy of the start knows no other.
        """
        if self._last.quorum or self._witnesses is None:
            return
        newest, known = read(), self._witnesses.policy
        if newest is not None and newest.logs != known.logs:
            policy = replace(known, logs=newest.logs)
            self.follow(policy, self._witnesses.timeout_s, require_quorum=self._require_quorum)

    def announce(self, note: bytes, size: int) -> None:
        """Publish a signed checkpoint when it is new, when its cosignatures grow old, or when some are missing.

        Raises OSError, and QuorumMissing when a quorum is required and not reached: then nothing is published.
        """
        if note == self._signed and not self._is_due():
            return
        cosigned = Cosigned(note, True)
        if self._witnesses is not None:
            cosigned = self._witnesses.cosign(note, TileReader(self._disk.read, size))
        self._last = cosigned
        if self._require_quorum and not cosigned.quorum:
            raise QuorumMissing("; ".join(cosigned.missing) or "the policy's witnesses are not enough")
        self._disk.write("checkpoint", cosigned.note)
        self._signed, self._published_ms = note, clock.now_ms()

    @property
    def warnings(self) -> tuple[LogWarning, ...]:
        """What is wrong with the last checkpoint though it was published."""
        found = [] if self._last.quorum else [LogWarning("log.quorum", "the quorum of witnesses is missing")]
        found += [LogWarning("log.witness", f"witness {why}") for why in self._last.missing]
        return tuple(found)

    def close(self) -> None:
        """End the witnesses' threads and connections."""
        if self._witnesses is not None:
            self._witnesses.close()
        self._witnesses = None

    def _is_due(self) -> bool:
        after_ms = ASK_AGAIN_MS if self._last.missing else REPUBLISH_MS
        return abs(clock.now_ms() - self._published_ms) >= after_ms  # abs: a clock set back holds nothing up
