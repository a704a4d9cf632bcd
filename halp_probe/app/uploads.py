"""Checks of pictures from visitors: bytes of unknown origin, measured before they are decoded."""

from __future__ import annotations

import io
import re
import zipfile

from halp_probe.engine.images import ImageError, LoadedImage, decode_image, header_size
from halp_probe.web.fetch import FORMATS, MAX_BYTES

MAX_PIXELS = 40_000_000
MAX_SIDE = 20_000  # pixels
_REMEDY = "save it anew as PNG or JPEG"
_MARKUP = re.compile(rb"<(?:!doctype\s+html|html|body|script|iframe|\?php|svg\s[^>]*xmlns)[\s>=]", re.IGNORECASE)
_PDF_HEAD = 1024  # bytes in which readers look for a PDF's beginning
_MOST_SCANS = 100  # of a progressive JPEG; each is a pass over all its pixels, and cameras write about ten


def check_image(data: bytes, name: str) -> LoadedImage:
    """Decode the picture as `load_image` would from a file of these bytes, without its metadata.

    Of a GIF, the first frame; of a TIFF, the first page. Raises ImageError, one sentence with the name, for a file that
    is too large, is not a complete picture of FORMATS, or is also a file of another kind.
    """
    shown = name if len(name) <= 80 else name[:79] + "…"
    if len(data) > MAX_BYTES:
        raise ImageError(f"{shown} has {len(data) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g}; shrink it first")
    width, height = header_size(data, shown, FORMATS)
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{shown} has {width} × {height} pixels; {MAX_PIXELS / 1e6:g} million, and {MAX_SIDE} a side, are the "
            "most: shrink it first"
        )
    _check_nothing_else(data, shown)
    loaded = decode_image(data, shown, FORMATS)
    loaded.pixels.info.clear()  # a camera's owner and place, a colour profile that is not used here
    return loaded


def _check_nothing_else(data: bytes, name: str) -> None:
    """Raise ImageError for a picture that is also another kind of file.

    The page keeps pixels only, so such a file does no harm here, but it could where it is passed on.
    """
    other = None
    if zipfile.is_zipfile(io.BytesIO(data)):
        other = "a ZIP archive"
    elif b"%PDF-" in data[:_PDF_HEAD]:
        other = "a PDF"
    elif _MARKUP.search(data):
        other = "a page of HTML, SVG or PHP"
    if other is not None:
        raise ImageError(f"{name} is a picture and {other} in one; {_REMEDY}")
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > _MOST_SCANS:
        raise ImageError(f"{name} is a JPEG of more than {_MOST_SCANS} passes, too slow to decode; {_REMEDY}")
