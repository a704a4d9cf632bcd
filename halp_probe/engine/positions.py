"""Positions of the tokens that are read: always found in the prompt's own input ids, never estimated. Pure.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halp_probe.errors import InputError
from halp_probe.records import POSITIONS


@dataclass(frozen=True, kw_only=True)
class TokenPositions:
    """Indices into the unpadded prompt, and the token ids there."""

    vision_index: int  # the last image token: the image boundary; -1 in a prompt of text alone
    vision_id: int  # -1 likewise
    query_index: int  # the last prompt token, whose logits give the first answer token
    query_id: int
    question_end_index: int = -1  # the last token of the question's own text; -1 unless it is a position to read
    question_end_id: int = -1  # -1 likewise


def find_positions(input_ids: Sequence[int], image_token_id: int) -> TokenPositions:
    """Find the vision token and the query token in a prompt of T ids.

    Raises ValueError if there is no image token, or if nothing follows the image (then the image boundary would be the
    query token, and the prompt holds no question).
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
    """Find the query token in a prompt of T ids without an image. Raises ValueError for an image token."""
    if image_token_id in input_ids:
        raise ValueError(
            f"the chat template writes an image token (id {image_token_id}) into a prompt that shows no image"
        )
    query = len(input_ids) - 1
    return TokenPositions(vision_index=-1, vision_id=-1, query_index=query, query_id=int(input_ids[query]))


def probed_layers(num_layers: int) -> tuple[int, ...]:
    """Return the five layers of HALP (arXiv 2603.05465) for n blocks: sorted unique of 0, n//4, n//2, 3n//4, n-1."""
    n = num_layers
    return tuple(sorted({0, n // 4, n // 2, 3 * n // 4, n - 1}))


def parse_layers(layers: str | Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Return the layers to read: the five for None, all for 'all', else those of a list or of a text such as '0,7,14'.

    Raises InputError for a layer that this model does not have.
    """
    if layers is None:
        return probed_layers(num_layers)
    if isinstance(layers, str) and layers.strip() == "all":
        return tuple(range(num_layers))
    try:
        chosen = {int(part) for part in (layers.replace(",", " ").split() if isinstance(layers, str) else layers)}
    except ValueError:
        raise InputError(f"`layers` {layers!r}: pass numbers such as 0,7,14 or 'all'") from None
    unknown = sorted(layer for layer in chosen if not 0 <= layer < num_layers)
    if unknown or not chosen:
        raise InputError(f"`layers` {layers!r}: this model has layers 0 to {num_layers - 1}")
    return tuple(sorted(chosen))


def parse_positions(positions: str | Sequence[str]) -> tuple[str, ...]:
    """Return the positions of a list, or of a text such as 'query,image-mean', in the order of `POSITIONS`.

    Raises InputError for one that is not known, and for none.
    """
    named = positions.replace(",", " ").split() if isinstance(positions, str) else list(positions)
    known = ", ".join(POSITIONS)
    if later := [name for name in named if name.startswith("first:")]:
        raise InputError(
            f"`positions` {later[0]!r}: states of the answer's tokens are not read; choose among {known}, all of which "
            "are known before the answer"
        )
    if unknown := [name for name in named if name not in POSITIONS]:
        raise InputError(f"`positions` {unknown[0]!r}: choose among {known}")
    if not named:
        raise InputError(f"`positions` is empty: choose among {known}")
    return tuple(name for name in POSITIONS if name in named)
