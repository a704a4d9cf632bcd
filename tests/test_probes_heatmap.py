"""The heatmap draws every cell, whatever is missing, and leaves matplotlib's global state alone."""

from __future__ import annotations

import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from halp_probe.report.colours import UNKNOWN, fill
from halp_probe.report.heatmap import Cell, heatmap_png

NAN = float("nan")


def cell(position: str, layer: int | None, auroc: float) -> Cell:
    return Cell(position=position, layer=layer, auroc=auroc, low=auroc - 0.02, high=auroc + 0.02)


def pixels(cells: list[Cell], best: Cell | None = None, title: str = "t") -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(heatmap_png(cells, title, "s", best)), format="png")


def contrast_with_black(colour: str) -> float:
    """WCAG 2's contrast ratio, from its definition."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return (float(np.dot(linear, [0.2126, 0.7152, 0.0722])) + 0.05) / 0.05


@pytest.mark.parametrize("layers", [(), (0,), tuple(range(30))])
@pytest.mark.parametrize("single", [(), ("vision_only",), ("vision_only", "vision_encoder")])
def test_any_selection_is_drawn(layers, single):
    cells = [cell(p, None, 0.6) for p in single] + [cell("query_token", layer, 0.7) for layer in layers]
    assert (pixels(cells)[..., :3] < 0.99).any()


def test_a_better_cell_is_bluer_and_an_unknown_one_is_grey():
    low, high, worse, unknown = (pixels([cell("vision_only", None, a)] * 1) for a in (0.52, 0.6, 0.4, NAN))
    y, x = 190, 240  # inside the cell, beside its text
    assert high[y, x, 0] < low[y, x, 0] < 1
    assert worse[y, x, 2] < worse[y, x, 0]
    assert np.ptp(unknown[y, x, :3]) == 0


def test_a_cells_colour_does_not_depend_on_the_others():
    alone = pixels([cell("vision_only", None, 0.6)])
    beside = pixels([cell("vision_only", None, 0.6), cell("vision_encoder", None, 0.99)])
    np.testing.assert_array_equal(alone[190, 240], beside[190, 240])


def test_colours_are_pale_at_chance_and_black_is_readable_on_all():
    assert min(to_rgb(fill(0.5))) > 0.95
    assert min(to_rgb(fill(0.53))) > 0.9  # noise
    assert all(contrast_with_black(fill(auroc)) > 4.5 for auroc in np.linspace(0, 1, 101))
    assert fill(None) == fill(NAN) == UNKNOWN


@pytest.mark.parametrize("title", ["a $ b $ c", r"$\frac$", "$x^{", "cost: $5", r"\$"])
def test_a_dollar_is_no_mathematics(title):
    drawn = pixels([cell("vision_only", None, 0.6)], title=title)
    assert (drawn != pixels([cell("vision_only", None, 0.6)], title=title.replace("$", ""))).any()


def test_the_best_is_framed_and_nothing_global_changes():
    backend, parameters = matplotlib.rcParams["backend"], dict(matplotlib.rcParams)
    cells = [cell("query_token", 0, 0.6), cell("query_token", 1, 0.7)]
    assert (pixels(cells) != pixels(cells, best=cells[1])).any()
    assert matplotlib.rcParams["backend"] == backend
    assert dict(matplotlib.rcParams) == parameters
