"""Paint objects on an image: described ones in full lines, true ones dashed, a legend of descriptions below.

A described object is blue if it matches a true one and orange if it does not (blue too without a ground truth); a true
one is yellow on black. Numbers are those of `object_1`, `object_2`, …; those of true objects begin with T.
Descriptions need a font with their characters: Pillow's own, or one of FONTS if this machine has it; if neither has
them, the legend gives the object's name instead.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from halp_probe.files import write_bytes
from halp_probe.tasks.geometry import DenseObject, to_pixels

FONTS = (  # with Chinese characters; Pillow looks through the system's own folders
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.ttf",
    "SourceHanSansSC-Regular.otf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simsun.ttc",
)
FOUND, INVENTED, TRUE, DARK, PAPER = (0, 90, 200), (230, 80, 0), (255, 220, 0), (0, 0, 0), (255, 255, 255)
_NO_CHARACTER = "\U0010fffe"  # in no font
_SMALLEST_FONT = 11  # pixels
_DASH = 4  # in line widths

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _PaintedObject:
    """Object with its colour and line style."""

    item: DenseObject
    colour: Colour
    dashed: bool

    @property
    def number(self) -> str:
        """Number of the object as painted; "T" and the number for a true one."""
        return f"T{self.item.index}" if self.dashed else str(self.item.index)


def draw(
    pixels: Image.Image,
    described: Sequence[DenseObject],
    true: Sequence[DenseObject],
    invented: Collection[DenseObject],
) -> Image.Image:
    """Return a copy with all objects of this one image painted and the legend below.

    `invented`: the described objects that match no true one.
    """
    width = max(2, round(max(pixels.size) / 400))
    fonts = _fonts(max(_SMALLEST_FONT, round(max(pixels.size) / 60)))
    painted = [_PaintedObject(item=one, colour=TRUE, dashed=True) for one in true]
    painted += [
        _PaintedObject(item=one, colour=INVENTED if one in invented else FOUND, dashed=False) for one in described
    ]
    legend = _legend(painted, pixels.width, fonts)
    picture = Image.new("RGB", (pixels.width, pixels.height + legend.height), PAPER)
    picture.paste(pixels, (0, 0))
    picture.paste(legend, (0, pixels.height))
    canvas = ImageDraw.Draw(picture)
    for each in painted:
        _outline(canvas, each, pixels.size, width)
    for each in painted:
        _number(canvas, each, pixels.size, fonts[0])
    return picture


def save_png(picture: Image.Image, path: Path) -> None:
    """Write the picture whole or not at all. Raises InputError where it cannot be written."""
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    write_bytes(path, encoded.getvalue())


def _outline(canvas: ImageDraw.ImageDraw, each: _PaintedObject, size: tuple[int, int], width: int) -> None:
    points = to_pixels(each.item.points, *size)
    if each.item.kind == "bbox_2d":
        (left, top), (right, bottom) = points
        points = (left, top), (right, top), (right, bottom), (left, bottom)
    path = list(points) if each.item.kind == "line" else [*points, points[0]]
    path = [(min(x, size[0] - 1), min(y, size[1] - 1)) for x, y in path]
    if each.dashed:
        canvas.line(path, DARK, width + 2, joint="curve")
        for dash in _dashes(path, _DASH * width):
            canvas.line(dash, each.colour, width)
    else:
        canvas.line(path, each.colour, width, joint="curve")


def _dashes(path: Sequence[_Place], length: float) -> Iterator[list[_Place]]:
    for (ax, ay), (bx, by) in pairwise(path):
        distance = math.hypot(bx - ax, by - ay)
        for begin in range(0, math.ceil(distance / length), 2):
            shares = (begin * length / distance, min(1.0, (begin + 1) * length / distance))
            yield [(ax + share * (bx - ax), ay + share * (by - ay)) for share in shares]


def _number(canvas: ImageDraw.ImageDraw, each: _PaintedObject, size: tuple[int, int], font: Font) -> None:
    """Paint the number at the object's first point; a true one's at a point across, so that both can be read."""
    points = to_pixels(each.item.points, *size)
    x, y = points[len(points) // 2 if each.dashed else 0]
    _, _, wide, high = _box(font, each.number)
    if each.dashed:
        x, y = x - wide - 4, y - high - 4
    x, y = max(0.0, min(x, size[0] - wide - 4)), max(0.0, min(y, size[1] - high - 4))
    canvas.rectangle((x, y, x + wide + 3, y + high + 3), DARK if each.dashed else each.colour)
    canvas.text((x + 2, y + 2), each.number, TRUE if each.dashed else PAPER, font, anchor="lt")


def _legend(painted: Sequence[_PaintedObject], width: int, fonts: Sequence[Font]) -> Image.Image:
    """Return the legend, one line an object, broken where it is wider than the image."""
    lines = [(each, line, font) for each in painted for line, font in _lines(each, width, fonts)]
    step = math.ceil(max(_box(font, "Ägj中")[3] for font in fonts)) + 4
    strip = Image.new("RGB", (width, step * len(lines) + (4 if lines else 0)), PAPER)
    canvas = ImageDraw.Draw(strip)
    for row, (each, line, font) in enumerate(lines):
        canvas.rectangle((2, 4 + row * step, 2 + step // 2, row * step + step - 2), each.colour)
        canvas.text((6 + step // 2, 4 + row * step), line, DARK, font, anchor="lt")
    return strip


def _lines(each: _PaintedObject, width: int, fonts: Sequence[Font]) -> Iterator[tuple[str, Font]]:
    text = f"{each.number}  {' '.join(each.item.desc.split())}"
    able = [font for font in fonts if not _lacks(font, text)]
    if not able:
        where = "the ground truth" if each.dashed else "the reply"
        text = f"{each.number}  see object_{each.item.index} of {where}: no font here has its characters"
    font, line = (able or fonts)[0], ""
    for character in text:
        if line and _box(font, line + character)[2] > width - 2 * _SMALLEST_FONT - 6:
            yield line, font
            line = "    "
        line += character
    yield line, font


def _fonts(size: int) -> list[Font]:
    """Return Pillow's own font, and the first of FONTS that this machine has."""
    for name in FONTS:
        try:
            return [ImageFont.load_default(size), ImageFont.truetype(name, size)]
        except OSError:
            continue
    return [ImageFont.load_default(size)]


def _lacks(font: Font, text: str) -> bool:
    absent = _shape(font, _NO_CHARACTER)
    return any(_shape(font, character) == absent for character in set(text) if not character.isspace())


def _shape(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character, "L")
    return mask.size, bytes(mask)


def _box(font: Font, text: str) -> tuple[float, float, float, float]:
    return font.getbbox(text, anchor="lt") if isinstance(font, ImageFont.FreeTypeFont) else font.getbbox(text)
