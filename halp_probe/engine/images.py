"""Open an image file whatever its mode, safely: the path stays in the folder, the pixels come out as upright RGB."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from halp_probe.errors import InputError

# What Pillow's decoders raise; a TypeError for a tag of a kind that none expects.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class ImageError(InputError):
    """An image that cannot be used, and why."""


@dataclass(frozen=True)
class LoadedImage:
    """`pixels` is RGB, turned upright by its EXIF tag, on white where it was transparent."""

    pixels: Image.Image
    sha256: str  # of the file's bytes; of the pixels of a picture that came from no file


def image_path(images_dir: Path, image_id: str) -> Path:
    """`images_dir / image_id`; ImageError when that is no file, or lies outside the folder (links followed)."""
    if not image_id.strip():
        raise ImageError("blank image_id")
    if "\0" in image_id:
        raise ImageError(f"image_id {image_id!r} holds a NUL character")
    folder = images_dir.resolve()
    try:
        path = (folder / image_id).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise ImageError(f"image_id {image_id!r} cannot be followed: {error}") from error
    if not path.is_relative_to(folder):
        raise ImageError(f"image_id {image_id!r} leads out of {images_dir}; put the image into that folder")
    if not is_file:
        raise ImageError(f"no file {image_id!r} in {images_dir}")
    return path


def load_image(path: Path) -> LoadedImage:
    """Decode the whole file; ImageError when it is empty, truncated, no image or a decompression bomb."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {error.strerror}") from error
    return decode_image(content, path.name)


def decode_image(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> LoadedImage:
    """What `load_image` gives for a file of these bytes, with its errors; `formats`: Pillow's names, None = all."""
    with _opened(content, name, formats) as opened:
        opened.load()
        pixels = _to_rgb(ImageOps.exif_transpose(opened))
    return LoadedImage(pixels, hashlib.sha256(content).hexdigest())


def header_size(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> tuple[int, int]:
    """Width and height before EXIF turns them, with nothing decoded; ImageError where there is no header."""
    with _opened(content, name, formats) as opened:
        return opened.size


def from_pixels(image: Image.Image) -> LoadedImage:
    """A picture as `load_image` would give it from a file; ImageError for one without a meaning or cut short."""
    try:
        pixels = _to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except _BROKEN as error:
        raise ImageError(f"the picture cannot be decoded: {error}") from error
    content = f"{pixels.width}×{pixels.height}".encode() + pixels.tobytes()
    return LoadedImage(pixels, hashlib.sha256(content).hexdigest())


def content_sha256(image_id: str, digests: Sequence[str]) -> str:
    """What tells the images of a prompt: one image's own digest, that of several ones' digests in order.

    Of a prompt without images it is the digest of what it is about, so that all about one thing stay together.
    """
    if len(digests) == 1:
        return digests[0]
    told = "".join(digests) if digests else f"no image: {image_id}"
    return hashlib.sha256(told.encode()).hexdigest()


def by_content(images_dir: Path, image_ids: Iterable[str]) -> dict[str, str]:
    """For each image id the first one whose file has the same content; an id without a file stands for itself.

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
        seen: dict[bytes, str] = {}
        for image_id in same_size if len(same_size) > 1 else ():
            try:
                digest = hashlib.sha256(image_path(images_dir, image_id).read_bytes()).digest()
            except (ImageError, OSError):
                continue
            first[image_id] = seen.setdefault(digest, image_id)
    return first


def pixel_count(path: Path) -> int:
    """Width × height from the header alone; 0 when there is none that can be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return opened.width * opened.height
    except (*_BROKEN, Image.DecompressionBombError):
        return 0


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of what `load_image` gives, from the header alone; ImageError where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                width, height = opened.size
                if isinstance(opened, TiffImagePlugin.TiffImageFile):  # whose size may have been turned already
                    width, height = (
                        opened.tag_v2[TiffImagePlugin.IMAGEWIDTH],
                        opened.tag_v2[TiffImagePlugin.IMAGELENGTH],
                    )
                turned = opened.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
                return (height, width) if turned else (width, height)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path.name} is not an image that Pillow knows") from error
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise ImageError(f"{path.name} has no readable header: {error}") from error


@contextmanager
def _opened(content: bytes, name: str, formats: tuple[str, ...] | None) -> Iterator[Image.Image]:
    """Its header read. ImageError also for what goes wrong before it is left, such as when it is decoded."""
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=formats) as opened:
                yield opened
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large to decode ({error}); shrink it first") from error
    except UnidentifiedImageError as error:
        known = "an image that Pillow knows" if formats is None else f"a picture of {', '.join(formats)}"
        raise ImageError(f"{name} is not {known}") from error
    except _BROKEN as error:
        raise ImageError(f"{name} cannot be decoded: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: PIL's own conversion clips it to white
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no defined white; save the image as 8 or 16 bit")
    if "A" in image.getbands() or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
