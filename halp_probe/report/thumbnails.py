"""Small pictures for the report's examples."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from halp_probe.engine.images import load_image


def thumbnail(path: Path, size: int = 160) -> bytes:
    """Return a JPEG of at most `size` pixels a side, upright, without the file's metadata (a place, a camera's owner).

    Raises ImageError when the file cannot be decoded.
    """
    picture = load_image(path).pixels
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    picture.info.clear()
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=82, optimize=True)
    return buffer.getvalue()
