"""Tables of every form: each writer's file says the same, record by record."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halp_probe.tables.reading import read_records
from halp_probe.tables.records import text_of

Rows = Sequence[Mapping[str, str]]


def _separated(separator: str) -> Callable[[Rows, Path], None]:
    def write(rows: Rows, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)

    return write


def _json(content: Callable[[Rows], str]) -> Callable[[Rows, Path], None]:
    return lambda rows, path: path.write_text(content(rows), encoding="utf-8", newline="") and None


def _lines(rows: Rows) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _arrow(opener: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> Callable[[Rows, Path], None]:
    def write(rows: Rows, path: Path) -> None:
        table = pa.Table.from_pylist(list(rows))
        with opener(str(path), table.schema) as writer:
            writer.write_table(table)

    return write


def _excel(rows: Rows, path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for number, texts in enumerate([list(rows[0]), *(list(row.values()) for row in rows)], 1):
        for column, text in enumerate(texts, 1):
            cell = sheet.cell(number, column, text)
            cell.data_type = "s"  # also what looks like a formula
    book.save(path)


WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    "a.csv": _separated(","),
    "a.tsv": _separated("\t"),
    "list.json": _json(lambda rows: json.dumps(list(rows), indent=1)),
    "lines.json": _json(_lines),
    "lines.txt": _json(lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows)),
    "lines.jsonl.gz": lambda rows, path: path.write_bytes(gzip.compress(_lines(rows).encode())) and None,
    "object.json": _json(lambda rows: json.dumps({"info": {"version": 1}, "data": list(rows)})),
    "columns.json": _json(lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]})),
    "a.parquet": lambda rows, path: pq.write_table(pa.Table.from_pylist(list(rows)), path),
    "stream.arrow": _arrow(pa.ipc.new_stream),
    "file.arrow": _arrow(pa.ipc.new_file),
    "a.xlsx": _excel,
}
ROWS = [
    {"question_id": "007", "question": "None", "answer": "NA", "note": "1.0"},
    {"question_id": "q,2", "question": 'Is "it"\nthere?\ta', "answer": "", "note": "nan"},
    {"question_id": "3", "question": "Où est-il ? 😀\u2028", "answer": "true", "note": "=1+1"},
]


def texts(path: Path) -> list[dict[str, str]]:
    return [{name: text_of(value) for name, value in record.values.items()} for record in read_records(path)]


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_says_the_same(tmp_path: Path, name: str) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    assert texts(tmp_path / name) == ROWS
    (tmp_path / name).rename(tmp_path / "nameless")
    if name != "a.tsv":  # whose header alone tells it from CSV: no comma, but tabs
        assert texts(tmp_path / "nameless") == ROWS
