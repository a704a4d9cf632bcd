"""The heatmap draws every cell, whatever is missing, and leaves matplotlib's global state alone."""

from __future__ import annotations

import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from halp_probe.report.heatmap import Cell, _scale, heatmap_png

NAN = float("nan")


def cell(position: str, layer: int | None, auroc: float) -> Cell:
    return Cell(position, layer, auroc, auroc - 0.02, auroc + 0.02)


def pixels(cells: list[Cell], best: Cell | None = None) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(heatmap_png(cells, "t", "s", best)), format="png")


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


def test_white_is_chance_and_noise_stays_pale():
    for values in ([0.5], [0.9, 0.2], [NAN]):
        assert _scale(values)(0.5) == pytest.approx(0.5)
    assert _scale([0.51])(0.51) < 0.6


def test_the_best_is_framed_and_nothing_global_changes():
    backend, parameters = matplotlib.rcParams["backend"], dict(matplotlib.rcParams)
    cells = [cell("query_token", 0, 0.6), cell("query_token", 1, 0.7)]
    assert (pixels(cells) != pixels(cells, best=cells[1])).any()
    assert matplotlib.rcParams["backend"] == backend
    assert dict(matplotlib.rcParams) == parameters
