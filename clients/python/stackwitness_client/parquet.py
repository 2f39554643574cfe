"""Tables of a bundle as Parquet: made from the CSV alone, the same bytes for the same CSV and library version.

Needs pyarrow, which is imported when a table is made.
"""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 1 << 17
BLOCK_BYTES = 1 << 22
WRITTEN_BY = "parquet-cpp-arrow version "
NUMBERS = frozenset({"idx", "ep", "seq"})
TIMES = frozenset({"at", "from", "to"})
NAMES = {"readings.parquet": "readings.csv", "flags.parquet": "flags.csv"}


def write_parquet(csv: IO[bytes], sink: IO[bytes]) -> None:
    """Write the rows of a table (readings.csv or flags.csv, whole) as Parquet.

    Integers are int64, times timestamp[ms, UTC], `value` float64 (null when missing), all else strings. Every
    setting of the writer is fixed. Raises ImportError without pyarrow, ValueError when the table is no table.
    """
    import pyarrow.parquet as pq

    schema, batches = read_groups(csv)
    with pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        data_page_version="1.0",
        data_page_size=1 << 20,
        store_schema=False,
    ) as writer:
        for batch in batches:
            writer.write_table(batch, row_group_size=GROUP_ROWS)


def read_groups(csv: IO[bytes]) -> "tuple[pa.Schema, Iterator[pa.Table]]":
    """Return the schema and the rows of a CSV table in groups of GROUP_ROWS."""
    import pyarrow as pa

    names = csv.readline().decode("utf-8", "replace").rstrip("\n").split(",")
    schema = pa.schema([(name, _type_of(name)) for name in names])
    return schema, _groups(csv, schema)


def written_by(parquet: Any) -> str:
    """Return the version of the library that wrote an open pyarrow ParquetFile, or empty."""
    made_by = str(parquet.metadata.created_by)
    return made_by.removeprefix(WRITTEN_BY) if made_by.startswith(WRITTEN_BY) else ""


def library_version() -> str:
    """Return the version of the installed library. Raises ImportError."""
    import pyarrow as pa

    return str(pa.cpp_version)


def _type_of(name: str) -> "pa.DataType":
    import pyarrow as pa

    if name in NUMBERS:
        return pa.int64()
    if name in TIMES:
        return pa.timestamp("ms", tz="UTC")
    return pa.float64() if name == "value" else pa.string()


def _groups(csv: IO[bytes], schema: "pa.Schema") -> "Iterator[pa.Table]":
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    kept: list[pa.RecordBatch] = []
    count = 0
    try:
        reader = arrow_csv.open_csv(
            csv,
            arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=schema.names),
            arrow_csv.ParseOptions(quote_char=False),
            arrow_csv.ConvertOptions(
                column_types=schema, strings_can_be_null=False, null_values=[""], check_utf8=True
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return
        raise ValueError(str(error)) from None
    for batch in reader:
        kept.append(batch)
        count += batch.num_rows
        while count >= GROUP_ROWS:
            table = pa.Table.from_batches(kept).combine_chunks()
            yield table.slice(0, GROUP_ROWS)
            kept = table.slice(GROUP_ROWS).to_batches()
            count -= GROUP_ROWS
    if count:
        yield pa.Table.from_batches(kept).combine_chunks()
