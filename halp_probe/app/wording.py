"""Wording of risks and of the places that probes read."""

from __future__ import annotations

import datetime
import html

from halp_probe.records import IMAGE_MEAN, QUERY_TOKEN, QUESTION_END, VISION_ENCODER, VISION_ONLY, VISION_TOKEN
from halp_probe.shards.names import layer_of

_SPACE = "\N{NARROW NO-BREAK SPACE}"
PLACES = {
    QUERY_TOKEN: "end of the question",
    QUESTION_END: "last word of the question",
    IMAGE_MEAN: "mean over the image",
    VISION_TOKEN: "end of the image",
    VISION_ONLY: "the image as the language model gets it",
    VISION_ENCODER: "the image as the vision encoder sees it",
}


def percent(share: float, beside: float | None = None) -> str:
    """Format a share of 1 in whole percent, 0 and 100 only if exact; with a decimal where `beside` would look the same.

    A risk of 35.4 % beside a threshold of 35.2 % must not look equal to it.
    """
    decimals = int(beside is not None and share != beside and f"{share:.0%}" == f"{beside:.0%}")
    least = 10.0 ** -(decimals + 2)
    if 0 < share < least / 2:
        return f"under {least * 100:g}{_SPACE}%"
    if 1 - least / 2 < share < 1:
        return f"over {100 - least * 100:g}{_SPACE}%"
    return f"{100 * share:.{decimals}f}{_SPACE}%"


def place(representation: str) -> str:
    """Return what a probe reads, such as `layer 5, end of the question`; the name of a fused probe in words."""
    layer = layer_of(representation)
    where = PLACES.get(representation.split("/")[0], representation.replace("_", " "))
    return where if layer is None else f"layer {layer}, {where}"


def minute(time: str) -> str:
    """Format a time in ISO 8601 to the minute, with its zone; return any other text as it is."""
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError:
        return time
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()


def plain(text: str) -> str:
    """Escape any text for HTML, so that markup in a model's or a file's text is shown, not interpreted."""
    return html.escape(text, quote=True)
