"""Image files as data URLs: the very pixels that a model in this process would be given, as PNG."""

from __future__ import annotations

import base64
import functools
import io
import math
import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from halp_probe.engine.images import image_path, load_image


@dataclass(frozen=True)
class Picture:
    """A file as it is sent. `sha256` is of the file's bytes."""

    sha256: str
    url: str  # data:image/png;base64,…


class Pictures:
    """The pictures of a folder, for several threads; the last `kept` ones are not made again.

    max_pixels: larger ones are shrunk to this area before they are sent, by Lanczos; None = sent as they are.
    """

    def __init__(self, images_dir: Path, max_pixels: int | None, kept: int) -> None:
        self._images_dir, self._max_pixels = images_dir, max_pixels
        self._made = functools.lru_cache(kept)(self._make)
        self._locks = [threading.Lock() for _ in range(kept)]

    def __getitem__(self, name: str) -> Picture:
        """Upright, RGB, on white. Raises ImageError as `image_path` and `load_image` do."""
        with self._locks[hash(name) % len(self._locks)]:  # whoever comes second finds it made
            return self._made(name)

    def _make(self, name: str) -> Picture:
        image = load_image(image_path(self._images_dir, name))
        pixels = image.pixels if self._max_pixels is None else shrunk(image.pixels, self._max_pixels)
        pixels.info.clear()  # no colour profile, no place or owner of a camera
        buffer = io.BytesIO()
        pixels.save(buffer, format="PNG", compress_level=1)
        return Picture(image.sha256, f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def shrunk(pixels: Image.Image, max_pixels: int) -> Image.Image:
    """At most `max_pixels` in area, as near to the same shape as whole pixels allow; a smaller one as it is."""
    width, height = pixels.size
    if width * height <= max_pixels:
        return pixels
    scale = math.sqrt(max_pixels / (width * height))
    width = max(1, int(width * scale))
    height = max(1, min(int(height * scale), max_pixels // width))
    width = min(width, max_pixels // height)
    return pixels.resize((width, height), Image.Resampling.LANCZOS)
