"""The vision tower, once an image: what the decoder reads of it, and the means that are stored.

Legend: I images of a batch, D decoder width, V vision width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from halp_probe.extraction.capture import capture_input
from halp_probe.extraction.prompting import Prompt
from halp_probe.models.compat import select_images
from halp_probe.models.loading import LoadedModel


@dataclass(frozen=True)
class Seen:
    """What the vision tower made of I images."""

    inputs: dict[str, torch.Tensor]  # what `get_image_features` was given
    features: Any  # and what it returned
    tokens: list[int]  # image tokens of each image
    only: torch.Tensor  # [I, D] float32, means over an image's tokens after the projector
    encoder: torch.Tensor  # [I, V] float32, means over its patches before the projector

    def features_of(self, images: Sequence[int]) -> Any:
        """The features for one prompt after the other, prompt k on image `images[k]`."""
        if list(images) == list(range(len(self.tokens))):
            return self.features
        return select_images(self.features, self.tokens, images)


def see(loaded: LoadedModel, prompts: Sequence[Prompt]) -> Seen:
    """Run the vision tower once over the images of these prompts."""
    model, family = loaded.model, loaded.checkpoint.family
    projector = family.projector
    inputs = {name: torch.cat([prompt.images[name] for prompt in prompts]) for name in family.image_inputs}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    inputs = {name: tensor.to(loaded.device) for name, tensor in inputs.items()}
    with capture_input(model.get_submodule(projector)) as projector_inputs:
        features = model.get_image_features(**inputs, return_dict=True)
    after = list(features.pooler_output)  # [image tokens, D] an image
    if len(projector_inputs) != 1:
        raise RuntimeError(f"{projector} ran {len(projector_inputs)} times for one batch, expected once")
    if len(after) != len(prompts):
        raise RuntimeError(f"{len(prompts)} images became {len(after)} by the vision tower: one image a prompt is read")
    before = projector_inputs[0].flatten(0, -2)  # [patches of all images, V]
    tokens = [len(image) for image in after]
    merged = len(before) // sum(tokens)  # patches that become one image token
    patches = before.split([merged * count for count in tokens])
    return Seen(
        inputs=inputs,
        features=features,
        tokens=tokens,
        only=torch.stack([image.float().mean(0) for image in after]),
        encoder=torch.stack([patch.float().mean(0) for patch in patches]),
    )
