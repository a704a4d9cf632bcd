"""Pictures in the cells of tables: bytes, base64, data URLs, or the names and URLs of pictures elsewhere."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from halp_probe.tables.records import text_of

# Beginnings of JPEG, PNG, GIF, WebP, TIFF (both orders) and BMP in base64.
_HEADS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk")
_SHORTEST = 100  # characters of base64: a name without an ending may begin as a picture does
_LONGEST_NAME = 4096  # characters
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w=.-]+)*;base64,")
_URL = re.compile(r"https?://", re.IGNORECASE)


class PictureError(ValueError):
    """A cell that holds no picture that can be used; the message says why."""


def is_url(text: str) -> bool:
    """Return whether a text is the URL of something on the web."""
    return _URL.match(text) is not None


def holds_picture(value: object) -> bool:
    """Return whether a cell holds a picture itself, well or badly, and not only the name of one."""
    if isinstance(value, str):
        return _DATA_URL.match(value) is not None or _is_base64(value)
    if isinstance(value, list | tuple):
        return any(map(holds_picture, value))
    if isinstance(value, Mapping):
        return value.get("bytes") is not None
    return isinstance(value, bytes | bytearray | memoryview)


def find_picture(value: object) -> bytes | str:
    """Return the bytes of the picture that a cell holds, or the name or URL of the one that it names; "" for none.

    An object has `bytes`, or else `path` or `url`, as the package `datasets` writes it. Raises PictureError.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping):
        present = (value[name] for name in ("bytes", "path", "url") if value.get(name) is not None)
        inside = next(present, None)
        if inside is None:
            raise PictureError("its image is an object without bytes, path and url; choose a part of it with `columns`")
        return find_picture(inside)
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise PictureError(
                f"its image is a list of {len(value)}; choose one with `columns`, such as image_id=images.0"
            )
        return find_picture(value[0]) if value else ""
    text = text_of(value)
    if text.startswith("data:"):
        head, comma, content = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise PictureError("its image is a data URL that is not base64")
        return _decode(content)
    return _decode(text) if _is_base64(text) or len(text) > _LONGEST_NAME else text


def _is_base64(text: str) -> bool:
    return len(text) >= _SHORTEST and text.startswith(_HEADS) and _BASE64.fullmatch(text) is not None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"its image is no whole base64 ({error})") from error
