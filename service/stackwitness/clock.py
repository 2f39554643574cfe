"""The one place that asks what time it is, so that tests can say."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


def now_utc() -> datetime:
    """Return the present as an aware UTC datetime."""
    return datetime.now(UTC)
