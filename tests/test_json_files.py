"""A file of JSON is read or refused with its name and a remedy, and written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halp_probe.errors import InputError
from halp_probe.json_files import read_json, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(VALUES)
def test_what_is_written_is_read_and_is_json_to_others(tmp_path: Path, value: object) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, value)
    assert read_json(path) == json.loads(path.read_bytes()) == value
    assert path.read_text(encoding="utf-8").endswith("\n")


def test_texts_stay_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"审核": "é"}, indent=1)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "审核": "é"\n}\n'
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')  # as some editors save it
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_number_that_json_lacks_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, [float("nan")])
    assert read_json(path) == [1] and list(tmp_path.iterdir()) == [path]
    write_json(path, [float("inf")], allow_nan=True)
    assert read_json(path) == [float("inf")]


class OtherError(InputError):
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json cannot be read: No such file"),
        (b"", "a.json is not JSON .*; do this"),
        (b'{"a": 1', "a.json is not JSON .*; do this"),
        (b"[" * 100_000, "a.json is not JSON .*; do this"),
        (b'{"a": "\xe9"}', r"a.json is not UTF-8 \(byte 7\); do this"),
    ],
)
def test_what_cannot_be_read_is_the_callers_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(OtherError, match=message):
        read_json(tmp_path / "a.json", "do this", OtherError)
    with pytest.raises(InputError):
        read_json(tmp_path / "a.json")
