"""Pictures of a data set as files of one folder: named by their content, written once."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from halp_probe.files import write_bytes

_EXTENSIONS = {"JPEG": ".jpg", "TIFF": ".tif"}  # others: the format's own name
_NAME = 60  # characters of an id that go into its file's name


class PictureError(ValueError):
    """The bytes are not a picture."""


def keep_picture(data: bytes, image_id: str, folder: Path) -> str:
    """Write the bytes to a file in `folder` unless it is there, and return its name.

    Raises PictureError for bytes that are not a picture, and what `write_bytes` raises.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            form = image.format or ""
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise PictureError(f"its image cannot be read: {error}") from error
    extension = _EXTENSIONS.get(form, f".{form.lower()}")
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", image_id)[:_NAME].lstrip(".")
    name = f"{safe}_{hashlib.sha256(data).hexdigest()[:12]}{extension}"
    path = folder / name
    if not (path.is_file() and path.stat().st_size == len(data)):
        write_bytes(path, data)
    return name
