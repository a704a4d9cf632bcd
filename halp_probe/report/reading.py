"""Reader of `report.json`, of this release's version alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.json_files import read_json
from halp_probe.report.content import FORMAT, FORMAT_VERSION

REPORT_FILE = "report.json"


def read_report(path: Path) -> dict[str, Any]:
    """Read a report. Raises InputError when the file cannot be read, is cut short, or of another format or version."""
    report = read_json(path, "run train_probes.py again, which writes it")
    if not isinstance(report, dict):
        raise InputError(f"{path} is not a report; pass a {REPORT_FILE} that train_probes.py wrote")
    check_version(report, str(path))
    return report


def check_version(report: Mapping[str, Any], name: str = "this") -> None:
    """Raise InputError unless the content is of the format and version that this release writes."""
    if (report.get("format"), report.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{name} is {report.get('format')!r} of version {report.get('format_version')!r}; only {FORMAT!r} of "
            f"version {FORMAT_VERSION} can be shown: make it again with this release"
        )
