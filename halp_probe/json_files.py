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
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as found:
        problem = f"{path} cannot be read: {found.strerror}"
        raise error(problem) from found
    except UnicodeDecodeError as found:
        problem = f"{path} is not UTF-8 (byte {found.start})"
        raise error(f"{problem}; {remedy or 'save it as UTF-8'}") from found
    except (ValueError, RecursionError) as found:
        problem = f"{path} is not JSON ({' '.join(str(found).split())})"
        raise error(f"{problem}; {remedy}" if remedy else problem) from found


def write_json(path: Path, content: Any, *, indent: int = 2, allow_nan: bool = False) -> None:
    """Write `content` whole or not at all, readable for people too: indented, in UTF-8, with a final line break.

    Raises InputError if the file cannot be written, and ValueError for a number that JSON does not have, unless
    `allow_nan` writes it as Python does.
    """
    with atomic_text(path) as file:
        json.dump(content, file, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
        file.write("\n")
