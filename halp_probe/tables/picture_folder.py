"""A folder of pictures that are named by their content: equal ones are one file, written whole and once."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

from halp_probe.files import write_bytes
from halp_probe.tables.pictures import PictureError

_ENDINGS = {"JPEG": ".jpg", "TIFF": ".tif"}  # others: the format's own name


class PictureFolder:
    """A folder in which pictures are kept; `used` says whether one was to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used = False
        self._kept: dict[bytes, str] = {}  # digest -> name
        self._names: set[str] = set()

    def keep(self, data: bytes, formats: tuple[str, ...] | None = None) -> str:
        """Write a picture to `<sha256>.<ending>` unless it is there, and return that name.

        `formats` are Pillow's names of those that are taken; None: all. Raises PictureError for bytes that are no
        picture, and InputError where the file cannot be written.
        """
        self.used = True
        digest = hashlib.sha256(data)
        if (name := self._kept.get(digest.digest())) is None:
            name = f"{digest.hexdigest()}{picture_ending(data, formats)}"
            write_once(self.path / name, data)
            self._kept[digest.digest()] = name
            self._names.add(name)
        return name

    def holds(self, name: str) -> bool:
        """Return whether a picture that was kept has that name."""
        return name in self._names

    def adopt(self, name: str) -> bool:
        """Return whether an earlier run left a picture of that name, which then counts as kept."""
        if (self.path / name).is_file():
            self._names.add(name)
        return name in self._names


def write_once(path: Path, data: bytes) -> None:
    """Write a file whose name says its content, unless it is there. Raises InputError if it cannot be written."""
    if not (path.is_file() and path.stat().st_size == len(data)):
        write_bytes(path, data)


def picture_ending(data: bytes, formats: tuple[str, ...] | None = None) -> str:
    """Return the ending for a file with these bytes, such as ".png". Raises PictureError for bytes of no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # said when it is decoded
            with Image.open(io.BytesIO(data), formats=formats) as image:
                form = image.format or ""
    except UnidentifiedImageError as error:
        expected = f" of {', '.join(formats)}" if formats else " that Pillow can read"
        raise PictureError(f"its image has {len(data):,} bytes, which are no image{expected}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"its image cannot be read: {error}") from error
    return _ENDINGS.get(form, f".{form.lower()}")
