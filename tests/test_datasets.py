"""Tables: what is right is kept to the letter, what is wrong is named by line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.datasets import TableError, read_table
from halp_probe.shards.columns import RESERVED_COLUMNS

HEADER = "question_id,image_id,question,answer"


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "vqa.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_stay_text(tmp_path: Path) -> None:
    text = f'{HEADER},category\n007,a.png,"Is it, or not?",none,NA\nq/2 ü,b c.jpg,How many?,1.50,\n'
    first, second = read_table(table(tmp_path, text)).samples
    assert (first.question_id, first.question, first.answer) == ("007", "Is it, or not?", "none")
    assert first.extra == {"category": "NA"} and second.extra == {"category": ""}
    assert (second.question_id, second.image_id, second.answer) == ("q/2 ü", "b c.jpg", "1.50")


def test_other_names_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffquestion_id,image_name,question,gt_answer\nq,a.png,Why?,because\n"
    (sample,) = read_table(table(tmp_path, text)).samples
    assert (sample.question_id, sample.image_id, sample.answer, sample.extra) == ("q", "a.png", "because", {})


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    rows = ["q1,a.png,Why?,x", "q2,a.png,  ,x", ",a.png,Why?,x", "q4,,Why?,x", "q5,a.png,Why, not?,x", "q6,a.png", ""]
    text = "\n".join([HEADER, *rows, "q7,a.png,Why?,\n"])
    read = read_table(table(tmp_path, text))
    assert [sample.question_id for sample in read.samples] == ["q1", "q7"]
    assert [(f.question_id, f.stage) for f in read.failures] == [(q, "table") for q in ("q2", "", "q4", "q5", "q6")]
    reasons = [failure.reason for failure in read.failures]
    assert reasons[0] == "line 3: blank question" and reasons[1] == "line 4: blank question_id"
    assert "line 6 has 5 cells, the header 4" in reasons[3]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty; it needs a header"),
        ("[]", "is empty; it needs rows with question_id"),
        (HEADER + "\n", "has a header but no rows"),
        ("question_id,question\nq,Why?\n", "lacks the columns image_id, answer .*; it has 'question_id', 'question'"),
        (f"{HEADER},gt_answer\nq,a,Why?,x,y\n", "both 'answer' and 'gt_answer'"),
        (f"{HEADER},image_sha256\nq,a,Why?,x,y\n", "image_sha256 are written by the extraction itself"),
        (f"{HEADER},x,x\nq,a,Why?,y,1,2\n", "every column needs a name of its own"),
        (f"{HEADER}\nq,a,Why?,x\nr,a,Why?,x\nq,b,How?,y\n", "'q' in lines 2, 4"),
        (f"{HEADER},ca\0t\nq,a,Why?,x,y\n", r"'ca\\x00t' holds a NUL character or half a surrogate pair; rename"),
        (f"{HEADER}\nq,a,Why?,x\n".encode("utf-16-le"), "UTF-16 without a byte order mark does; save it as UTF-8 CSV"),
        (f"{HEADER}\nq,a,Why?,x\n".encode("utf-16")[:-1], r"is not UTF-16 \(.*save it as UTF-8 CSV"),
        (f"{HEADER}\nq,a,Why?,x\n".replace(",", ";"), "cells are separated by semicolons; save it as comma"),
        (f"{HEADER}\nq,a,Why?,x\n".replace(",", "|"), "cells are separated by vertical bars; save it as comma"),
        (f"{HEADER}\nq,a,Why?,x\n".replace(",", ";").encode("utf-16"), "cells are separated by semicolons; save it"),
        (f"sep=,\r\n{HEADER}\r\nq,a,Why?,x\r\n", "line 1 is Excel's 'sep='; remove that line"),
        (f",{HEADER}\n0,q,a,Why?,x\n", "first column has no name, as pandas writes an index; write it with"),
        (f"{HEADER},\nq,a,Why?,x,\n", "every column needs a name of its own"),
        (b"PK\x03\x04\x14\0\6\0", "is a zip file, and no whole Excel workbook .*; save the sheet anew as .xlsx or CSV"),
        (f"{HEADER}\nq,a,caf\xe9?,x\n".encode("latin-1"), r"not UTF-8 \(byte 0xe9 in line 2"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        read_table(table(tmp_path, text), RESERVED_COLUMNS)


def test_an_unclosed_quote_loses_no_rows(tmp_path: Path) -> None:
    rows = ["q1,a.png,Why?,x", 'q2,a.png,"Why?,x', "q3,a.png,Why?,x"]
    with pytest.raises(TableError, match="unexpected end of data at line 4; look for a quote that is not closed"):
        read_table(table(tmp_path, "\n".join([HEADER, *rows, ""])))
    with pytest.raises(TableError, match="look for a quote that is not closed"):
        read_table(table(tmp_path, "\n".join([HEADER, *rows, 'q4,a.png,"Why?,x', "q5,a.png,Why?,x", ""])))


def test_a_quoted_question_may_have_lines_but_an_id_may_not(tmp_path: Path) -> None:
    text = f'{HEADER}\nq1,a.png,"Which?\nA. cat\nB. dog",A\n"q\n2",a.png,Why?,x\n'
    read = read_table(table(tmp_path, text))
    assert [sample.question for sample in read.samples] == ["Which?\nA. cat\nB. dog"]
    assert ["line break in an id" in failure.reason for failure in read.failures] == [True]


def test_an_unusable_row_makes_its_id_no_less_a_duplicate(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="'q' in lines 2, 3"):
        read_table(table(tmp_path, f"{HEADER}\nq,a.png,,x\nq,a.png,Why?,x\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nothing.csv does not exist"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_tables_with_a_byte_order_mark_are_read(tmp_path: Path, encoding: str) -> None:
    """Also with the line ends of old Macs."""
    for end in ("\n", "\r\n", "\r"):
        text = end.join([HEADER, "q,a.png,Où est-il ? 😀,là", "r,a.png,Why?,x", ""])
        read = read_table(table(tmp_path, text.encode(encoding)))
        assert [sample.question for sample in read.samples] == ["Où est-il ? 😀", "Why?"] and not read.failures


def test_odd_characters_cost_a_row_only_where_they_stand_in_a_name(tmp_path: Path) -> None:
    rows = [f"q{k},a.png,Why?,x" for k in range(600)]
    odd = ["n,a.png,Wh\0y?,\0", "p\0,a.png,Why?,x", "r,a\0.png,Why?,x", "s,a.png,a\u2028b\x85c\x1b,\x0c"]
    read = read_table(table(tmp_path, "\n".join([HEADER, *odd, *rows])))
    assert [sample.question for sample in read.samples[:2]] == ["Wh\0y?", "a\u2028b\x85c\x1b"]
    assert read.samples[0].answer == "\0" and len(read.samples) == 602
    assert [(failure.question_id, failure.stage) for failure in read.failures] == [("p\0", "table"), ("r", "table")]
    assert "line 3: the question_id holds a NUL character" in read.failures[0].reason
    whole = {"question_id": "q", "image_id": "a.png", "question": "Why\ud800?", "answer": "x"}
    in_memory = read_table([whole, {**whole, "question_id": "q2", "image_id": "\udcff.png"}])
    assert [sample.question for sample in in_memory.samples] == ["Why\ud800?"]
    assert ["image_id holds" in failure.reason for failure in in_memory.failures] == [True]


def test_the_line_of_a_wrong_byte_is_named_far_into_a_file(tmp_path: Path) -> None:
    rows = [f"q{k},a.png,Why is it so?,x" for k in range(2000)]
    content = "\n".join([HEADER, *rows]).encode().replace(b"q1500,", b"q\xff,")
    with pytest.raises(TableError, match=r"not UTF-8 \(byte 0xff in line 1502\); save it as UTF-8 CSV"):
        read_table(table(tmp_path, content))


def test_errors_do_not_show_megabytes(tmp_path: Path) -> None:
    long = "A" * 1_000_000
    for text in (
        f"{HEADER}\n{long},a,b,c\n{long},a,b,c\n",
        f"{long},x\n1,2\n",
        f"{HEADER},{long},{long}\n1,2,3,4,5,6\n",
    ):
        with pytest.raises(TableError) as caught:
            read_table(table(tmp_path, text))
        assert len(str(caught.value)) < 1000 and "characters)" in str(caught.value)


_texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r\n"), min_size=1).filter(
    str.strip
)


@given(st.lists(st.tuples(_texts, _texts, _texts, st.text("abc ,\"'")), min_size=1, unique_by=lambda row: row[0]))
def test_what_csv_writes_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    path = tmp_path_factory.mktemp("table") / "vqa.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        writer.writerows(rows)
    read = read_table(path)
    assert [(s.question_id, s.image_id, s.question, s.answer) for s in read.samples] == rows
    assert not read.failures
