"""Which memories are kept to step back to: those at which a day began, the fewer the older.

Midnights count from 1970; one whose number is divisible by 2^k is kept for 2 * 2^k days. So there are about two memories for each
doubling of age, and the newest kept one before a reading that is `a` days late is at most 3 `a` + 1 days old. What
is kept follows from a run's own period, so that whoever runs the detectors again keeps the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta

DAY_MS = 86_400_000
# Judged hours that a second of waiting pays for: a station that is late all the time costs no more than this.
HOURS_A_SECOND = 0.4
_HIGHEST = 13  # 2 * 2^13 days: 44 years


def until_ms(from_ms: int, upto_ms: int) -> int | None:
    """Return how far judging may come before the memory of a run over [from_ms, upto_ms) is dropped.

    None: it is not kept, for no day began in the run.
    """
    first, last = from_ms // DAY_MS, upto_ms // DAY_MS
    if last <= first:
        return None
    power = next(k for k in range(_HIGHEST, -1, -1) if last >> k > first >> k)
    return (last + (2 << power)) * DAY_MS


def rest_of(hours: float) -> timedelta:
    """Return how long detection rests before it steps back over so many hours again."""
    return timedelta(seconds=hours / HOURS_A_SECOND)


def may_step(now: datetime, stepped_at: datetime | None, hours: float) -> bool:
    """Tell whether detection may step back over so many hours, having done so before at `stepped_at`.

    A time to come is nobody's honest one, and would make it rest for ever.
    """
    return stepped_at is None or stepped_at > now or now - stepped_at >= rest_of(hours)


class Kept:
    """Hold the memories of the runs in force that are kept, with their hashes, as the service's table does."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, str, bytes]] = {}

    def keep(self, from_ms: int, upto_ms: int, state: bytes, state_hash: str) -> None:
        """Take the memory that a run left; drop those it judged anew, and those that have grown too old."""
        self._kept = {at: one for at, one in self._kept.items() if at <= from_ms and one[0] > upto_ms}
        until = until_ms(from_ms, upto_ms)
        if until is not None:
            self._kept[upto_ms] = until, state_hash, state

    def find(self, upto_ms: int, state_hash: str) -> bytes | None:
        """Return the memory kept at a time, if it is the one of that hash."""
        one = self._kept.get(upto_ms)
        return one[2] if one is not None and one[1] == state_hash else None
