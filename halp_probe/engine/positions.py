"""Which tokens are read: always from the prompt's own input ids, never estimated. Pure.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halp_probe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TokenPositions:
    """Indices into the unpadded prompt, and the ids that stand there."""

    vision_index: int  # the last image token: the image boundary; -1 in a prompt of text alone
    vision_id: int  # -1 as well
    query_index: int  # the last prompt token, whose logits give the first answer token
    query_id: int


def find_positions(input_ids: Sequence[int], image_token_id: int) -> TokenPositions:
    """Where the vision token and the query token stand in a prompt of T ids.

    Raises ValueError when there is no image token, or when nothing follows the image (then the image boundary would be
    the query token, and the prompt holds no question).
    """
    vision = max((index for index, token in enumerate(input_ids) if token == image_token_id), default=None)
    if vision is None:
        raise ValueError(f"the prompt of {len(input_ids)} tokens holds no image token (id {image_token_id})")
    query = len(input_ids) - 1
    if query == vision:
        raise ValueError(f"the prompt ends with its image (token {vision}): no question follows")
    return TokenPositions(
        vision_index=vision, vision_id=int(input_ids[vision]), query_index=query, query_id=int(input_ids[query])
    )


def text_positions(input_ids: Sequence[int], image_token_id: int) -> TokenPositions:
    """Where the query token stands in a prompt of T ids without an image. Raises ValueError for an image token."""
    if image_token_id in input_ids:
        raise ValueError(
            f"the chat template writes an image token (id {image_token_id}) into a prompt that shows no image"
        )
    query = len(input_ids) - 1
    return TokenPositions(vision_index=-1, vision_id=-1, query_index=query, query_id=int(input_ids[query]))


def probed_layers(num_layers: int) -> tuple[int, ...]:
    """The five probed layers of HALP (arXiv 2603.05465) for n blocks: sorted unique of 0, n//4, n//2, 3n//4, n-1."""
    n = num_layers
    return tuple(sorted({0, n // 4, n // 2, 3 * n // 4, n - 1}))


def parse_layers(layers: str | Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Return the layers to read: the five for None, all for 'all', else those of a list or of a text such as '0,7,14'.

    Raises InputError for what is not a layer of this model.
    """
    if layers is None:
        return probed_layers(num_layers)
    if isinstance(layers, str) and layers.strip() == "all":
        return tuple(range(num_layers))
    try:
        wanted = {int(part) for part in (layers.replace(",", " ").split() if isinstance(layers, str) else layers)}
    except ValueError:
        raise InputError(f"`layers` {layers!r}: pass numbers such as 0,7,14 or 'all'") from None
    unknown = sorted(layer for layer in wanted if not 0 <= layer < num_layers)
    if unknown or not wanted:
        raise InputError(f"`layers` {layers!r}: this model has layers 0 to {num_layers - 1}")
    return tuple(sorted(wanted))
