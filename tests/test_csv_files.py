"""The one reader of tables: every cell to the letter, every fault with its line, and a file of any length streamed."""

from __future__ import annotations

import ast
import csv
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import halp_probe
from halp_probe.csv_files import CsvRow, read_rows
from halp_probe.errors import InputError
from halp_probe.plain_text import is_whole, shorten
from halp_probe.records import Failure
from halp_probe.shards.failures import read_failures, write_failures

TEXTS = st.text(st.sampled_from('a\0\r\n",; \u2028')) | st.text(st.characters(exclude_categories=["Cs"]))
CELLS = st.lists(st.lists(TEXTS, min_size=2, max_size=4), min_size=1)


@given(CELLS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@example([["\0a\0", "b"]], "utf-8")
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], encoding: str
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    if not rows[0][0].startswith("\ufeff"):  # a byte order mark of UTF-8 is none of the text
        assert [row.cells for row in read_rows(path)] == rows


def test_a_long_file_is_streamed(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.csv", 10_000
    path.write_text("".join(f"q{k},{'x' * 1000}\n" for k in range(rows)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path)) == rows
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 10
    finally:
        tracemalloc.stop()


def test_rows_say_what_is_wrong_with_them() -> None:
    assert CsvRow(7, ["a", "b"]).mismatch(["x", "y"]) == ""
    assert CsvRow(7, ["a"]).mismatch(["x", "y"]) == "line 7 has 1 cells, the header 2: write the row in full"
    assert CsvRow(7, ["a"] * 3).mismatch(["x", "y"]) == "line 7 has 3 cells, the header 2: quote texts that hold commas"


def test_no_other_module_reads_csv() -> None:
    """Another reader would have other rules for cells, quotes and encodings."""
    root = Path(halp_probe.__file__).parent
    for path in root.rglob("*.py"):
        calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if path.name != "csv_files.py":
            assert not calls & {"DictReader", "read_csv", "reader"}, path


def test_failures_come_back_and_long_ones_are_cut(tmp_path: Path) -> None:
    picture = "data:image/png;base64," + "A" * 3_000_000
    kept = Failure(question_id='q"1', stage="image", reason='a, "b"\r\n\u2028c')
    write_failures(tmp_path, [kept, Failure(question_id="q2\0\ud800", stage="image", reason=f"{picture!r}; do this")])
    assert (tmp_path / "failures.csv").stat().st_size < 2000
    first, second = read_failures(tmp_path)
    assert first == kept
    assert second.question_id == r"q2\u0000\ud800" and second.reason.endswith("AAA'; do this")
    assert "(3,000,033 characters)" in second.reason


def test_texts_are_shortened_in_the_middle() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("a" * 50 + "z" * 50, 9) == "aaaaaa … (100 characters) … zzz"
    assert is_whole("a␛\u2028") and not is_whole("a\0") and not is_whole("\udfff")


def test_a_cell_beyond_the_limit_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1," + "x" * 40_000_001 + "\n")
    with pytest.raises(InputError, match=r"a.csv is not a CSV table: field larger than field limit .* at line 2"):
        list(read_rows(tmp_path / "a.csv"))
