"""Pictures of a data set as files of one folder: named by their content, written once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from halp_probe.tables.picture_folder import picture_ending, write_once

_NAME = 60  # characters of an id that go into its file's name


def keep_picture(data: bytes, image_id: str, folder: Path) -> str:
    """Write the bytes to a file in `folder` unless it is there, and return its name.

    Raises PictureError for bytes that are not a picture, and what `write_bytes` raises.
    """
    ending = picture_ending(data)
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", image_id)[:_NAME].lstrip(".")
    name = f"{safe}_{hashlib.sha256(data).hexdigest()[:12]}{ending}"
    write_once(folder / name, data)
    return name
