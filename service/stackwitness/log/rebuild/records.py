"""The rows that events call for: station, channel, key, flag, review, export and whatever else the checker knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from emdi.tables import UNKNOWN_SALT, Disclosure
from stackwitness.log.fsck.history import at_of
from stackwitness.log.fsck.records import MAY_BE_GONE, QUERIES, Expected, Records, digest_texts, plain
from stackwitness.log.fsck.report import Report

_KEY = re.compile(r"SELECT (.+?) AS key,")
_HEX = re.compile(r"encode\((\w+), 'hex'\)")
_CONCATENATION = " || ' ' || "
# What the log does not carry and a row cannot be without: an empty text, an empty drawing, a salt of zeros.
_STAND_INS: dict[str, Any] = {"plot": "{}", "salt": UNKNOWN_SALT}
# (event id, SHA-256) -> salt and text: what a bundle disclosed.
Texts = Mapping[tuple[bytes, bytes], Disclosure]
# Tables that are not put right row by row: rebuild/schema.py does.
_APART = frozenset({"ddl_seen"})


@dataclass(frozen=True)
class Cause:
    """What a missing row takes from its event beside its columns: who acted, when, and the event's data."""

    act: str
    ts_ms: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """A table as the database has it: column -> type, and the columns that an insert must give."""

    name: str
    types: Mapping[str, str]
    needed: tuple[str, ...]

    @property
    def key(self) -> str:
        """The expression the checker names rows by."""
        match = _KEY.match(QUERIES[self.name])
        if match is None:
            raise KeyError(self.name)
        return match[1]

    def key_columns(self, key: str) -> dict[str, Any]:
        """Return the columns that make up a key."""
        if encoded := _HEX.fullmatch(self.key):
            return {encoded[1]: bytes.fromhex(key)}
        names = [name.partition("::")[0] for name in self.key.split(_CONCATENATION)]
        return dict(zip(names, key.split(" ", len(names) - 1), strict=True))

    def digest_only(self, name: str, value: Any) -> bool:
        """Tell whether the event gives a column by its SHA-256 alone."""
        return isinstance(value, bytes) and self.types.get(name) == "text"

    def stored(self, name: str, value: Any) -> Any:
        """Return an event's value as the column holds it."""
        if self.types.get(name, "").startswith("timestamp") and isinstance(value, int | float):
            return at_of(int(value))
        return list(value) if isinstance(value, tuple) else value


def repair_records(
    conn: sa.Connection,
    records: Records,
    causes: Mapping[bytes, Cause],
    texts: Texts,
    known: Mapping[bytes, str],
    report: Report,
) -> tuple[dict[str, int], list[str]]:
    """Put the rows of governance right, each named; return how many by table, and what only a backup gives back.

    `texts` are those at hand: a row gets back the words that its event names, salt and all, and no others. `known` are
    texts that an event names by SHA-256 alone, without a salt.
    """
    changed: dict[str, int] = {}
    lost: list[str] = []
    for table in (name for name in QUERIES if name not in _APART):
        repair = _Table(conn, read_shape(conn, table), texts, known, report, lost)
        count = repair.run(dict(records.tables[table]), causes)
        if count:
            changed[table] = count
    return changed, lost


def read_shape(conn: sa.Connection, table: str) -> Shape:
    """Return a table's columns."""
    rows = conn.execute(
        sa.text(
            "SELECT column_name AS name, data_type AS type, is_nullable = 'NO' AND column_default IS NULL"
            " AND is_identity = 'NO' AS needed FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = :table"
        ),
        {"table": table},
    ).all()
    types = {row.name: row.type for row in rows}
    return Shape(table, types, tuple(row.name for row in rows if row.needed or row.name == "salt"))


class _Table:
    """One table's rows against what the events call for."""

    def __init__(
        self,
        conn: sa.Connection,
        shape: Shape,
        texts: Texts,
        known: Mapping[bytes, str],
        report: Report,
        lost: list[str],
    ) -> None:
        self.conn = conn
        self.shape = shape
        self.texts = texts
        self.known = known
        self.report = report
        self.lost = lost

    def run(self, expected: dict[str, Expected], causes: Mapping[bytes, Cause]) -> int:
        """Return how many rows were changed."""
        changed, table = 0, self.shape.name
        for row in self.conn.execute(sa.text(QUERIES[table])).all():
            stored = {name: plain(value) for name, value in row._mapping.items()}
            digest_texts(stored)
            key = str(stored.pop("key"))
            wanted = expected.pop(key, None)
            changed += self._take_out(key) if wanted is None else self._compare(key, stored, wanted)
        if table not in MAY_BE_GONE:
            for key, gone in expected.items():
                changed += self._put_back(key, gone, causes[gone.event_id])
        return changed

    def _compare(self, key: str, stored: dict[str, Any], wanted: Expected) -> int:
        shape, table = self.shape, self.shape.name
        columns = {"event_id": wanted.event_id, **wanted.columns}
        differing = [name for name, value in columns.items() if stored.get(name) != value]
        said = self._said(wanted)
        texts = [name for name in differing if shape.digest_only(name, columns[name]) and name not in said]
        names = [name for name in differing if name not in texts]
        if said.keys() & set(names):
            columns |= said
            names += said.keys() & {"salt"}
        if texts:
            self.lost.append(f"{table} {key}: {', '.join(texts)}")
            text = f"{', '.join(texts)} cannot be put right: the log holds no more than a digest"
            self.report.tamper(f"{table}.text", table, key, text, wanted.idx)
        if not names:
            return 0
        self.report.tamper(f"{table}.edited", table, key, f"put right: {', '.join(names)}", wanted.idx)
        sets = ", ".join(f"{name} = :new_{name}" for name in names)
        values = {f"new_{name}": shape.stored(name, columns[name]) for name in names}
        query = f"UPDATE {table} SET {sets} WHERE {shape.key} = :key"
        self.conn.execute(sa.text(query), {**values, "key": key})
        return 1

    def _said(self, expected: Expected) -> dict[str, Any]:
        """Return text and salt of a row from what was disclosed or is known; empty when it is neither."""
        for name, value in expected.columns.items():
            if not self.shape.digest_only(name, value):
                continue
            if (found := self.texts.get((expected.event_id, value))) is not None:
                return {name: found.text, "salt": found.salt}
            if value in self.known:
                return {name: self.known[value]}
        return {}

    def _take_out(self, key: str) -> int:
        shape, table = self.shape, self.shape.name
        self.report.tamper(f"{table}.surplus", table, key, "taken out: no event calls for it")
        self.conn.execute(sa.text(f"DELETE FROM {table} WHERE {shape.key} = :key"), {"key": key})
        return 1

    def _put_back(self, key: str, gone: Expected, cause: Cause) -> int:
        shape, table = self.shape, self.shape.name
        self.report.miss(f"{table}.missing", table, key, "put back", gone.idx)
        columns: dict[str, Any] = {**shape.key_columns(key), "event_id": gone.event_id}
        for name, value in gone.columns.items():
            if name in shape.types and not shape.digest_only(name, value):
                columns[name] = shape.stored(name, value)
        columns |= self._said(gone)
        without = []
        for name in shape.needed:
            if name not in columns and shape.types[name].startswith("timestamp"):
                columns[name] = at_of(cause.ts_ms)
            elif name not in columns:
                columns[name] = _STAND_INS.get(name, "")
                without.append(name)
        if without:
            self.lost.append(f"{table} {key}: {', '.join(without)}")
        if table == "export_request":
            columns["state"] = "failed"  # whether its bundle still lies there, the log does not know
        names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        self.conn.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), columns)
        return 1
