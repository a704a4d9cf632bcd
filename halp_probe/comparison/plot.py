"""Picture of a comparison: relative L2, cosine and CKA by layer, a line for each position. Lengths are in inches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from halp_probe.bootstrap import Estimate
from halp_probe.comparison.compare import Comparison, Movement
from halp_probe.plotting.figures import new_figure, svg, svg_file
from halp_probe.plotting.titles import shorten
from halp_probe.records import IMAGE_MEAN, QUERY_TOKEN, QUESTION_END, VISION_ENCODER, VISION_ONLY, VISION_TOKEN

_SIZE = (11.0, 4.3)
_LINES = {  # colour-blind safe (Okabe & Ito)
    VISION_TOKEN: ("#0072b2", "o", "-"),
    IMAGE_MEAN: ("#56b4e9", "v", "-."),
    QUESTION_END: ("#cc79a7", "P", ":"),
    QUERY_TOKEN: ("#d55e00", "s", "--"),
}
_MEANS = {VISION_ENCODER: ("#009e73", "D", "encoder"), VISION_ONLY: ("#333333", "^", "projected")}
_QUIET = "#767676"


@dataclass(frozen=True, kw_only=True)
class _Panel:
    title: str
    of: Callable[[Movement], Estimate]
    still: float  # the value of what did not move


def _cka(movement: Movement) -> Estimate:
    return Estimate(value=movement.cka, low=np.nan, high=np.nan)


_PANELS = (
    _Panel(title="relative L2: |B − A| / |A|", of=lambda movement: movement.relative_l2, still=0),
    _Panel(title="cosine of A and B", of=lambda movement: movement.cosine, still=1),
    _Panel(title="linear CKA of A and B", of=_cka, still=1),
)


def comparison_svg(comparison: Comparison, name_a: str, name_b: str) -> bytes:
    """Draw layers from left to right after the two vision means; bars are 95 % intervals.

    The same input gives the same bytes.
    """
    places = _Places.of(comparison.movements)
    names = [f"{side}: {shorten(name, 120)}" for side, name in (("A", name_a), ("B", name_b))]
    counts = f"{comparison.rows} questions on {comparison.images} images"
    with new_figure(*_SIZE, "white") as figure:
        all_axes = figure.subplots(1, len(_PANELS))
        for axes, panel in zip(all_axes, _PANELS, strict=True):
            _draw(axes, panel, comparison.movements, places)
        title = figure.suptitle("\n".join([*names, counts]), fontsize=9)
        title.set_parse_math(False)  # a dollar in a model's name is a dollar
        handles, labels = all_axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)
        figure.tight_layout(rect=(0, 0.07, 1, 1))
        panels = "; ".join(panel.title for panel in _PANELS)
        return svg_file(svg(figure, f"{panels}, by decoder layer. {'; '.join([*names, counts])}"))


@dataclass(frozen=True)
class _Places:
    """Places of the representations from left to right: the vision means, then the layers in proportion."""

    layers: tuple[int, ...]
    means: tuple[str, ...]

    @staticmethod
    def of(movements: Sequence[Movement]) -> _Places:
        layers = tuple(sorted({m.layer for m in movements if m.layer is not None}))
        return _Places(layers, tuple(name for name in _MEANS if any(m.representation == name for m in movements)))

    @property
    def step(self) -> float:
        """Width of a vision mean, in layers."""
        return max(1.0, (self.layers[-1] - self.layers[0]) / 6) if self.layers else 1.0

    def of_mean(self, name: str) -> float:
        first = self.layers[0] if self.layers else 0
        return first - self.step * (len(self.means) - self.means.index(name))

    def ticks(self) -> list[tuple[float, str]]:
        means = [(self.of_mean(name), _MEANS[name][2]) for name in self.means]
        sparse = self.layers[:: max(1, len(self.layers) // 10 + (len(self.layers) > 10))]
        return [*means, *((float(layer), str(layer)) for layer in sparse)]


def _draw(axes: Axes, panel: _Panel, movements: Sequence[Movement], places: _Places) -> None:
    axes.axhline(panel.still, color=_QUIET, linewidth=0.8, linestyle=":")
    for position, (colour, marker, line) in _LINES.items():
        own = [m for m in movements if m.position == position]
        xs = [float(m.layer) for m in own if m.layer is not None]
        if own:
            label = position.removesuffix("_representation").replace("_", " ")
            _points(axes, xs, [panel.of(m) for m in own], label=label, color=colour, marker=marker, linestyle=line)
    for m in movements:
        if m.position in _MEANS:
            colour, marker, _ = _MEANS[m.position]
            label = m.position.removesuffix("_representation").replace("_", " ") + " mean"
            place = [places.of_mean(m.position)]
            _points(axes, place, [panel.of(m)], label=label, color=colour, marker=marker, linestyle="none")
    if not any(np.isfinite(panel.of(m).value) for m in movements):
        axes.text(0.5, 0.5, "not defined", transform=axes.transAxes, ha="center", va="center", color=_QUIET)
    _dress(axes, panel, places)


def _points(axes: Axes, xs: Sequence[float], estimates: Sequence[Estimate], **style: Any) -> None:
    ys = np.array([e.value for e in estimates])
    reach = np.array([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]])  # [2, points]
    reach = np.clip(np.nan_to_num(reach), 0, None)  # no bar where there is no interval
    axes.errorbar(xs, ys, yerr=reach, markersize=4.5, linewidth=1.4, elinewidth=1, **style)


def _dress(axes: Axes, panel: _Panel, places: _Places) -> None:
    axes.set_title(panel.title, fontsize=10)
    ticks = places.ticks()
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks], fontsize=8)
    for (_, text), label in zip(ticks, axes.get_xticklabels(), strict=True):
        label.set_rotation(0 if text.isdigit() else 45)
    axes.set_xlabel("decoder layer", fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)
