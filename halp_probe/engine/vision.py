"""Run the vision tower once for each image: the features that the decoder reads, and the means that are stored.

Legend: I images of a batch (or sets of images, where prompts show several), D decoder width, V vision width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from halp_probe.engine.capture import capture_input, capture_output
from halp_probe.engine.prompting import Prompt
from halp_probe.errors import InputError
from halp_probe.models.cpu_memory import report_no_memory
from halp_probe.models.errors import one_line
from halp_probe.models.image_entry import image_tokens, join_features, split_by_prompt
from halp_probe.models.loading import LoadedModel


class VisionError(InputError):
    """An image (or a prompt's images) that the vision tower cannot process, by the sha256 of its content."""

    def __init__(self, image_sha256: str, reason: str) -> None:
        super().__init__(f"the model's vision tower fails on this image: {reason}; resize it, or leave it out")
        self.image_sha256 = image_sha256


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """Output of the vision tower for I images."""

    inputs: dict[str, torch.Tensor]  # inputs of one of its calls
    features: list[Any]  # what the decoder reads, for each image or set of images
    only: torch.Tensor  # [I, D] float32, means over all its tokens after the projector
    encoder: torch.Tensor  # [I, V] float32, means over all its patches before the projector

    def features_of(self, images: Sequence[int]) -> Any:
        """Return the joined features for consecutive prompts, prompt k on image `images[k]`."""
        return join_features([self.features[image] for image in images])


def see(loaded: LoadedModel, prompts: Sequence[Prompt]) -> ImageFeatures:
    """Run the vision tower once over the images of these prompts.

    Raises VisionError for an image that the tower fails on, if it processes one at a time, and for one whose number of
    features differs from the number of image tokens in its prompt.
    """
    family = loaded.checkpoint.family
    together = family.images_together and not any(name in prompts[0].images for name in family.optional_image_inputs)
    groups = [list(prompts)] if together else [[prompt] for prompt in prompts]
    features: list[Any] = []
    means: list[torch.Tensor] = []
    for group in groups:
        inputs = _inputs(loaded, group)
        try:
            with report_no_memory():
                output, patches = _run(loaded, inputs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:  # shapes that the tower does not support
            if len(group) > 1:
                raise
            raise VisionError(group[0].image_sha256, one_line(error)) from error
        counts = [prompt.image_tokens for prompt in group]
        features += split_by_prompt(output, [prompt.image_count for prompt in group], counts) if together else [output]
        merged = len(patches) // sum(counts) if together else 0  # patches that become one image token
        parts = patches.split([merged * count for count in counts]) if together else [patches]
        means += [part.float().mean(0) for part in parts]
    tokens = [image_tokens(image) for image in features]
    for prompt, image in zip(prompts, tokens, strict=True):
        if not family.cross_attention and len(image) != prompt.image_tokens:
            reason = f"it gives {len(image)} features for {prompt.image_tokens} image tokens"
            raise VisionError(prompt.image_sha256, reason)
    return ImageFeatures(
        inputs=inputs,
        features=features,
        only=torch.stack([image.float().mean(0) for image in tokens]).to(loaded.device),
        encoder=torch.stack(means).to(loaded.device),
    )


def _inputs(loaded: LoadedModel, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Return the images of these prompts as inputs of the tower: pixels in the model's dtype."""
    names = prompts[0].images
    inputs = {name: torch.cat([prompt.images[name] for prompt in prompts]).to(loaded.device) for name in names}
    dtype = loaded.model.dtype
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def _run(loaded: LoadedModel, inputs: Mapping[str, torch.Tensor]) -> tuple[Any, torch.Tensor]:
    """Return the features that the decoder reads, and the vision encoder's states: [patches, V]."""
    model, family = loaded.model, loaded.checkpoint.family
    module = family.projector if family.encoder is None else family.encoder
    capture = capture_input if family.encoder is None else capture_output
    with capture(model.get_submodule(module)) as read:
        output = family.features(model, inputs)
    if not read:
        raise RuntimeError(f"{module} did not run while the images were processed")
    return output, family.vision_states(loaded.checkpoint.config, read, inputs)
