"""From a sample and its image to the model's inputs, through the model's own processor and chat template.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from halp_probe.errors import InputError
from halp_probe.extraction.images import LoadedImage
from halp_probe.extraction.positions import TokenPositions, find_positions
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Sample

PROMPT = "image, then question, in one user turn; the model's chat template with generation prompt"


class PromptError(InputError):
    """A sample that cannot be made into a prompt, and why."""


@dataclass(frozen=True)
class Prompt:
    """One sample, ready for a batch; all tensors on the CPU."""

    sample: Sample
    image_sha256: str
    input_ids: torch.Tensor  # [T] int64
    token_types: torch.Tensor | None  # [T] int64, 1 at image tokens; None where the family has none
    images: dict[str, torch.Tensor]  # pixel_values, image_grid_thw, …
    positions: TokenPositions

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Prompter:
    """Makes prompts for one model. `min_pixels` and `max_pixels` bound an image's area; None = the processor's own."""

    loaded: LoadedModel
    min_pixels: int | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if not self.loaded.family.qwen_vl_utils and (self.min_pixels or self.max_pixels):
            raise PromptError(
                f"--min-pixels/--max-pixels: {self.loaded.model_type} has one fixed image size; leave them out"
            )
        low, high = self.pixel_bounds() or (0, 0)
        if low > high:
            raise PromptError(f"--min-pixels {low} is larger than --max-pixels {high}")

    def pixel_bounds(self) -> tuple[int, int] | None:
        """The area in pixels between which images are resized; None for a fixed image size."""
        if not self.loaded.family.qwen_vl_utils:
            return None
        size = self.loaded.processor.image_processor.size
        return self.min_pixels or int(size["shortest_edge"]), self.max_pixels or int(size["longest_edge"])

    def prompt(self, sample: Sample, image: LoadedImage) -> Prompt:
        """The sample's whole prompt.

        Raises PromptError when the question holds one of the model's special tokens, the image's shape is refused, or
        the prompt is longer than the model's context.
        """
        processor = self.loaded.processor
        self._refuse_special_tokens(sample.question)
        content = [{"type": "image", "image": image.pixels}, {"type": "text", "text": sample.question}]
        messages = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        try:
            pixels, resizing = self._sized(image.pixels)
            inputs = processor(text=[text], images=[pixels], return_tensors="pt", **resizing)
            positions = find_positions(inputs["input_ids"][0].tolist(), self.loaded.image_token_id)
        except ValueError as error:
            raise PromptError(str(error)) from error
        limit = getattr(self.loaded.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and positions.query_index >= limit:
            raise PromptError(
                f"the prompt has {positions.query_index + 1} tokens, the model takes {limit}; lower --max-pixels"
            )
        token_types = inputs.get("mm_token_type_ids")
        return Prompt(
            sample=sample,
            image_sha256=image.sha256,
            input_ids=inputs["input_ids"][0],
            token_types=None if token_types is None else token_types[0],
            images={name: inputs[name] for name in self.loaded.family.image_inputs},
            positions=positions,
        )

    def _sized(self, pixels: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
        """The image as the processor shall take it: for Qwen resized by qwen-vl-utils, and then not again."""
        bounds = self.pixel_bounds()
        if bounds is None:
            return pixels, {}
        from qwen_vl_utils import process_vision_info

        element = {"type": "image", "image": pixels, "min_pixels": bounds[0], "max_pixels": bounds[1]}
        patch_size = self.loaded.processor.image_processor.patch_size
        images, _ = process_vision_info([{"role": "user", "content": [element]}], image_patch_size=patch_size)
        return images[0], {"do_resize": False}

    def _refuse_special_tokens(self, question: str) -> None:
        tokenizer = self.loaded.processor.tokenizer
        image_token = tokenizer.convert_ids_to_tokens(self.loaded.image_token_id)
        for token in {*tokenizer.all_special_tokens, image_token}:
            if token in question:
                raise PromptError(f"the question holds the model's special token {token!r}; remove it from the text")
