"""Tables in several files: a folder that the package `datasets` saved, or all files of one pattern."""

from __future__ import annotations

import json
from pathlib import Path

from halp_probe.errors import InputError

_STATE = "state.json"  # of a data set that `datasets` saved
_SPLITS = "dataset_dict.json"  # of several, each in a folder of its own


def files_of(path: Path, error: type[InputError]) -> list[Path]:
    """Return the files of a table, in order: the path itself if it is a file, or no folder and no pattern.

    Raises `error` for a folder that is none of `datasets`, and for a pattern that no file has.
    """
    if path.is_dir():
        return _saved(path, error)
    if "*" not in path.name or path.exists():
        return [path]
    if not (found := sorted(each for each in path.parent.glob(path.name) if each.is_file())):
        raise error(f"no file is named {path}; check the path")
    return found


def _saved(folder: Path, error: type[InputError]) -> list[Path]:
    if (folder / _SPLITS).is_file():
        splits = sorted(each.parent.name for each in folder.glob(f"*/{_STATE}"))
        raise error(f"{folder} holds several splits ({', '.join(splits)}); pass the folder of one")
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return [folder / Path(each["filename"]).name for each in state["_data_files"]]
    except FileNotFoundError:
        problem = "it is a folder"
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"its {_STATE} is broken"
    raise error(
        f"{folder} cannot be read: {problem}; pass a file, a folder of `save_to_disk`, or all files of a split as "
        f"{folder.name}/test-*.parquet"
    )
