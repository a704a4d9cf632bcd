"""Read and write files that hold one JSON value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.files import atomic_text


def read_json(path: Path, remedy: str = "", error: type[InputError] = InputError) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Raises `error` if the file cannot be read or is not JSON; `remedy` ends its message.
    """
    text = _read_text(path, remedy, error)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as found:
        raise _not_json(f"{path}", found, remedy, error) from found


def read_json_or_lines(path: Path, remedy: str = "", error: type[InputError] = InputError) -> Any:
    """Read a JSON file, or one with a JSON object on each of two or more lines, which becomes a list of them.

    Raises `error` as `read_json` does; for a faulty line it names the line.
    """
    lines = [(n, line) for n, line in enumerate(_read_text(path, remedy, error).split("\n"), start=1) if line.strip()]
    if len(lines) < 2 or not _is_object(lines[0][1]):
        return read_json(path, remedy, error)
    values = []
    for number, line in lines:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as found:
            raise _not_json(f"{path}, line {number},", found, remedy, error) from found
    return values


def _read_text(path: Path, remedy: str, error: type[InputError]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as found:
        raise error(f"{path} cannot be read: {found.strerror}") from found
    except UnicodeDecodeError as found:
        raise error(f"{path} is not UTF-8 (byte {found.start}); {remedy or 'save it as UTF-8'}") from found


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _not_json(what: str, found: Exception, remedy: str, error: type[InputError]) -> InputError:
    problem = f"{what} is not JSON ({' '.join(str(found).split())})"
    return error(f"{problem}; {remedy}" if remedy else problem)


def write_json(path: Path, content: Any, *, indent: int = 2, allow_nan: bool = False) -> None:
    """Write `content` whole or not at all, readable for people too: indented, in UTF-8, with a final line break.

    Raises InputError if the file cannot be written, and ValueError for a number that JSON does not have, unless
    `allow_nan` writes it as Python does.
    """
    with atomic_text(path) as file:
        json.dump(content, file, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
        file.write("\n")
