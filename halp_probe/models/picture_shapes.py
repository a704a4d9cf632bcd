"""Refuse pictures so narrow that a stock image processor would fill the memory with them."""

from __future__ import annotations

from typing import Any

from halp_probe.errors import InputError

_NARROWEST = 50  # ratio of longest to shortest side


def check_picture_shape(image_processor: Any, width: int, height: int) -> None:
    """Raise InputError, with the remedy, for a picture whose shape the processor cannot take.

    A letterboxing processor (Donut's) first enlarges the shortest side to its square's and then shrinks the result: for
    a picture of 20000 × 10 that takes gigabytes, and almost nothing of it is left in the end.
    """
    if not getattr(image_processor, "do_thumbnail", False):
        return
    most = min(_NARROWEST, image_processor.size["height"], image_processor.size["width"])
    if max(width, height) > most * min(width, height):
        raise InputError(
            f"an image of {width}×{height} is too narrow for this model, which takes sides that differ by at most "
            f"{most} times; crop it, or leave it out"
        )
