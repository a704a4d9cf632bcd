"""Load the pictures that a caller passes in memory or by name: one function for all that ask about a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from halp_probe.engine.images import ImageError, LoadedImage, decode_image, from_pixels, load_image

# A picture of a caller: a file or its bytes, a PIL image, a uint8 array, or the result of `load_image`.
Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray | LoadedImage"

_KINDS = (
    "pass a file's name or its bytes, a PIL image, or a uint8 array [height, width, 3] (RGB) or [height, width] (grey)"
)


def load_pictures(pictures: Picture | Sequence[Picture] | None) -> list[LoadedImage]:
    """Load the pictures of one prompt: one, several in order (a list or tuple), or none.

    Raises ImageError for anything else, and what `load_image` raises.
    """
    if pictures is None:
        return []
    return [_load(each) for each in (pictures if isinstance(pictures, list | tuple) else [pictures])]


def _load(picture: object) -> LoadedImage:
    match picture:
        case LoadedImage():
            return picture
        case Image.Image():
            return from_pixels(picture)
        case str() | os.PathLike():
            return load_image(Path(picture))
        case bytes() | bytearray() | memoryview():
            return decode_image(bytes(picture), "the picture")
        case np.ndarray():
            return _from_array(picture)
    shape = f" [{', '.join(map(str, picture.shape))}]" if hasattr(picture, "shape") else ""
    raise ImageError(f"a {type(picture).__name__}{shape} is no picture: {_KINDS}")


def _from_array(array: np.ndarray) -> LoadedImage:
    """Convert pixels [H, W, 3] or [H, W]."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        shape = ", ".join(map(str, array.shape))
        raise ImageError(f"an array of {array.dtype} [{shape}] is no picture: {_KINDS}; scale other values yourself")
    return from_pixels(Image.fromarray(np.ascontiguousarray(array)))
