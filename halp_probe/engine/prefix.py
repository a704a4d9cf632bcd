"""Find what prompts on the same images share: which rows of a batch, and how many leading tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from halp_probe.engine.positions import TokenPositions
from halp_probe.engine.prompting import Prompt


class PrefixError(ValueError):
    """Prompts on one image without a shared prefix that contains it."""


@dataclass(frozen=True)
class ImageGroups:
    """Prompts of a batch by image (by file content); images in the order of their first appearance."""

    rows: list[list[int]]  # of each image

    @property
    def image_of(self) -> list[int]:
        """Index of each prompt's image."""
        image_of = {row: image for image, rows in enumerate(self.rows) for row in rows}
        return [image_of[row] for row in range(len(image_of))]

    @property
    def first_rows(self) -> list[int]:
        """First prompt of each image."""
        return [rows[0] for rows in self.rows]


def group_by_image(prompts: Sequence[Prompt]) -> ImageGroups:
    """Group prompts by image. Raises ValueError if prompts with one digest have different pixels."""
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        group = rows.setdefault(prompt.image_sha256, [])
        group.append(row)
        if not _same_tensors(prompt.images, prompts[group[0]].images):
            raise ValueError(f"two images of one batch have the sha256 {prompt.image_sha256!r} and different pixels")
    return ImageGroups(list(rows.values()))


def _same_tensors(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a is b or all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def shared_tokens(prompts: Sequence[Prompt]) -> int:
    """Count the leading tokens that prompts on one image share: the image is among them, what is read behind it is not.

    Raises PrefixError if they do not share the image, as with a template that puts the question before it.
    """
    image_end = max(prompt.image_end for prompt in prompts)
    if len(prompts) == 1:
        return image_end
    read = min(_first_read(prompt.positions) for prompt in prompts)
    shared = min(common_prefix([prompt.input_ids for prompt in prompts]), read)
    if shared < image_end:
        raise PrefixError(
            f"prompts on one image share {shared} tokens, but the image ends after {image_end} (question "
            f"{prompts[0].sample.question_id!r})"
        )
    return shared


def _first_read(positions: TokenPositions) -> int:
    """Return the first position that is read behind the images: the question's end, if it is read."""
    return positions.query_index if positions.question_end_index < 0 else positions.question_end_index


def common_prefix(sequences: Sequence[np.ndarray]) -> int:
    """Count the leading elements that all of the one-dimensional sequences share."""
    shortest = min(len(sequence) for sequence in sequences)
    rows = np.stack([sequence[:shortest] for sequence in sequences])
    differs = (rows != rows[0]).any(0)
    return int(differs.argmax()) if differs.any() else shortest
