"""Image files as data URLs: PNG of the very pixels that a model in this process would get."""

from __future__ import annotations

import base64
import functools
import io
import math
import threading
from dataclasses import dataclass

from PIL import Image

from halp_probe.engine.images import ImagesDir, image_path, load_image


@dataclass(frozen=True)
class Picture:
    """Image file in the form that is sent; `sha256` is that of the file's bytes."""

    sha256: str
    url: str  # data:image/png;base64,…


class Pictures:
    """Pictures of a folder, for several threads; the last `cache_size` ones are cached.

    max_pixels: larger ones are reduced to this area by Lanczos; None: pictures are sent in full size.
    """

    def __init__(self, images_dir: ImagesDir, max_pixels: int | None, cache_size: int) -> None:
        self._images_dir, self._max_pixels = images_dir, max_pixels
        self._cached = functools.lru_cache(cache_size)(self._make)
        self._locks = [threading.Lock() for _ in range(cache_size)]

    def __getitem__(self, name: str) -> Picture:
        """Return the picture upright, in RGB, on white. Raises ImageError as `image_path` and `load_image` do."""
        with self._locks[hash(name) % len(self._locks)]:  # a second thread waits and finds it in the cache
            return self._cached(name)

    def _make(self, name: str) -> Picture:
        image = load_image(image_path(self._images_dir, name))
        pixels = image.pixels if self._max_pixels is None else shrink(image.pixels, self._max_pixels)
        pixels.info.clear()  # drop colour profiles, and a camera's place and owner
        buffer = io.BytesIO()
        pixels.save(buffer, format="PNG", compress_level=1)
        return Picture(image.sha256, f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def shrink(pixels: Image.Image, max_pixels: int) -> Image.Image:
    """Reduce the picture to at most `max_pixels` in area, in nearly the same shape; return a smaller one as it is."""
    width, height = pixels.size
    if width * height <= max_pixels:
        return pixels
    scale = math.sqrt(max_pixels / (width * height))
    width = max(1, int(width * scale))
    height = max(1, min(int(height * scale), max_pixels // width))
    width = min(width, max_pixels // height)
    return pixels.resize((width, height), Image.Resampling.LANCZOS)
