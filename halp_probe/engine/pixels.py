"""Convert a decoded picture of any mode into upright RGB on white, or refuse it where its white is not defined.

Pillow's own conversions clip 16-bit grey, and take no notice of signs, of TIFF's "white is zero" in 16 bits, and of the
transparent value of grey pictures that are not of 8 bits.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

_UNSIGNED, _SIGNED = 1, 2  # values of TIFF's tag SampleFormat
_WHITE_IS_ZERO = 0  # value of TIFF's tag PhotometricInterpretation
_FULL_RANGE = (None, "PNG", "PPM", "JPEG2000")  # formats whose 16 bits Pillow scales to 0 … 65535; None: in memory
_MOST_BITS = 16
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # offset of the bits a sample


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, turned upright by its EXIF tag, on white where it is transparent.

    Raises ValueError, with the remedy, for pixels without a defined white, and what Pillow raises for a broken file.
    """
    upright = ImageOps.exif_transpose(image)  # without the tags of its file
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white; save the image as 8 or 16 bit")
    if image.mode.startswith("I"):
        upright = _grey(upright, image)
    elif _tag(image, TiffImagePlugin.SAMPLEFORMAT) == _SIGNED:
        raise _no_white("signed 8-bit", np.asarray(image).view(np.int8))
    if upright.mode in _PREMULTIPLIED:
        upright = upright.convert(_PREMULTIPLIED[upright.mode])
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return upright.convert("RGB")


def correct_transparency(image: Image.Image, content: bytes) -> None:
    """Scale the transparent value of a PNG as Pillow scales its pixels. Raises ValueError if that loses the value."""
    value = image.info.get("transparency")
    if not content.startswith(_PNG) or value is None:
        return
    depth = content[_PNG_DEPTH]
    if image.mode == "RGB" and depth > 8:
        raise ValueError("16-bit colours of which one is transparent; save the image with 8 bits or an alpha channel")
    if image.mode == "L":
        largest = 2**depth - 1
        image.info["transparency"] = (value & largest) * 255 // largest


def _grey(upright: Image.Image, image: Image.Image) -> Image.Image:
    """Return grey of up to 16 bits as 8 bits, with an alpha channel if one of its values is transparent."""
    values = np.asarray(upright)
    levels = (values / _white(image) * 255).round().astype(np.uint8)
    if _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        levels = 255 - levels
    grey = Image.fromarray(levels)
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _white(image: Image.Image) -> int:
    """Return the value of white (of black, where white is zero). Raises ValueError if it is not defined."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, kind = _tag(image, TiffImagePlugin.BITSPERSAMPLE), _tag(image, TiffImagePlugin.SAMPLEFORMAT)
        if kind == _UNSIGNED and bits <= _MOST_BITS:
            return int(2**bits - 1)
        values = np.asarray(image)
        sign = "unsigned" if kind == _UNSIGNED else "signed"
        raise _no_white(f"{sign} {bits}-bit", values.view(np.uint32) if kind == _UNSIGNED else values)
    if image.format not in _FULL_RANGE or (image.format is None and image.mode == "I"):
        bits = 32 if image.mode == "I" else _MOST_BITS
        raise _no_white(f"{bits}-bit" if image.format is None else f"{image.format}'s {bits}-bit", np.asarray(image))
    return 2**_MOST_BITS - 1


def _no_white(kind: str, values: np.ndarray) -> ValueError:
    return ValueError(
        f"{kind} whole numbers, here from {values.min()} to {values.max()}, have no defined white; save the image as "
        "8 bit (white is 255) or unsigned 16 bit (white is 65535)"
    )


def _tag(image: Image.Image, tag: int) -> int:
    """Return a TIFF's tag for the first band; 1, TIFF's default for those that are asked for here, for other files."""
    value = image.tag_v2.get(tag, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    return int(value[0] if isinstance(value, tuple) else value)
