"""Draw pictures of coloured shapes from a seed, each with its own difficulty.

The picture alone makes a scene hard: low contrast, small or overlapping shapes, noise, clutter. So a model's errors
come from the picture, and a probe can find something that the question's text does not reveal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 112  # pixels
GRID = 4  # cells a side of the grid in captions: cell 0 is top left, 15 bottom right
SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (225, 30, 40),
    "green": (30, 170, 60),
    "blue": (40, 80, 230),
    "yellow": (240, 220, 30),
    "purple": (150, 50, 190),
    "orange": (245, 135, 20),
}
MAX_THINGS = 5
HARDEST = 1.5  # largest difficulty in a data set
MILD = 1.0  # largest difficulty in training: a data set also holds harder pictures than any that the model has seen
_OVERSAMPLING = 3


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One coloured shape; `x`, `y` (centre) and `radius` in pixels, `contrast` in (0, 1]."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    contrast: float
    angle: float

    @property
    def cell(self) -> int:
        """Index of the grid's cell with the centre."""
        return int(self.y * GRID / SIDE) * GRID + int(self.x * GRID / SIDE)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Content of the picture of one seed; `difficulty` (0 to 1.5) controls contrast, size, overlap, noise, clutter."""

    seed: int
    difficulty: float
    background: int
    things: tuple[Thing, ...]


def make_scene(seed: int, hardest: float = HARDEST) -> Scene:
    """Make the scene of this seed: 1 to 5 things, each in its own cell, of a difficulty in [0, hardest]."""
    rng = np.random.default_rng([seed, 0])
    difficulty = hardest * float(rng.uniform())
    background = int(rng.integers(25, 230))
    cells = rng.permutation(GRID * GRID)[: int(rng.integers(1, MAX_THINGS + 1))]
    things: list[Thing] = []
    for cell in cells:
        hardness = float(np.clip(difficulty + rng.normal(0, 0.15), 0, hardest))
        radius = 13.5 - 6.5 * hardness + float(rng.uniform(-0.5, 0.5))
        wander = 1.5 + 6.0 * hardness  # pixels off the cell's centre: hard things overlap and straddle cells
        row, column = divmod(int(cell), GRID)
        x, y = (
            float(np.clip((place + 0.5) * SIDE / GRID + rng.uniform(-wander, wander), radius, SIDE - radius))
            for place in (column, row)
        )
        things.append(
            Thing(
                shape=str(rng.choice(SHAPES)),
                colour=str(rng.choice(list(COLOURS))),
                x=x,
                y=y,
                radius=radius,
                contrast=float(np.clip(1.05 - 0.8 * hardness + rng.normal(0, 0.05), 0.18, 1)),
                angle=float(rng.uniform(-0.25, 0.25)),
            )
        )
    return Scene(seed=seed, difficulty=difficulty, background=background, things=tuple(things))


def render(scene: Scene) -> Image.Image:
    """Render the scene as an RGB picture of 112 × 112 pixels; the same bytes for the same scene."""
    rng = np.random.default_rng([scene.seed, 1])
    side = SIDE * _OVERSAMPLING
    canvas = Image.new("RGB", (side, side), (scene.background,) * 3)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 1 + int(14 * scene.difficulty)))):
        ends = [float(v) for v in rng.uniform(0, side, size=4)]
        shade = int(np.clip(scene.background + rng.normal(0, 35), 0, 255))
        draw.line(ends, fill=(shade,) * 3, width=_OVERSAMPLING)
    for thing in scene.things:
        pure = np.array(COLOURS[thing.colour], dtype=float)
        mixed = thing.contrast * pure + (1 - thing.contrast) * scene.background
        fill = (int(mixed[0]), int(mixed[1]), int(mixed[2]))
        _draw_thing(draw, thing, fill)
    canvas = canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
    if scene.difficulty > 0.6:
        canvas = canvas.filter(ImageFilter.GaussianBlur(1.5 * (scene.difficulty - 0.6)))
    noise = rng.normal(0, 2 + 16 * scene.difficulty, size=(SIDE, SIDE, 1))
    pixels = np.asarray(canvas, dtype=np.float32) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def caption(scene: Scene) -> str:
    """Describe every thing with its cell, in reading order: `3 red circle 5 blue square`."""
    ordered = sorted(scene.things, key=lambda t: (t.cell, t.x, t.y))
    return " ".join(f"{t.cell} {t.colour} {t.shape}" for t in ordered)


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, fill: tuple[int, int, int]) -> None:
    cx, cy, r = thing.x * _OVERSAMPLING, thing.y * _OVERSAMPLING, thing.radius * _OVERSAMPLING
    if thing.shape == "circle":
        r *= 0.9
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=fill)
        return
    points = [
        (cx + r * radius * math.sin(thing.angle + turn), cy - r * radius * math.cos(thing.angle + turn))
        for turn, radius in _OUTLINES[thing.shape]
    ]
    draw.polygon(points, fill=fill)


def _cross() -> list[tuple[float, float]]:
    arm, width = 1.0, 0.36
    quarter = [(-width, arm), (width, arm), (width, width)]
    corners = []
    for turn in range(4):
        for x, y in quarter:
            for _ in range(turn):
                x, y = y, -x
            corners.append((x, y))
    return [(math.atan2(x, y), math.hypot(x, y)) for x, y in corners]


# Outlines as (angle clockwise from the top, distance from the centre in radii).
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(math.pi / 4 + k * math.pi / 2, 1.12) for k in range(4)],
    "triangle": [(k * 2 * math.pi / 3, 1.15) for k in range(3)],
    "star": [(k * math.pi / 5, 1.15 if k % 2 == 0 else 0.46) for k in range(10)],
    "cross": _cross(),
}
