"""What is painted is where the objects are, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from halp_probe.task_files import drawing
from halp_probe.task_files.drawing import FOUND, INVENTED, TRUE, draw, save_png
from halp_probe.tasks.geometry import DenseObject

GREY = (120, 120, 120)


def canvas(size=(640, 480)):
    return Image.new("RGB", size, GREY)


def box(index, left, top, right, bottom, desc="x"):
    return DenseObject(image=1, index=index, kind="bbox_2d", points=((left, top), (right, bottom)), desc=desc)


def where(picture, colour, height=480):
    """Rows and columns of the pixels of one colour in the image's part."""
    found = np.argwhere((np.asarray(picture)[:height] == colour).all(axis=2))
    return found[:, 0], found[:, 1]


def test_outlines_lie_on_the_objects(tmp_path):
    told, invented = box(1, 100, 100, 500, 500), box(2, 700, 700, 900, 900)
    save_png(draw(canvas(), [told, invented], [], {invented}), tmp_path / "p.png")
    picture = Image.open(tmp_path / "p.png")
    for colour, (left, top, right, bottom) in {FOUND: (64, 48, 320, 240), INVENTED: (448, 336, 576, 432)}.items():
        rows, columns = where(picture, colour)
        assert abs(rows.min() - top) <= 1 and abs(rows.max() - bottom) <= 1
        assert abs(columns.min() - left) <= 1 and abs(columns.max() - right) <= 1
    assert picture.getpixel((200, 150)) == GREY and picture.size[0] == 640 and picture.size[1] > 480


def test_true_objects_are_dashed_and_described_ones_are_not():
    told = np.asarray(draw(canvas(), [box(1, 0, 500, 1000, 900)], [], set()))[240, 100:600]
    true = np.asarray(draw(canvas(), [], [box(1, 0, 500, 1000, 900)], set()))[240, 100:600]
    assert (told == FOUND).all()
    share = (true == TRUE).all(axis=1).mean()
    assert 0.3 < share < 0.7


def test_lines_and_quads_are_painted_through_their_points():
    line = DenseObject(image=1, index=1, kind="line", points=((100, 900), (500, 500), (900, 900)), desc="x")
    quad = DenseObject(image=1, index=2, kind="quad", points=((100, 100), (300, 150), (280, 300), (90, 290)), desc="y")
    picture = draw(canvas(), [line, quad], [], set())
    for one, ends in ((line, [(192, 336), (448, 336)]), (quad, [(128, 60)])):
        for x, y in ends:  # half-way between two points
            assert FOUND in {picture.getpixel((x + dx, y + dy)) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}, one


def test_objects_at_the_edge_stay_in_the_picture():
    rows, columns = where(draw(canvas(), [box(1, 0, 0, 1000, 1000)], [], set()), FOUND)
    assert (rows.max(), columns.max()) == (479, 639)


def test_nothing_to_paint_changes_nothing():
    picture = draw(canvas(), [], [], set())
    assert picture.tobytes() == canvas().tobytes()


def test_legend_grows_with_what_it_says_and_breaks_long_lines():
    assert (
        draw(canvas(), [box(1, 0, 0, 9, 9, "a")], [], set()).height
        < draw(canvas(), [box(1, 0, 0, 9, 9, "a " * 300)], [], set()).height
    )
    wide = np.asarray(draw(canvas(), [box(1, 0, 0, 9, 9, "m" * 500)], [], set()))[480:, -4:]
    assert (wide == 255).all()  # nothing runs out of the picture


def test_a_text_without_a_font_is_named_by_its_object(monkeypatch):
    monkeypatch.setattr(drawing, "FONTS", ())
    chinese = draw(canvas(), [box(1, 0, 0, 9, 9, "标签")], [], set())
    named = draw(
        canvas(), [box(1, 0, 0, 9, 9, "see object_1 of the reply: no font here has its characters")], [], set()
    )
    assert chinese.tobytes() == named.tobytes()


def test_a_font_of_the_machine_is_used_for_what_pillow_s_own_lacks(monkeypatch):
    try:
        ImageFont.truetype("DejaVuSans.ttf", 12)
    except OSError:
        pytest.skip("this machine has no DejaVuSans.ttf")
    text = "קהילה"  # Pillow's own font lacks it, DejaVu has it
    monkeypatch.setattr(drawing, "FONTS", ())
    without = draw(canvas(), [box(1, 0, 0, 9, 9, text)], [], set())
    monkeypatch.setattr(drawing, "FONTS", ("no such font.ttf", "DejaVuSans.ttf"))
    assert draw(canvas(), [box(1, 0, 0, 9, 9, text)], [], set()).tobytes() != without.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
def test_any_size_can_be_painted(size):
    objects = [
        box(1, 0, 0, 1000, 1000, "a description"),
        DenseObject(image=1, index=2, kind="line", points=((0, 0), (1000, 1000)), desc="标签"),
    ]
    assert draw(canvas(size), objects, objects, set()).width == size[0]
