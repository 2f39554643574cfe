"""What a replay asks the server besides pushing: where it is, what it stored, what it flagged."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from stackwitness.replay.options import ReplayError, ReplayOptions
from stackwitness_client.errors import ServerBusy, ServerUnreachable
from stackwitness_client.http import Backoff, ServerLink

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FAR_MS = 4_102_444_800_000
PAGE = 10_000
Answer = TypeVar("Answer")


def find_server(options: ReplayOptions) -> str:
    """Return the URL given, or that of the `stackwitness up` running in the home folder."""
    if options.server:
        return options.server
    run_file = options.home / "run.json"
    try:
        return str(json.loads(run_file.read_text("utf-8"))["api_url"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReplayError(
            "replay.no_server",
            f"no server runs from {options.home} (no {run_file.name}):"
            " start `stackwitness up`, or give --server URL",
        ) from error


def find_token(options: ReplayOptions) -> str:
    """Return the operator's token given, or the one `up` left in the home folder."""
    if options.token:
        return options.token
    try:
        return (options.home / "operator.token").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(
            "replay.no_token",
            f"no operator's token: none in {options.home}, and STACKWITNESS_OPERATOR_TOKEN is not set",
        ) from error


def find_approver(options: ReplayOptions) -> str | None:
    """Return the second operator's token, given or left in the home folder; None when there is none."""
    path = options.home / "approver.token"
    if options.approver_token or not path.exists():
        return options.approver_token
    return path.read_text("ascii").strip()


class Served:
    """Ask one server as an operator, again and again while it is away; `approver` is another operator's link."""

    def __init__(
        self,
        link: ServerLink,
        patience_s: float,
        sleep: Callable[[float], None] = time.sleep,
        approver: ServerLink | None = None,
    ) -> None:
        self.link = link
        self.approver = approver
        self._patience_s = patience_s
        self.sleep = sleep

    def patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until there is an answer; raises the last error when patience ends."""
        backoff, began = Backoff(), time.monotonic()
        while True:
            try:
                return ask()
            except (ServerUnreachable, ServerBusy) as error:
                if time.monotonic() - began >= self._patience_s:
                    raise
                self.sleep(backoff.next_s(getattr(error, "retry_after_s", None)))

    def count_readings(self, stn: str, from_ms: int, to_ms: int) -> int:
        """Count the readings the server holds in [from_ms, to_ms), each time and channel once."""
        pages = self._readings(stn, from_ms, to_ms, aggregate="day")
        return sum(row["count"] + row["missing"] for page in pages for row in page["rows"])

    def last_reading_ms(self, stn: str) -> int | None:
        """Return the time of the newest reading the server holds of a station."""
        days = self._readings(stn, 0, FAR_MS, aggregate="day")
        day_ms = max((instant_ms(row["at"]) for page in days for row in page["rows"]), default=None)
        if day_ms is None:
            return None
        readings = self._readings(stn, day_ms, day_ms + DAY_MS, aggregate="none")
        return max((instant_ms(row["at"]) for page in readings for row in page["rows"]), default=None)

    def _readings(self, stn: str, from_ms: int, to_ms: int, *, aggregate: str) -> Iterator[Any]:
        query = {
            "station": stn,
            "from": iso(from_ms),
            "to": iso(to_ms),
            "aggregate": aggregate,
            "limit": PAGE,
        }
        return self._pages("/v1/readings", query)

    def flags_by_kind(self, stn: str) -> dict[str, int]:
        """Count the station's flags by kind."""
        counts: Counter[str] = Counter()
        for page in self._pages("/v1/flags", {"station": stn, "limit": 1000}):
            counts.update(flag["kind"] for flag in page["flags"])
        return dict(sorted(counts.items()))

    def judged_stations(self) -> set[str]:
        """Return the stations of which every full hour stored is judged."""
        listed = self.patiently(lambda: self.link.ask("GET", "/v1/detection").json()["stations"])
        return {row["stn"] for row in listed if row["lag_h"] == 0}

    def _pages(self, path: str, query: dict[str, Any]) -> Iterator[Any]:
        after: str | None = None
        while True:
            asked = {**query, "after": after} if after else query
            page = self.patiently(lambda asked=asked: self.link.ask("GET", path, query=asked).json())  # type: ignore[misc]
            yield page
            after = page.get("next")
            if not after:
                return


def iso(at_ms: int) -> str:
    """Return Unix ms as UTC text."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_ms(text: str | int) -> int:
    """Read a time of an answer: ISO text, or Unix ms."""
    if isinstance(text, int):
        return text
    return round(datetime.fromisoformat(text).timestamp() * 1000)
