"""Pictures so narrow that a stock image processor would fail on them, or fill the memory, are refused before it."""

from __future__ import annotations

from typing import Any

from transformers.image_processing_utils import select_best_resolution

from halp_probe.errors import InputError

_NARROWEST = 50  # longest by shortest side


def check_picture_shape(image_processor: Any, width: int, height: int) -> None:
    """Raise InputError, with the remedy, for a picture of so many pixels that the processor cannot take.

    One that letterboxes (Donut's) first brings the shortest side to its square's and then shrinks the result: of a
    picture of 20000 × 10 that is gigabytes, and nothing of it is left in the end. One that cuts tiles finds no canvas
    on which the picture is a pixel wide.
    """
    if getattr(image_processor, "do_thumbnail", False):
        side = min(image_processor.size["height"], image_processor.size["width"])
        most = min(_NARROWEST, side)
        fits = max(width, height) <= most * min(width, height)
        why = f"its sides differ by more than {most} times"
    else:
        canvases = getattr(image_processor, "image_grid_pinpoints", None)
        fits = not canvases or select_best_resolution((height, width), canvases) is not None
        why = "it is less than a pixel wide on each of the canvases that are cut into tiles"
    if not fits:
        raise InputError(f"an image of {width}×{height} is too narrow for this model: {why}; crop it, or leave it out")
