"""Step 8: compare a table with the rows the signed entries give, and name every row that differs."""

from collections.abc import Sequence
from typing import NamedTuple

from emdi.bundle import CUSTODY_HEADER, FLAGS_HEADER, READINGS_HEADER, REVIEWS_HEADER, BundleReader
from emdi.errors import BundleError
from stackwitness_client.verify.report import Step, Verdict

MAX_EXTRA = 1000


class TableForm(NamedTuple):
    """A table's file name, header, what one row is called, and which columns identify it besides idx."""

    file: str
    header: str
    noun: str
    key: tuple[int, ...]
    flag_column: int | None = None


READINGS = TableForm("readings.csv", READINGS_HEADER, "reading", (4, 5))
FLAGS = TableForm("flags.csv", FLAGS_HEADER, "flag", (1,), 1)
REVIEWS = TableForm("reviews.csv", REVIEWS_HEADER, "review", (1,), 2)
CUSTODIES = TableForm("custody.csv", CUSTODY_HEADER, "act of custody", (3, 5))


class TableCheck:
    """Walk a table in step with the entries; `expect` is called with ascending idx."""

    def __init__(self, form: TableForm, reader: BundleReader, step: Step) -> None:
        self.form = form
        self.step = step
        self.count = 0
        self._row = 0
        self._names = form.header.rstrip("\n").split(",")
        self._broken = form.file not in reader.sizes
        self._lines = iter(()) if self._broken else reader.lines(form.file)
        self._next: str | None = None
        self._loaded = False
        if not self._broken and self._pop() != form.header[:-1]:
            step.add(
                Verdict.TAMPERED, "table.header", f"{form.file} has another header", file=form.file, row=1
            )

    def expect(self, idx: int, rows: Sequence[str]) -> None:
        """Compare the rows of entry `idx`, each with its newline."""
        self.count += len(rows)
        if self._broken:
            return
        self._skip_before(idx)
        first_row = self._row + 1
        actual = self._take(idx, len(rows) + MAX_EXTRA)
        if actual != [row[:-1] for row in rows]:
            self._explain(idx, first_row, rows, actual)

    def finish(self) -> None:
        """Report the rows left over."""
        self._skip_before(1 << 63)

    def _peek(self) -> str | None:
        if not self._loaded:
            try:
                self._next = next(self._lines, None)
            except BundleError as error:
                self._broken, self._next = True, None
                self._add(Verdict.MALFORMED, error.code, error.message, None, self._row + 1)
            self._loaded = True
        return self._next

    def _pop(self) -> str | None:
        line = self._peek()
        if line is not None:
            self._row += 1
            self._loaded = False
        return line

    def _take(self, idx: int, most: int) -> list[str]:
        lead = f"{idx},"
        taken: list[str] = []
        while len(taken) < most and (line := self._peek()) is not None and line.startswith(lead):
            taken.append(line)
            self._pop()
        return taken

    def _skip_before(self, idx: int) -> None:
        absent: int | None = None
        while (line := self._peek()) is not None:
            head = line.split(",", 1)[0]
            if not head.isascii() or not head.isdigit() or len(head) > 19:
                self._add(Verdict.TAMPERED, "table.row", f"unreadable {self.form.noun}", None, self._row + 1)
            elif int(head) < idx:
                if int(head) != absent:
                    absent = int(head)
                    message = f"{self.form.noun} of an entry that is not in entries.bin, or out of order"
                    self._add(Verdict.INCOMPLETE, "table.absent", message, absent, self._row + 1, line)
            else:
                return
            self._pop()

    def _explain(self, idx: int, first_row: int, rows: Sequence[str], actual: list[str]) -> None:
        signed = {self._key(row[:-1]): row[:-1] for row in rows}
        seen: set[tuple[str, ...]] = set()
        faults = self.step.found
        for row, line in enumerate(actual, first_row):
            key = self._key(line)
            expected = None if key in seen else signed.get(key)
            seen.add(key)
            if expected is None:
                self._add(
                    Verdict.TAMPERED,
                    "table.extra",
                    f"no signed entry gives this {self.form.noun}",
                    idx,
                    row,
                    line,
                )
            elif expected != line:
                self._add(Verdict.TAMPERED, "table.differs", self._difference(expected, line), idx, row, line)
        for key, line in signed.items():
            if key not in seen:
                message = (
                    f"{self.form.file} lacks {self.form.noun} {' '.join(key)}, though it is signed and logged"
                )
                self._add(Verdict.TAMPERED, "table.lacks", message, idx, None, line)
        if self.step.found == faults:
            self._add(Verdict.TAMPERED, "table.order", f"{self.form.noun}s out of order", idx, first_row)

    def _difference(self, signed: str, line: str) -> str:
        pairs = zip(self._names, signed.split(","), line.split(","), strict=False)
        parts = [
            f"{name} is {theirs!r}, signed was {ours!r}" for name, ours, theirs in pairs if ours != theirs
        ]
        return f"{self.form.noun} {' '.join(self._key(signed))}: " + ("; ".join(parts) or "columns differ")

    def _key(self, line: str) -> tuple[str, ...]:
        cells = line.split(",")
        return tuple(cells[column] if column < len(cells) else "" for column in self.form.key)

    def _add(
        self, verdict: Verdict, code: str, message: str, idx: int | None, row: int | None, line: str = ""
    ) -> None:
        cells = line.split(",")
        column = self.form.flag_column
        flag_id = cells[column] if column is not None and column < len(cells) else None
        self.step.add(verdict, code, message, idx=idx, file=self.form.file, row=row, flag_id=flag_id)
