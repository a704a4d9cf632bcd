"""Texts of any characters come back from a shard as they were; ordinary ones are stored byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_data import ATTRIBUTES, columns

from halp_probe.errors import InputError
from halp_probe.shards.names import escape
from halp_probe.shards.reader import open_shards, read_columns
from halp_probe.shards.validation import problems
from halp_probe.shards.writer import write_shard

ODD = ("a\0b", "\0", "␛0000", "␛", "\ud83d\ude00", "\udcff", "😀", "\r\n\u2028\x85\x1b[0m", "", "100% \\0 \\u0000 é")
_PIECES = st.lists(st.sampled_from(["\0", "␛", "␛0000", "␛D800", "\ud800", "\udfff", "0"])).map("".join)
TEXTS = st.lists(_PIECES | st.text(), min_size=1, max_size=6)


def with_answers(answers: list[str]) -> dict[str, list[str]]:
    return {"answer": answers, "question": answers[::-1], "category": [text + "x" for text in answers]}


def write(path: Path, answers: list[str], *, view: bool = True) -> dict[str, list[str]]:
    data = columns([f"q{k}" for k in range(len(answers))])
    data = replace(data, texts={**data.texts, **with_answers(answers)})
    write_shard(path, data, ATTRIBUTES, question_view=view)
    return data.texts


@given(TEXTS)
def test_all_texts_come_back(tmp_path_factory: pytest.TempPathFactory, answers: list[str]) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.h5"
    texts = write(path, answers)
    assert read_columns(path).texts == texts
    assert open_shards(path).text("answer") == answers
    assert problems(path) == []


def test_odd_texts_come_back_and_are_legible_to_others(tmp_path: Path) -> None:
    """Another tool sees valid UTF-8 without a NUL, in the column and in the question view."""
    texts = write(tmp_path / "a.h5", list(ODD))
    assert read_columns(tmp_path / "a.h5").texts == texts and problems(tmp_path / "a.h5") == []
    with h5py.File(tmp_path / "a.h5") as file:
        column = [text.decode() for text in file["_columns/answer"][()]]
        assert column[:5] == ["a␛0000b", "␛0000", "␛241B0000", "␛241B", "␛D83D␛DE00"] and column[6:] == list(ODD[6:])
        assert file["_columns/answer"].attrs["encoding"] == "escaped"
        view = [file[f"q{k}/answer"] for k in range(len(ODD))]
        assert view[0][()].decode() == "a␛0000b" and view[0].attrs["encoding"] == "escaped"
        assert view[2][()].decode() == "␛0000" and not view[2].attrs  # storable: as it is
        assert list(file["q0"])[:4] == ["question", "image_id", "answer", "ground_truth_answer"]


def test_ordinary_texts_are_stored_as_ever(tmp_path: Path) -> None:
    """Also those that look escaped: an older shard, which has no mark, reads as what it says."""
    answers = [text for text in ODD if text.isprintable() or "\u2028" in text]
    write(tmp_path / "a.h5", answers)
    with h5py.File(tmp_path / "a.h5") as file:
        assert [text.decode() for text in file["_columns/answer"][()]] == answers
        assert not file["_columns/answer"].attrs and not file["q0/answer"].attrs
    assert open_shards(tmp_path / "a.h5").text("answer") == answers


def test_a_changed_view_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", ["a\0b"])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["q0/answer"].attrs["encoding"]
    assert "answer differs between the question view and the columns" in problems(tmp_path / "a.h5")[0]


@pytest.mark.parametrize("name", ["", "a\0", "\ud800"])
def test_names_must_be_whole_text(name: str) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        escape(name)
