"""Step 11: Parquet tables hold the rows of the CSV tables, which step 8 held against the signed entries."""

import tempfile
from importlib.util import find_spec
from typing import IO, Any

from emdi.bundle import BundleReader
from stackwitness_client import parquet
from stackwitness_client.verify.report import Report, Verdict

_CHUNK = 1 << 20
MAX_SPOOLED = 64 << 20


def check_parquet(reader: BundleReader, report: Report) -> None:
    """Write the tables again and compare bytes; of another library version compare values."""
    names = [name for name in parquet.NAMES if name in reader.sizes and parquet.NAMES[name] in reader.sizes]
    step = report.step(11)
    if not names:
        return
    if find_spec("pyarrow") is None:
        step.skip(
            "pyarrow is not installed (pip install pyarrow); the CSV tables, which hold the same rows, are checked"
        )
        return
    said = []
    for name in names:
        try:
            said.append(f"{name}: {_check(reader, name)}")
        except (
            Exception
        ) as error:  # what the library raises for a broken file is not bounded by its documentation
            step.add(Verdict.TAMPERED, "parquet.form", f"{name} cannot be read: {error}", file=name)
    step.finish(", ".join(said))


class Differs(Exception):
    """The table holds something else than the CSV."""


def _check(reader: BundleReader, name: str) -> str:
    import pyarrow.parquet as pq

    with reader.stream(name) as member, tempfile.SpooledTemporaryFile(MAX_SPOOLED) as copy:
        while chunk := member.read(_CHUNK):
            copy.write(chunk)
        copy.seek(0)
        given = pq.ParquetFile(copy)
        if parquet.written_by(given) == parquet.library_version():
            copy.seek(0)
            _compare_bytes(reader, name, copy)
            return "the same bytes"
        _compare_values(reader, name, given)
    return f"the same values (written by {given.metadata.created_by}, not by the version installed here)"


def _compare_bytes(reader: BundleReader, name: str, copy: IO[bytes]) -> None:
    with reader.stream(parquet.NAMES[name]) as csv, tempfile.SpooledTemporaryFile(MAX_SPOOLED) as again:
        parquet.write_parquet(csv, again)
        again.seek(0)
        while chunk := again.read(_CHUNK):
            if copy.read(len(chunk)) != chunk:
                raise Differs(f"its bytes are not those of {parquet.NAMES[name]} written again")
        if copy.read(1):
            raise Differs("bytes stand behind the table")


def _compare_values(reader: BundleReader, name: str, given: Any) -> None:
    import pyarrow as pa

    with reader.stream(parquet.NAMES[name]) as csv:
        schema, groups = parquet.read_groups(csv)
        if not given.schema_arrow.equals(schema):
            raise Differs("its columns are others than the CSV's")
        if given.metadata.metadata:
            raise Differs("it carries words beside its rows")
        theirs = given.iter_batches(parquet.GROUP_ROWS)
        for group in groups:
            batch = next(theirs, None)
            if batch is None or not pa.Table.from_batches([batch]).equals(group):
                raise Differs("its rows are others than the CSV's")
        if next(theirs, None) is not None:
            raise Differs("it holds more rows than the CSV")
