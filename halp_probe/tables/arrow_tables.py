"""Tables of Parquet and Arrow, read batch by batch through pyarrow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halp_probe.errors import InputError
from halp_probe.tables.forms import Form
from halp_probe.tables.records import Record

_BUFFER = 1 << 20  # bytes
_ROWS_AT_ONCE = 1024
_PICTURES_AT_ONCE = 16  # rows of a table with bytes in it


def arrow_columns(path: Path, form: Form, error: type[InputError]) -> tuple[str, ...]:
    """Return the names of a file's columns. Raises `error` for a file that cannot be read."""
    with _open(path, form, error) as source:
        return tuple(source.schema_arrow.names if form is Form.PARQUET else source.schema.names)


def arrow_records(
    path: Path, form: Form, error: type[InputError], columns: Collection[str] | None = None
) -> Iterator[Record]:
    """Yield the records of a file, with these columns alone; None: all. Raises `error` for a file that is broken."""
    number = 0
    with _open(path, form, error) as source:
        for batch in _batches(source, form, columns):
            names = batch.schema.names
            step = _rows_at_once(batch.schema)
            for start in range(0, batch.num_rows, step):
                lists = [_values(column) for column in batch.slice(start, step).columns]
                for values in zip(*lists, strict=True):
                    number += 1
                    yield Record(number, dict(zip(names, values, strict=True)), "row")


@contextmanager
def _open(path: Path, form: Form, error: type[InputError]) -> Iterator[Any]:
    try:
        if form is Form.PARQUET:
            with pq.ParquetFile(path, buffer_size=_BUFFER) as source:  # else a row group is read whole
                yield source
        else:
            reader = pa.ipc.open_file if form is Form.ARROW_FILE else pa.ipc.open_stream
            with pa.memory_map(str(path)) as file, reader(file) as source:
                yield source
    except (pa.ArrowException, OSError) as found:
        reason = " ".join(str(found).split())[:300]
        raise error(f"{path} is no whole {form.value} table ({reason}); get the file again") from found


def _batches(source: Any, form: Form, columns: Collection[str] | None) -> Iterable[Any]:
    if form is Form.PARQUET:
        names = None if columns is None else [name for name in source.schema_arrow.names if name in columns]
        return source.iter_batches(batch_size=_rows_at_once(source.schema_arrow), columns=names)
    blocks = source if form is Form.ARROW_STREAM else map(source.get_batch, range(source.num_record_batches))
    if columns is None:
        return blocks
    return (block.select([name for name in block.schema.names if name in columns]) for block in blocks)


def _values(column: Any) -> Sequence[Any]:
    if pa.types.is_floating(column.type) and column.type.bit_width < 64:  # in Python's width 0.1 would be 0.10000000149
        dtype = np.dtype(column.type.to_pandas_dtype())
        return [None if value is None else dtype.type(value) for value in column.to_pylist()]
    listed: list[Any] = column.to_pylist()
    return listed


def _rows_at_once(schema: Any) -> int:
    return _PICTURES_AT_ONCE if any(map(_holds_bytes, schema.types)) else _ROWS_AT_ONCE


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
