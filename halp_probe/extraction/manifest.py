"""`run.json`: the settings that a run folder was captured with. Another run may only add to it with the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.files import atomic_text

MANIFEST_FILE = "run.json"


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raise InputError naming every setting in which the folder's run.json differs from these."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        if any(folder.glob("*_embeddings_part_*.h5")):
            raise InputError(
                f"{folder} holds shards but no {MANIFEST_FILE}: another program wrote them; choose another --output-dir"
            )
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a run's record ({error}); choose another --output-dir") from error
    differences = [
        f"{name} is {stored.get(name)!r} there and {settings.get(name)!r} now"
        for name in sorted({*stored, *settings})
        if stored.get(name) != settings.get(name)
    ]
    if differences:
        raise InputError(
            f"{folder} was captured with other settings: {'; '.join(differences)}. "
            "Use the same ones to go on, or choose another --output-dir"
        )


def write_manifest(folder: Path, settings: dict[str, Any], about: dict[str, Any]) -> None:
    """Write the settings, and beside them what is worth knowing but may change from one run to the next."""
    with atomic_text(folder / MANIFEST_FILE) as file:
        json.dump({"settings": settings, **about}, file, indent=2, ensure_ascii=False)
        file.write("\n")
