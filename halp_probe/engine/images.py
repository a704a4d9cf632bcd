"""Open an image file of any mode safely: its path stays in the folder, its pixels become upright RGB."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from halp_probe.engine.pixels import correct_transparency, to_rgb
from halp_probe.errors import InputError
from halp_probe.near_duplicates import difference_hash
from halp_probe.plain_text import is_whole, shorten

# What Pillow's decoders raise; a TypeError for a tag of an unexpected kind.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)
_LONGEST_NAME = 200  # characters that are shown
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class ImageError(InputError):
    """An image that cannot be used; the message says why."""


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image: `pixels` is RGB, turned upright by its EXIF tag, on white where it was transparent."""

    pixels: Image.Image
    sha256: str  # of the file's bytes, or of the pixels of a picture without a file

    @cached_property
    def difference_hash(self) -> str:
        """Hash that other encodings of the picture nearly share; see `near_duplicates`."""
        return difference_hash(self.pixels)


@dataclass(frozen=True)
class ImageFolder:
    """A user's folder of images; with `allow_links`, links in it are followed wherever they lead."""

    path: Path
    allow_links: bool = False

    def __str__(self) -> str:
        return str(self.path)


ImagesDir: TypeAlias = "Path | ImageFolder"  # a Path: without its links


def folder_path(images_dir: ImagesDir) -> Path:
    """Return the folder itself."""
    return images_dir.path if isinstance(images_dir, ImageFolder) else images_dir


def image_path(images_dir: ImagesDir, image_id: str) -> Path:
    """Return the file `images_dir / image_id`, links followed.

    Raises ImageError if it is not a file, or lies outside the folder: never because of what the `image_id` says, and
    through a link only from an ImageFolder that allows it, or from a snapshot of the hub's cache to that cache's blobs.
    """
    if not image_id.strip():
        raise ImageError("blank image_id")
    shown = repr(shorten(image_id, _LONGEST_NAME))
    if not is_whole(image_id):
        raise ImageError(f"image_id {shown} holds a NUL character or half a surrogate pair")
    if image_id.startswith("data:"):
        raise ImageError(f"image_id {shown} is a picture itself; write it to a file, and give the file's name")
    folder = folder_path(images_dir).resolve()
    named = Path(os.path.normpath(folder / image_id))
    if not named.is_relative_to(folder):
        raise ImageError(f"image_id {shown} leads out of {images_dir}; put the image into that folder")
    try:
        path = named.resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise ImageError(f"image_id {shown} cannot be followed: {_reason(error)}") from error
    allowed = isinstance(images_dir, ImageFolder) and images_dir.allow_links
    if not (allowed or path.is_relative_to(folder) or _is_blob_of(folder, path)):
        raise ImageError(
            f"image_id {shown} is a link, or behind one, that leads out of {images_dir}; put the image into that "
            "folder, or trust the folder's links with `allow_links=True`"
        )
    if not is_file:
        raise ImageError(f"no file {shown} in {images_dir}")
    return path


def _is_blob_of(folder: Path, path: Path) -> bool:
    """Return whether a folder lies in a snapshot of the hub's cache, and a file among the blobs of the same repository.

    There, snapshots/<commit>/…/x.png is a link to blobs/<hash>.
    """
    snapshots = next((parent for parent in (folder, *folder.parents) if parent.name == "snapshots"), None)
    return snapshots is not None and path.parent == (snapshots.parent / "blobs").resolve()


def _reason(error: Exception) -> str:
    """Return the error without the name of the file, which may have a million characters."""
    return (error.strerror if isinstance(error, OSError) else None) or shorten(str(error), _LONGEST_NAME)


def load_image(path: Path) -> LoadedImage:
    """Decode the whole file; ImageError if it is empty, broken, too large, not an image or without a white."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that none can have, with a NUL character
        raise ImageError(f"{shorten(path.name, _LONGEST_NAME)} cannot be read: {_reason(error)}") from error
    return decode_image(content, path.name)


def decode_image(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> LoadedImage:
    """Decode the bytes of a file, as `load_image` does; `formats`: Pillow's names, None = all."""
    with _open(content, name, formats) as image:
        image.load()
        correct_transparency(image, content)
        pixels = to_rgb(image)
    return LoadedImage(pixels, hashlib.sha256(content).hexdigest())


def header_size(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> tuple[int, int]:
    """Return width and height before EXIF rotation, without decoding; ImageError if there is no header."""
    with _open(content, name, formats) as image:
        return image.size


def from_pixels(image: Image.Image) -> LoadedImage:
    """Convert a PIL image as `load_image` does a file; ImageError if it is truncated, or its white is not defined."""
    try:
        pixels = to_rgb(image)
    except _BROKEN as error:
        raise ImageError(f"the picture cannot be decoded: {error}") from error
    content = f"{pixels.width}×{pixels.height}".encode() + pixels.tobytes()
    return LoadedImage(pixels, hashlib.sha256(content).hexdigest())


def content_sha256(image_id: str, digests: Sequence[str]) -> str:
    """Return the digest of a prompt's images: one image's own, or that of several digests in order.

    For a prompt without images it is the digest of `image_id`, so that prompts with the same one stay together.
    """
    if len(digests) == 1:
        return digests[0]
    text = "".join(digests) if digests else f"no image: {image_id}"
    return hashlib.sha256(text.encode()).hexdigest()


def find_first_copies(images_dir: ImagesDir, image_ids: Iterable[str]) -> dict[str, str]:
    """Map each image id to the first one whose file has the same content; an id without a file to itself.

    Only files of one size are read and compared.
    """
    by_size: dict[int, list[str]] = {}
    first = {}
    for image_id in dict.fromkeys(image_ids):
        first[image_id] = image_id
        try:
            by_size.setdefault(image_path(images_dir, image_id).stat().st_size, []).append(image_id)
        except (ImageError, OSError):
            continue
    for same_size in by_size.values():
        by_digest: dict[bytes, str] = {}
        for image_id in same_size if len(same_size) > 1 else ():
            try:
                digest = hashlib.sha256(image_path(images_dir, image_id).read_bytes()).digest()
            except (ImageError, OSError):
                continue
            first[image_id] = by_digest.setdefault(digest, image_id)
    return first


def shrink(image: LoadedImage, largest_side: int) -> LoadedImage:
    """Return the image with no side longer than this, under the digest of the whole one."""
    if max(image.pixels.size) <= largest_side:
        return image
    pixels = image.pixels.copy()
    pixels.thumbnail((largest_side, largest_side))
    return LoadedImage(pixels, image.sha256)


def pixel_count(path: Path) -> int:
    """Return width × height from the header alone; 0 if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.width * image.height
    except (*_BROKEN, Image.DecompressionBombError):
        return 0


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of the upright image, from the header alone; ImageError if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size may have been rotated already
                    width, height = (
                        image.tag_v2[TiffImagePlugin.IMAGEWIDTH],
                        image.tag_v2[TiffImagePlugin.IMAGELENGTH],
                    )
                sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
                return (height, width) if sideways else (width, height)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path.name} is not an image that Pillow can read") from error
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise ImageError(f"{path.name} has no readable header: {error}") from error


@contextmanager
def _open(content: bytes, name: str, formats: tuple[str, ...] | None) -> Iterator[Image.Image]:
    """Open an image and read its header. Errors inside the context, as in decoding, become ImageErrors, too."""
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=formats) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large to decode ({error}); shrink it first") from error
    except UnidentifiedImageError as error:
        expected = "an image that Pillow can read" if formats is None else f"a picture of {', '.join(formats)}"
        raise ImageError(f"{name} is not {expected}") from error
    except _BROKEN as error:
        raise ImageError(f"{name} cannot be decoded: {error}") from error
