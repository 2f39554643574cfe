"""Show how a replay goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 5.0


class ReplayProgress:
    """Count readings recorded and proven, of all stations; safe to be told from several threads."""

    def __init__(self, title: str, stations: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._title = title
        self._stations = stations
        self._done = 0
        self._recorded = 0
        self._proven = 0
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[stations]} stations, {task.fields[recorded]:,} readings recorded"),
                TextColumn("{task.fields[proven]:,} proven"),
                TimeElapsedColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=None, stations=f"0/{stations}", recorded=0, proven=0)

    def __enter__(self) -> ReplayProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, stn: str, recorded: int, proven: int) -> None:
        """Add to the counts."""
        with self._lock:
            self._recorded += recorded
            self._proven += proven
            self._show()

    def finish(self, stn: str, words: str) -> None:
        """Note that a station is through."""
        with self._lock:
            self._done += 1
            self._show()
            self._console.print(f"{stn}: {words}", highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            # All recorded readings are to be proven: that is the one total that is known.
            self._bar.update(
                self._task,
                total=max(self._recorded, 1),
                completed=self._proven,
                stations=f"{self._done}/{self._stations}",
                recorded=self._recorded,
                proven=self._proven,
            )
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            line = (
                f"{self._title}: {self._done}/{self._stations} stations, {self._recorded:,} readings recorded"
            )
            self._console.print(f"{line}, {self._proven:,} proven", highlight=False, soft_wrap=True)
