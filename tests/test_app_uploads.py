"""Bytes become a picture exactly as a file of them would, or are refused in one sentence before they cost anything."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halp_probe.app import uploads
from halp_probe.app.uploads import check_image
from halp_probe.engine.images import load_image
from halp_probe.errors import InputError
from halp_probe.web.fetch import FORMATS, MAX_BYTES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about tags that it skips
ORIENTATION, OWNER = 0x0112, 0x9C9D


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, size=(height, width, 3), dtype=np.uint8))


def encoded(kind: str, picture: Image.Image | None = None, **how: object) -> bytes:
    buffer = io.BytesIO()
    (picture or noise()).save(buffer, format=kind, **how)
    return buffer.getvalue()


def turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION], exif[OWNER] = 6, b"somebody"
    return encoded(kind, exif=exif, lossless=True)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header tells this size, with hardly any pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


GOOD = {
    **{kind: encoded(kind) for kind in FORMATS},
    **{f"{kind} turned": turned(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")},
    "grey": encoded("PNG", noise().convert("L")),
    "palette": encoded("PNG", noise().convert("P")),
    "transparent": encoded("PNG", noise().convert("RGBA").rotate(30)),
    "16 bit": encoded("PNG", Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)),
    "cmyk": encoded("JPEG", noise().convert("CMYK")),
    "progressive": encoded("JPEG", progressive=True),
    "profile": encoded("PNG", icc_profile=b"\0" * 200),
    "frames": encoded("GIF", noise(), save_all=True, append_images=[Image.new("RGB", (40, 30))]),
    "pages": encoded("TIFF", noise(), save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    "phone": encoded("MPO", noise(), save_all=True, append_images=[noise(8, 6)]),
    "more behind": encoded("JPEG") + b"ftypmp42" + bytes(500),  # as telephones write moving pictures
    "one pixel": encoded("PNG", Image.new("RGB", (1, 1), (7, 8, 9))),
}


@pytest.mark.parametrize("name", GOOD)
def test_bytes_become_what_a_file_of_them_becomes(name: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(GOOD[name])
    wanted, found = load_image(tmp_path / "picture"), check_image(GOOD[name], "upload")
    assert np.array_equal(np.asarray(found.pixels), np.asarray(wanted.pixels)) and found.pixels.mode == "RGB"
    assert found.sha256 == wanted.sha256 == hashlib.sha256(GOOD[name]).hexdigest()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_picture_stands_upright_and_tells_no_owner(kind: str) -> None:
    found = check_image(turned(kind), "upload").pixels
    assert found.size == (30, 40) and not found.info and not found.getexif()
    if kind != "JPEG":
        assert np.array_equal(np.asarray(found), np.rot90(np.asarray(noise()), -1))


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "hello")
    return buffer.getvalue()


def slow_jpeg() -> bytes:
    """A progressive JPEG with its last pass once more and once more."""
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 200 + data[-2:]


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
NO_PICTURE = "is not a picture of PNG, JPEG"
BAD = {
    "nothing.png": (b"", r"empty \(0 bytes\)"),
    "page.png": (b"<!doctype html><html><body>hello</body></html>", NO_PICTURE),
    "vector.svg": (SVG, NO_PICTURE),
    "vector.png": (b"<?xml version='1.0'?>" + SVG, NO_PICTURE),
    "text.jpg": (b"hello", NO_PICTURE),
    "archive.png": (archive(), NO_PICTURE),
    "magic.png": (b"\x89PNG\r\n\x1a\n", NO_PICTURE + "|cannot be decoded"),
    "magic.gif": (b"GIF89a", NO_PICTURE + "|cannot be decoded"),
    "other.ppm": (encoded("PPM"), NO_PICTURE),
    "other.ico": (encoded("ICO"), NO_PICTURE),
    "other.tga": (encoded("TGA"), NO_PICTURE),
    "other.jp2": (encoded("JPEG2000"), NO_PICTURE),
    "other.eps": (encoded("EPS"), NO_PICTURE),
    "other.pdf": (encoded("PDF"), NO_PICTURE),
    "zip.png": (encoded("PNG") + archive(), "a picture and a ZIP archive in one"),
    "zip.jpg": (encoded("JPEG") + archive(), "a picture and a ZIP archive in one"),
    "zip.gif": (encoded("GIF") + archive(), "a picture and a ZIP archive in one"),
    "pdf.jpg": (encoded("JPEG", comment=b"%PDF-1.4 1 0 obj"), "a picture and a PDF in one"),
    "html.jpg": (encoded("JPEG", comment=b"<ScRiPt>alert(1)</script>"), "a picture and a page of HTML"),
    "html.png": (encoded("PNG") + b"<html onload='alert(1)'>", "a picture and a page of HTML"),
    "php.gif": (encoded("GIF") + b"<?php system('id'); ?>", "a picture and a page of HTML"),
    "svg.bmp": (encoded("BMP") + SVG, "a picture and a page of HTML"),
    "bomb.png": (png_of_size(8000, 8000), "has 8000 × 8000 pixels"),
    "wide.png": (png_of_size(30000, 10), "has 30000 × 10 pixels"),
    "huge.png": (png_of_size(2**31 - 1, 2**31 - 1), "too large to decode"),
    "claims.png": (png_of_size(6000, 6000), "cannot be decoded"),
    "slow.jpg": (slow_jpeg(), "more than 100 passes"),
    "large.png": (encoded("PNG") + bytes(MAX_BYTES), "has 20.0 MB, more than 20"),
    "float.tif": (encoded("TIFF", noise().convert("F")), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_plain_picture_is_refused_in_one_sentence(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(InputError, match=reason) as error:
        check_image(data, name)
    assert str(error.value).startswith(f"{name} ") and "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_part_of_a_picture_is_refused(kind: str, share: float) -> None:
    data = encoded(kind)
    with pytest.raises(InputError, match=r"half.img (cannot be decoded|is not a picture)"):
        check_image(data[: int(len(data) * share)], "half.img")


def test_a_bomb_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is in its header; the limits are those that are said."""

    def decode(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(uploads, "decode_image", decode)
    for size in ((20_001, 1), (1, 20_001), (6325, 6325), (20_000, 2_001)):
        with pytest.raises(InputError, match="are the most"):
            check_image(png_of_size(*size), "bomb.png")
    for size in ((20_000, 2_000), (1, 20_000)):
        with pytest.raises(AssertionError, match="decoded"):
            check_image(png_of_size(*size), "large.png")


def test_a_long_name_does_not_make_a_long_error() -> None:
    with pytest.raises(InputError) as error:
        check_image(b"", "x" * 5000)
    assert len(str(error.value)) < 120


def test_broken_pictures_of_every_kind_are_refused() -> None:
    """Whatever Pillow's decoders raise for bytes that are changed at random."""
    rng = np.random.default_rng(0)
    refused = 0
    for data in (GOOD[name] for name in (*FORMATS, "TIFF turned", "JPEG turned", "palette", "progressive")):
        for _ in range(150):
            changed = bytearray(data)
            for place in rng.integers(0, min(len(changed), 300), size=rng.integers(1, 8)):
                changed[place] = rng.integers(256)
            try:
                check_image(bytes(changed), "broken")
            except InputError:
                refused += 1
    assert refused > 300
