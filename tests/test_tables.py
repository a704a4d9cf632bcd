"""Tables of every form: each writer's file says the same, record by record."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halp_probe.errors import InputError
from halp_probe.tables import json_stream
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


def _packed(write: Callable[[Rows, Path], None], rows: Rows, path: Path) -> None:
    write(rows, path)
    path.write_bytes(gzip.compress(path.read_bytes()))


WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    "a.csv": _separated(","),
    "a.tsv": _separated("\t"),
    "list.json": _json(lambda rows: json.dumps(list(rows), indent=1)),
    "lines.json": _json(_lines),
    "lines.txt": _json(lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows)),
    "a.csv.gz": lambda rows, path: _packed(WRITERS["a.csv"], rows, path),
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
    assert texts(tmp_path / "nameless") == ROWS


# What each form can hold: csv has one way to write a blank, Excel no control characters and at most 32,767 of any.
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\",;'|#"), max_size=20)
_LITERALS = ("None", "NA", "N/A", "nan", "null", "007", "1.0", "1e3", "true", "True", "-0", "[1]", "{}", "=A1", "#N/A")
_LITERAL = st.sampled_from(_LITERALS)
_VALUE = st.recursive(st.none() | st.booleans() | st.integers() | _TEXT, st.lists, max_leaves=3)


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", WRITERS)
@given(rows=st.lists(st.tuples(_TEXT | _LITERAL, _TEXT | _LITERAL), min_size=1, max_size=4))
def test_any_text_comes_back_from_every_form(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[tuple[str, str]]
) -> None:
    written = [{"id": f"q{number}", "a": a, "b": b} for number, (a, b) in enumerate(rows)]
    path = tmp_path_factory.mktemp("table") / name
    WRITERS[name](written, path)
    assert texts(path) == written


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("block", [1, 7])
@given(rows=st.lists(st.dictionaries(_TEXT, _VALUE, max_size=3), max_size=3))
def test_json_in_blocks_is_what_json_reads(
    tmp_path_factory: pytest.TempPathFactory, block: int, rows: list[dict[str, object]]
) -> None:
    """Whatever a block's end cuts: a word, an escape, a number."""
    path = tmp_path_factory.mktemp("table") / "a.json"
    for ascii_only in (True, False):
        path.write_text(json.dumps(rows, ensure_ascii=ascii_only), newline="")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_stream, "_BLOCK", block)
            assert [dict(record.values) for record in read_records(path)] == rows


def test_numbers_that_a_block_cuts_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", 1)
    path = tmp_path / "a.json"
    path.write_text('{"version": 12345, "data": [{"a": 678}]}')
    assert texts(path) == [{"a": "678"}]
    path.write_text('{"a": [12, 345], "b": [-6.75, true]}')
    assert texts(path) == [{"a": "12", "b": "-6.75"}, {"a": "345", "b": "true"}]


@pytest.mark.parametrize("written", ["1.0", "1e3", "-0.10", "1E+2", "12345678901234567890", "0", "1e999"])
def test_numbers_keep_the_text_they_have(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"a": {written}, "b": [{written}, true, null, "x"]}}\n')
    assert texts(tmp_path / "a.jsonl") == [{"a": written, "b": f'[{written},true,null,"x"]'}]


def test_values_of_parquet_as_texts(tmp_path: Path) -> None:
    columns = {
        "whole": pa.array([1, None]),
        "half": pa.array([0.1, 1.0], pa.float32()),
        "double": pa.array([1.0, float("nan")]),
        "truth": pa.array([True, False]),
        "list": pa.array([["a", "b"], []]),
        "object": pa.array([{"x": 1.5, "y": None}, None]),
        "word": pa.array(["é", "x"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = texts(tmp_path / "a.parquet")
    assert first == {"whole": "1", "half": "0.1", "double": "1.0", "truth": "true"} | {
        "list": '["a","b"]',
        "object": '{"x":1.5,"y":null}',
        "word": "é",
    }
    assert second == {
        "whole": "",
        "half": "1.0",
        "double": "",
        "truth": "false",
        "list": "[]",
        "object": "",
        "word": "x",
    }
    assert [dict(each.values) for each in read_records(tmp_path / "a.parquet", columns=["whole"])] == [
        {"whole": 1},
        {"whole": None},
    ]


def test_what_the_package_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([dict(row) for row in ROWS])
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "a.parquet")
    data.to_json(tmp_path / "a.json")
    data.to_csv(tmp_path / "a.csv")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    data.save_to_disk(tmp_path / "parts", num_shards=3)
    assert len(list((tmp_path / "parts").glob("*.arrow"))) == 3
    for path in (
        arrow,
        tmp_path / "saved",
        tmp_path / "parts",
        tmp_path / "parts" / "data-*.arrow",
        tmp_path / "a.parquet",
        tmp_path / "a.json",
        tmp_path / "a.csv",
    ):
        assert texts(path) == ROWS, path


def test_tables_in_several_files(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        WRITERS["a.parquet"]([row], tmp_path / f"test-0000{number}-of-00003.parquet")
    pattern = tmp_path / "test-*.parquet"
    assert texts(pattern) == ROWS and [record.number for record in read_records(pattern)] == [1, 2, 3]
    WRITERS["a.parquet"]([{"other": "x"}], tmp_path / "test-00003-of-00003.parquet")
    with pytest.raises(InputError, match=r"test-00003-of-00003.parquet has other columns than test-00000-of-00003"):
        list(read_records(pattern))
    with pytest.raises(InputError, match=r"no file is named .*train-\*.parquet; check the path"):
        list(read_records(tmp_path / "train-*.parquet"))
    for name in ("a.csv", "b.csv"):
        WRITERS["a.csv"](ROWS, tmp_path / name)
    with pytest.raises(InputError, match="names 2 files, which only Parquet and Arrow may be; pass one of them"):
        list(read_records(tmp_path / "*.csv"))
    (tmp_path / "dataset_dict.json").write_text("{}")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"holds several splits \(train\); pass the folder of one"):
        list(read_records(tmp_path))
    with pytest.raises(InputError, match=r"cannot be read: its state.json is broken; pass a file, a folder of"):
        list(read_records(tmp_path / "train"))


def test_objects_that_hold_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"q1": {"question": "Why?"}, "q2": {"question": "How?"}}))
    assert texts(path) == [{"key": "q1", "question": "Why?"}, {"key": "q2", "question": "How?"}]
    path.write_text(json.dumps({"images": [{"id": 1}], "questions": [{"id": 2}, {"id": 3}]}))
    assert [dict(each.values) for each in read_records(f"{path}#questions")] == [{"id": 2}, {"id": 3}]
    path.write_text('{"question": "Why?", "answer": ""}')
    assert texts(path) == [{"question": "Why?", "answer": ""}]


def _workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[object]]], hidden: str = "") -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
        sheet.sheet_state = "hidden" if title == hidden else "visible"
    book.save(path)


def test_a_sheet_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    sheets = {"first": [["a"], [1]], "the second": [["a", "b"], ["x", True], [], [None, 2.5]]}
    _workbook(path, sheets)
    with pytest.raises(InputError, match=r"has several sheets \('first', 'the second'\); choose one, as a.xlsx#first"):
        list(read_records(path))
    with pytest.raises(InputError, match="has no sheet 'third', but 'first', 'the second'"):
        list(read_records(f"{path}#third"))
    assert [(r.number, *map(text_of, r.values.values())) for r in read_records(f"{path}#the second")] == [
        (2, "x", "true"),
        (4, "", "2.5"),
    ]
    _workbook(path, sheets, hidden="first")
    assert len(list(read_records(path))) == 2


BROKEN: dict[str, tuple[str, bytes | str, str]] = {
    "cut list": (
        "a.json",
        '[{"a": 1},\n{"a": "tex',
        "a.json is cut off: it ends inside what begins in line 2",
    ),
    "cut after a comma": ("a.json", '[{"a": 1},\n', "is cut off: it ends inside what begins in line 2"),
    "cut lines": ("a.jsonl", '{"a": 1}\n{"a": ', "is cut off: it ends inside what begins in line 2"),
    "cut word": ("a.json", '[{"a": tru', "is cut off"),
    "cut escape": ("a.json", r'[{"a": "\u00', "is cut off"),
    "cut object": ("a.json", '{"data": [{"a": 1}', "is cut off"),
    "a line of text": (
        "a.jsonl",
        '{"a": 1}\n"b"\n',
        "line 2 is a text; each row must be an object",
    ),
    "a line of no JSON": ("a.jsonl", '{"a": 1}\n{"a": b}\n', "line 2: Expecting value; mend it"),
    "an open quote": ("a.jsonl", '{"a": "x}\n{"a": "y"}\n', "line 1: Invalid control character"),
    "a list of numbers": ("a.json", '[{"a": 1}, 2]', "row 2 is a number; each row must be an object"),
    "a word": ("a.json", '"a"', "it is no list and no object"),
    "more after the list": ("a.json", '[{"a": 1}]\n[{"a": 1}]', "more follows after its list, in line 2"),
    "two lists": (
        "a.json",
        '{"x": [{}], "y": [{}, {}]}',
        "lists of objects: 'x', 'y'; choose one as a.json#x",
    ),
    "columns of pandas": (
        "a.json",
        '{"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}',
        "as pandas' to_json does; write it",
    ),
    "a key twice": ("a.json", '[{"a": 1, "b": 2, "a": 3}]', "line 1: an object has the key 'a' twice; keep one"),
    "NaN": ("a.jsonl", '{"a": 1}\n{"a": NaN}', "line 2: NaN is no JSON; write null"),
    "deep": ("a.json", "[" * 200_000, "a value is too large"),
    "latin": (
        "a.json",
        '[{"a": "é"}]'.encode("latin-1"),
        r"byte 0xe9 in line 1\); save it as UTF-8 JSON",
    ),
    "half a Parquet": ("a.parquet", b"PAR1" + b"x" * 100, "a.parquet is no whole Parquet table .*; get the file again"),
    "half an Arrow file": ("a.arrow", b"ARROW1\0\0" + b"x" * 100, "is no whole Arrow file table"),
    "half an Arrow stream": ("a.arrow", b"\xff\xff\xff\xff\x10\1\0\0xx", "is no whole Arrow stream table"),
    "a zip": ("a.xlsx", b"PK\x05\x06"[:2] + b"\x03\x04" + b"x" * 50, "is a zip file, and no whole Excel workbook"),
    "an old workbook": (
        "a.xls",
        b"\xd0\xcf\x11\xe0\xa1\xb1",
        "an old .xls or a workbook with a password",
    ),
    "a pointer": (
        "a.parquet",
        "version https://git-lfs.github.com/spec/v1\n",
        "pointer of Git LFS, not the file",
    ),
    "a page": ("a.csv", "<!DOCTYPE html>\n<html>", "is a web page, not a table; get the file itself"),
    "half a gzip": ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000)[:40], "is no whole gzip file"),
    "no gzip": ("a.csv.gz", b"\x1f\x8bxxxxxxxxxxxx", "is no whole gzip file|Not a gzipped"),
    "zstd": ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\0\0", "is packed by zstd; unpack it"),
    "long row": ("a.tsv", "a\tb\n1\t2\t3\n", "line 2 has 3 cells, the header 2: quote texts that hold tabs"),
    "a column twice": ("a.csv", "a,a\n1,2\n", "the columns 'a' occur twice"),
    "an open cell": ("a.tsv", 'a\tb\n1\t"2\n', "is not a TSV table: .*look for a quote that is not closed"),
    "a part of a CSV": ("a.csv#x", "a\n1\n", "a.csv is a CSV file and has no parts; leave out what follows the #"),
    "nothing": ("a.json", "", ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    name, content, reason = BROKEN[case]
    path = tmp_path / name.partition("#")[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if not reason:
        assert texts(path) == []
        return
    with pytest.raises(InputError, match=reason) as caught:
        list(read_records(tmp_path / name))
    assert "\n" not in str(caught.value) and path.name in str(caught.value) and len(str(caught.value)) < 600


def test_cells_of_a_sheet_that_have_no_value(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    for row, reason in (
        (["x", "=1+1"], "row 2 has a formula without a stored result in B2; open and save"),
        (["#N/A", "x"], "row 2 has the error #N/A in A2"),
        (["x", "y", "z"], "row 2 has 3 cells, the header 2"),
    ):
        _workbook(path, {"s": [["a", "b"], row]})
        with pytest.raises(InputError, match=reason):
            list(read_records(path))


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "a.parquet"), ("openpyxl", "a.xlsx")])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    for module in [each for each in sys.modules if each.startswith("halp_probe.tables.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .*pip install 'halp_probe\[tables\]'; or save it as CSV"):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("form", ["a.csv", "a.tsv", "list.json", "lines.json", "a.parquet"])
def test_no_table_is_read_whole(tmp_path: Path, form: str) -> None:
    rows = [{"question_id": f"q{k}", "question": "x" * 1000} for k in range(10_000)]
    WRITERS[form](rows, tmp_path / form)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_records(tmp_path / form)) == len(rows)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
