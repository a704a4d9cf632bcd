"""Opening of the second tab's results: a folder of shards or a report, recognised by its files."""

from __future__ import annotations

from pathlib import Path

from halp_probe.app.report_contents import ReportContents, open_report
from halp_probe.app.shards_contents import ShardsContents, open_shards_contents
from halp_probe.errors import InputError
from halp_probe.report.reading import REPORT_FILE

_SHARDS = (".h5", ".hdf5")


def open_results(path: str | Path) -> ShardsContents | ReportContents:
    """Open a shard, a folder of shards, a report.json, or a folder that train_probes.py wrote (or its probes/ inside).

    If a folder holds both, its shards are opened; a report opens by its own path. Raises InputError when it is neither,
    and for files that are cut short, of another version or damaged.
    """
    try:
        place = Path(path).expanduser()
        if place.is_file():
            return _of_file(place)
        if place.is_dir():
            return _of_folder(place)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such user; write the path in full") from error
    raise InputError(f"{place} does not exist; pass a folder of shards, or a {REPORT_FILE} or its folder")


def _of_file(path: Path) -> ShardsContents | ReportContents:
    if path.suffix in _SHARDS:
        return open_shards_contents(path)
    if path.suffix == ".json":
        return open_report(path)
    raise InputError(f"{path} is neither a shard (.h5) nor a {REPORT_FILE}; pass one of these, or its folder")


def _of_folder(folder: Path) -> ShardsContents | ReportContents:
    if any(file.suffix in _SHARDS and not file.name.startswith(".") for file in folder.iterdir()):
        return open_shards_contents(folder)
    for report in (folder / REPORT_FILE, folder.parent / REPORT_FILE):
        if report.is_file() and (report.parent == folder or folder.name == "probes"):
            return open_report(report)
    below = sorted({file.parent for pattern in ("*/*.h5", f"*/{REPORT_FILE}") for file in folder.glob(pattern)})
    hint = f"pass {below[0]}, which does" if below else "pass the `output_dir` of extract.py or of train_probes.py"
    raise InputError(f"{folder} holds neither shards (*.h5) nor a {REPORT_FILE}; {hint}")
