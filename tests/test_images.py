"""Pictures of every kind come out as upright RGB, or fail with a reason; nothing leaves the folder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from halp_probe.engine.images import (
    ImageError,
    ImageFolder,
    decode_image,
    from_pixels,
    image_path,
    load_image,
    pixel_count,
)


def gradient() -> np.ndarray:
    """[20, 30, 3] uint8, dark at the left, bright at the right."""
    row = np.linspace(10, 240, 30).astype(np.uint8)
    return np.repeat(np.repeat(row[None, :, None], 20, 0), 3, 2)


def test_a_plain_picture_comes_back(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    assert loaded.pixels.mode == "RGB"
    assert np.array_equal(np.asarray(loaded.pixels), gradient())
    assert pixel_count(tmp_path / "a.png") == 600


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("grey.png", lambda image: image.convert("L")),
        ("palette.png", lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE)),
        ("cmyk.jpg", lambda image: image.convert("CMYK")),
        ("rgba.png", lambda image: image.convert("RGBA")),
        ("la.png", lambda image: image.convert("LA")),
        ("photo.jpeg", lambda image: image),
        ("grey16.png", lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
    ],
)
def test_every_mode_keeps_its_brightness(
    tmp_path: Path, name: str, convert: Callable[[Image.Image], Image.Image]
) -> None:
    convert(Image.fromarray(gradient())).save(tmp_path / name)
    pixels = np.asarray(load_image(tmp_path / name).pixels).astype(int)
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels - gradient()).mean() < 6


def test_transparency_becomes_white(tmp_path: Path) -> None:
    layered = np.zeros((4, 4, 4), dtype=np.uint8)
    layered[:2, :, 3] = 255
    Image.fromarray(layered).save(tmp_path / "a.png")
    pixels = np.asarray(load_image(tmp_path / "a.png").pixels)
    assert (pixels[:2] == 0).all() and (pixels[2:] == 255).all()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to view
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    pixels = np.asarray(load_image(tmp_path / "a.png").pixels)
    assert np.array_equal(pixels, np.rot90(gradient(), -1))


def test_a_single_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (7, 8, 9)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").pixels.getpixel((0, 0)) == (7, 8, 9)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_truncated_file_is_no_picture(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=f"{name} cannot be decoded"):
        load_image(tmp_path / name)


def test_what_is_no_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    for name, reason in (("empty.png", r"empty \(0 bytes\)"), ("text.png", "not an image that Pillow can read")):
        with pytest.raises(ImageError, match=reason):
            load_image(tmp_path / name)
        assert pixel_count(tmp_path / name) == 0
    Image.fromarray(gradient()).save(tmp_path / "bomb.png")
    for limit in (100, 400):  # over twice the limit Pillow raises, over the limit it warns: both are too large
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="too large to decode"):
            load_image(tmp_path / "bomb.png")


def test_paths_stay_in_the_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    Image.new("RGB", (2, 2)).save(images / "sub" / "ü b.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "inner.png").symlink_to(images / "sub" / "ü b.png")
    (images / "up").symlink_to(tmp_path)
    trusted = ImageFolder(images, allow_links=True)
    for folder in (images, ImageFolder(images), trusted):  # a table leads nowhere
        for outside in ("../secret.png", str(tmp_path / "secret.png"), "sub/../../secret.png", "up/../../x"):
            with pytest.raises(ImageError, match=r"leads out of .*images; put the image into that folder$"):
                image_path(folder, outside)
        assert image_path(folder, "sub/ü b.png").name == "ü b.png"
        assert image_path(folder, "inner.png").is_file()
        for missing in ("none.png", "sub", "."):
            with pytest.raises(ImageError, match="no file"):
                image_path(folder, missing)
    for link in ("link.png", "up/secret.png"):  # its owner's links may
        for strict in (images, ImageFolder(images)):
            with pytest.raises(ImageError, match=r"is a link, or behind one, that leads out .* `allow_links=True`$"):
                image_path(strict, link)
        assert image_path(trusted, link) == (tmp_path / "secret.png").resolve()
    (images / "loop.png").symlink_to(images / "loop.png")
    (images / "gone.png").symlink_to(images / "nowhere.png")
    for bad in ("", "  ", "a\0b", "\udcff.png", "loop.png", "gone.png", "x" * 300, "x/" * 9000):
        for folder in (images, trusted):
            with pytest.raises(ImageError) as caught:
                image_path(folder, bad)
            assert len(str(caught.value)) < 700


def test_a_linked_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "disk" / "a.png")
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    assert image_path(tmp_path / "images", "a.png") == (tmp_path / "disk" / "a.png").resolve()
    with pytest.raises(ImageError, match="leads out of"):
        image_path(tmp_path / "images", "../images/../disk2/a.png")


def test_a_snapshot_of_the_hubs_cache_is_read(tmp_path: Path) -> None:
    """snapshots/<commit>/images/a.png is a link to blobs/<hash>, and to nothing else."""
    for repository in ("datasets--a--b", "datasets--c--d"):
        (tmp_path / repository / "blobs").mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / repository / "blobs" / "0123.png")
        (tmp_path / repository / "refs").mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / repository / "refs" / "0123.png")
    images = tmp_path / "datasets--a--b" / "snapshots" / "abc" / "images"
    images.mkdir(parents=True)
    (images / "a.png").symlink_to("../../../blobs/0123.png")
    (images / "other.png").symlink_to("../../../../datasets--c--d/blobs/0123.png")
    (images / "ref.png").symlink_to("../../../refs/0123.png")
    blob = tmp_path / "datasets--a--b" / "blobs" / "0123.png"
    assert image_path(images, "a.png") == image_path(images.parent, "images/a.png") == blob.resolve()
    for outside in ("other.png", "ref.png"):
        with pytest.raises(ImageError, match="is a link, or behind one, that leads out"):
            image_path(images, outside)
    with pytest.raises(ImageError, match="leads out of"):  # not by name
        image_path(images, "../../../blobs/0123.png")


def test_a_picture_in_place_of_a_name_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a picture itself; write it to a file, and give the file's name") as caught:
        image_path(tmp_path, "data:image/png;base64," + "A" * 3_000_000)
    assert "(3,000,022 characters)" in str(caught.value) and len(str(caught.value)) < 400


GREY = np.linspace(0, 255, 24).astype(np.uint8).reshape(4, 6)
WIDE = GREY.astype(np.uint16) * 257
ALPHA = np.where(np.indices(GREY.shape).sum(0) % 2, 255, 0).astype(np.uint8)
TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "u8": (GREY, {}),
    "u8 white is zero": (255 - GREY, {"photometric": "miniswhite"}),
    "u16": (WIDE, {}),
    "u16 big-endian": (WIDE, {"byteorder": ">"}),
    "u16 white is zero": (65535 - WIDE, {"photometric": "miniswhite"}),
    "u16 white is zero, deflated": (65535 - WIDE, {"photometric": "miniswhite", "compression": "zlib"}),
    "1 bit": (GREY > 99, {"photometric": "minisblack"}),
    "1 bit white is zero": (GREY <= 99, {"photometric": "miniswhite"}),
    "rgb u16": (np.stack([WIDE] * 3, -1), {"photometric": "rgb"}),
    "rgb planes": (np.stack([GREY] * 3), {"photometric": "rgb", "planarconfig": "separate"}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_grey_tiffs_look_as_their_tags_say(tmp_path: Path, name: str) -> None:
    values, tags = TIFFS[name]
    tifffile.imwrite(tmp_path / "a.tif", values, **tags)
    right = np.where(GREY > 99, 255, 0) if values.dtype == bool else GREY
    pixels = np.asarray(load_image(tmp_path / "a.tif").pixels)
    assert (np.abs(pixels - right[..., None].astype(int)) <= (1 if "rgb u16" in name else 0)).all()
    stored = tifffile.imread(tmp_path / "a.tif")  # the oracle reads what was stored
    assert np.array_equal(stored, values)
    with Image.open(tmp_path / "a.tif") as image:  # and a PIL image of the file is that file
        assert np.array_equal(np.asarray(from_pixels(image).pixels), pixels)


def test_twelve_bits_have_a_white_of_their_own(tmp_path: Path) -> None:
    values = (GREY.astype(int) * 4095 + 127) // 255  # [4, 6], two in three bytes
    high, low = values.reshape(-1, 2).T
    data = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8).tobytes()
    tags = {256: 6, 257: 4, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: len(data)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    (tmp_path / "a.tif").write_bytes(header + data + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.tif").pixels)[..., 0], GREY)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (GREY.astype(np.int32), "signed 32-bit whole numbers, here from 0 to 255, have no defined white; save"),
        (GREY.astype(np.uint32) * 16843009, "unsigned 32-bit whole numbers, here from 0 to 4294967295"),
        (WIDE.view(np.int16) ^ np.int16(-32768), "signed 16-bit whole numbers, here from -32768 to 32767"),
        (GREY.view(np.int8), "signed 8-bit whole numbers, here from -1"),
        (GREY.astype(np.float32), "floating-point pixels have no defined white"),
    ],
)
def test_grey_without_a_defined_white_is_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(ImageError, match=f"a.tif cannot be decoded: {said}.*8 (or 16 )?bit"):
        load_image(tmp_path / "a.tif")
    with (
        pytest.raises(ImageError, match=r"the picture cannot be decoded: .*; save the image as 8"),
        Image.open(tmp_path / "a.tif") as image,
    ):
        from_pixels(image)
    if values.dtype == np.int32:
        with pytest.raises(ImageError, match="32-bit whole numbers, here from 0 to 255, have no defined white"):
            from_pixels(Image.fromarray(values))


def png(depth: int, colour: int, rows: np.ndarray, transparent: bytes = b"") -> bytes:
    """A PNG of these packed rows [height, bytes], written by hand: no library writes all of its kinds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", GREY.shape[1], len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [chunk(b"IHDR", header), *([chunk(b"tRNS", transparent)] if transparent else [])]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def pack(values: np.ndarray, depth: int) -> np.ndarray:
    """Pack rows of values below 2**depth into bytes."""
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.reshape(len(values), -1), axis=1)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_grey_png_is_white(depth: int) -> None:
    """PNG says it in the depth of the file, whatever the reader makes of the pixels."""
    largest = 2**depth - 1
    values = np.indices(GREY.shape).sum(0) * 7919 % (largest + 1)  # [4, 6]
    for transparent in {int(values[0, 1]), int(values[2, 3])}:
        content = png(depth, 0, pack(values, depth), struct.pack(">H", transparent))
        right = np.where(values == transparent, 255, (values / largest * 255).round())
        assert np.array_equal(np.asarray(decode_image(content, "a.png").pixels)[..., 0], right)
    plain = decode_image(png(depth, 0, pack(values, depth)), "a.png")
    assert np.array_equal(np.asarray(plain.pixels)[..., 0], (values / largest * 255).round())


def test_sixteen_bit_pngs_of_other_kinds() -> None:
    wide = np.stack([WIDE, np.where(ALPHA, 65535, 0)], -1).astype(">u2")  # grey and alpha
    on_white = np.where(ALPHA, GREY, 255)
    read = decode_image(png(16, 4, wide.view(np.uint8).reshape(4, -1)), "a.png")
    assert np.array_equal(np.asarray(read.pixels)[..., 1], on_white)
    colours = np.stack([WIDE] * 3, -1).astype(">u2").view(np.uint8).reshape(4, -1)
    assert np.array_equal(np.asarray(decode_image(png(16, 2, colours), "a.png").pixels)[..., 2], GREY)
    with pytest.raises(ImageError, match="16-bit colours of which one is transparent; save the image with 8 bits"):
        decode_image(png(16, 2, colours, struct.pack(">HHH", 257, 257, 257)), "a.png")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "La", "RGBa", "PA", "P"])
def test_transparency_of_every_mode_becomes_white(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(GREY)
    grey.putalpha(Image.fromarray(ALPHA))
    if mode == "P":  # a palette with alpha of its own
        image = Image.fromarray(np.where(ALPHA, GREY // 16, 16).astype(np.uint8), "P")
        image.putpalette([v for k in range(16) for v in (k * 16, k * 16, k * 16, 255)] + [0, 0, 0, 0], "RGBA")
        right = np.where(ALPHA, GREY // 16 * 16, 255)
    else:
        image = grey.convert("RGBA").convert(mode) if mode in ("RGBA", "RGBa", "PA") else grey.convert(mode)
        right = np.where(ALPHA, GREY, 255)
    pixels = np.asarray(from_pixels(image).pixels).astype(int)
    assert (np.abs(pixels - right[..., None]) <= (26 if mode == "PA" else 0)).all()  # PA: a web palette


@pytest.mark.parametrize(("samples", "kind"), [(2, "minisblack"), (4, "rgb")])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_alpha_of_tiffs(tmp_path: Path, samples: int, kind: str, extra: str) -> None:
    """Associated alpha is multiplied into the colours: half transparent 100 on white is 100 + 127."""
    alpha = np.full_like(GREY, 128)
    colours = np.full_like(GREY, 100)
    values = np.stack([*[colours] * (samples - 1), alpha], -1)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=kind, planarconfig="contig", extrasamples=[extra])
    right = 100 + 127 if extra == "assocalpha" else 100 * 128 / 255 + 127
    assert np.abs(np.asarray(load_image(tmp_path / "a.tif").pixels) - right).max() <= 1


def test_other_colour_spaces(tmp_path: Path) -> None:
    """CMYK, YCbCr and CIELAB: half of lightness is 119 in sRGB, without ink is white."""
    tifffile.imwrite(tmp_path / "lab.tif", np.full((4, 4, 3), (128, 0, 0), np.uint8), photometric="cielab")
    assert np.abs(np.asarray(load_image(tmp_path / "lab.tif").pixels).astype(int) - 120).max() <= 2
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[:2, :, 3] = 255
    tifffile.imwrite(tmp_path / "cmyk.tif", ink, photometric="separated")
    assert np.asarray(load_image(tmp_path / "cmyk.tif").pixels)[..., 0].tolist() == [[0] * 4] * 2 + [[255] * 4] * 2
    Image.fromarray(gradient()).convert("YCbCr").save(tmp_path / "ycc.tif")
    assert np.abs(np.asarray(load_image(tmp_path / "ycc.tif").pixels).astype(int) - gradient()).max() <= 2


def test_wide_grey_of_other_formats(tmp_path: Path) -> None:
    """PGM says its white; a 16-bit PIL image is what Pillow makes of a PNG."""
    header = f"P5 {GREY.shape[1]} {GREY.shape[0]} 4095\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + (GREY.astype(np.uint16) * 16).astype(">u2").tobytes())
    pixels = np.asarray(load_image(tmp_path / "a.pgm").pixels)[..., 0]
    assert np.abs(pixels - GREY.astype(int) * 16 / 4095 * 255).max() <= 1
    assert np.array_equal(np.asarray(from_pixels(Image.fromarray(WIDE)).pixels)[..., 0], GREY)
