"""Pictures of every kind come out as upright RGB, or fail with a reason; nothing leaves the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halp_probe.engine.images import ImageError, image_path, load_image, pixel_count


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
    for outside in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "sub/../../secret.png"):
        with pytest.raises(ImageError, match="leads out of"):
            image_path(images, outside)
    assert image_path(images, "sub/ü b.png").name == "ü b.png"
    assert image_path(images, "inner.png").is_file()
    for missing in ("none.png", "sub", "."):
        with pytest.raises(ImageError, match="no file"):
            image_path(images, missing)
    (images / "loop.png").symlink_to(images / "loop.png")
    for bad in ("", "  ", "a\0b", "loop.png", "x" * 300):
        with pytest.raises(ImageError):
            image_path(images, bad)
