"""Heatmap of AUROC by layer and position, as a PNG. Lengths are in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from halp_probe.plotting.figures import new_figure, png
from halp_probe.report.colours import CHANCE, COLOURS, SCALE, fill

_LAYERED = ("vision_token", "image_mean", "question_end", "query_token")
_SINGLE = ("vision_only", "vision_encoder")
_INK, _QUIET, _FAINT = "#000000", "#767676", "#d8d8d8"
_HEIGHT, _LABELS, _MARGIN, _BAR = 0.8, 1.2, 0.3, 0.16  # of a cell; of the row labels; around all; of the colour bar


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Cell of one probe: its position, layer (None for the two vision means), AUROC and 95 % interval.

    Nan where unknown. The interval should hold together with those of the other cells, since cells are compared.
    """

    position: str
    layer: int | None
    auroc: float
    low: float
    high: float

    @property
    def is_unclear(self) -> bool:
        """True where the interval holds chance."""
        return bool(self.low <= CHANCE <= self.high)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Places of all cells, from the top left corner; y grows downwards."""

    singles: tuple[str, ...]
    rows: tuple[str, ...]
    layers: tuple[int, ...]

    @property
    def cell_width(self) -> float:
        return 0.95 if len(self.layers) <= 12 else 0.72

    @property
    def grid_left(self) -> float:
        """Left edge of the layers."""
        singles = _LABELS + self.cell_width if self.singles else 0.0
        return _MARGIN + singles + (_LABELS if self.rows else 0.0)

    @property
    def top(self) -> float:
        return _MARGIN + 0.75

    @property
    def bottom(self) -> float:
        return self.top + _HEIGHT * max(len(self.rows), len(self.singles))

    @property
    def right(self) -> float:
        return self.grid_left + self.cell_width * len(self.layers)

    @property
    def size(self) -> tuple[float, float]:
        return max(self.right + 0.3 + _BAR + 0.6 + _MARGIN, 7.2), self.bottom + 0.6 + _MARGIN

    def corner(self, cell: Cell) -> tuple[float, float]:
        """Return the cell's top left corner."""
        if cell.layer is None:
            return _MARGIN + _LABELS, self.top + _HEIGHT * self.singles.index(cell.position)
        column, row = self.layers.index(cell.layer), self.rows.index(cell.position)
        return self.grid_left + self.cell_width * column, self.top + _HEIGHT * row


def heatmap_png(cells: Sequence[Cell], title: str, subtitle: str, best: Cell | None = None) -> bytes:
    """Draw layers from left to right by position, the two vision means to their left.

    White is chance, a cell whose interval holds it is hatched, and `best` is framed.
    """
    layout = _Layout(
        singles=tuple(p for p in _SINGLE if any(cell.position == p for cell in cells)),
        rows=tuple(p for p in _LAYERED if any(cell.position == p for cell in cells)),
        layers=tuple(sorted({cell.layer for cell in cells if cell.layer is not None})),
    )
    width, height = layout.size
    with new_figure(width, height, "white") as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        if any(cell.is_unclear for cell in cells):
            subtitle = f"{subtitle}; hatched: not shown to differ from {CHANCE:g}"
        for cell in sorted(cells, key=lambda cell: cell == best):  # the frame goes over its neighbours
            _draw(axes, cell, layout, framed=cell == best)
        _draw_labels(axes, layout, title, subtitle)
        _draw_colour_bar(figure, layout)
        return png(figure)


def _draw(axes: Axes, cell: Cell, layout: _Layout, *, framed: bool) -> None:
    left, top = layout.corner(cell)
    known = bool(np.isfinite(cell.auroc))
    box = Rectangle((left, top), layout.cell_width, _HEIGHT, facecolor=fill(cell.auroc))
    box.set(edgecolor=_INK if framed else "white", linewidth=2.2 if framed else 1.5)
    axes.add_patch(box)
    if cell.is_unclear:
        hatched = Rectangle((left, top), layout.cell_width, _HEIGHT, facecolor="none", edgecolor=_FAINT, linewidth=0)
        axes.add_patch(hatched)
        hatched.set_hatch("////")
    middle = left + layout.cell_width / 2
    known_interval = known and np.isfinite(cell.low)
    y = top + _HEIGHT * (0.42 if known_interval else 0.5)
    text = f"{cell.auroc:.3f}" if known else "nan"
    axes.text(middle, y, text, ha="center", va="center", fontsize=11, weight="bold" if framed else "normal", color=_INK)
    if known_interval:
        interval = f"{cell.low:.2f}–{cell.high:.2f}"
        axes.text(middle, top + _HEIGHT * 0.72, interval, ha="center", va="center", fontsize=7.5, color=_INK)


def _draw_labels(axes: Axes, layout: _Layout, title: str, subtitle: str) -> None:
    head = axes.text(_MARGIN, _MARGIN + 0.05, title, fontsize=11, weight="bold", color=_INK, va="center")
    below = axes.text(_MARGIN, _MARGIN + 0.29, subtitle, fontsize=9, color=_QUIET, va="center")
    for text in (head, below):
        text.set_parse_math(False)  # a dollar in a model's name is a dollar
    for names, right in ((layout.singles, _MARGIN + _LABELS), (layout.rows, layout.grid_left)):
        for row, name in enumerate(names):
            y = layout.top + _HEIGHT * (row + 0.5)
            axes.text(right - 0.12, y, name.replace("_", " "), ha="right", va="center", fontsize=9.5, color=_INK)
    for column, layer in enumerate(layout.layers):
        x = layout.grid_left + layout.cell_width * (column + 0.5)
        axes.text(x, layout.bottom + 0.16, str(layer), ha="center", va="center", fontsize=9.5, color=_INK)
    if layout.layers:
        middle = (layout.grid_left + layout.right) / 2
        axes.text(middle, layout.bottom + 0.42, "decoder layer", ha="center", va="center", fontsize=9, color=_QUIET)


def _draw_colour_bar(figure: Figure, layout: _Layout) -> None:
    width, height = layout.size
    place = (layout.right + 0.3, height - layout.bottom, _BAR, layout.bottom - layout.top)
    axes = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), cax=axes)
    bar.ax.set_ylim(0, 1)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, color=_QUIET, labelcolor=_QUIET)
    bar.ax.set_title("AUROC", fontsize=8, color=_QUIET, pad=5)
