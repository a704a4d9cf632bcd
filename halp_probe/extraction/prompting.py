"""From a sample and its image to the model's inputs, through the model's own processor and chat template.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import torch
from PIL import Image

from halp_probe.errors import InputError
from halp_probe.extraction.images import LoadedImage
from halp_probe.extraction.positions import TokenPositions, find_positions
from halp_probe.models.loading import Checkpoint, ModelError
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
    token_types: torch.Tensor | None  # [T] int64, as the family's row says; None where it has none
    images: dict[str, torch.Tensor]  # pixel_values, image_grid_thw, …
    positions: TokenPositions

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Prompter:
    """Makes prompts for one checkpoint.

    `min_pixels` and `max_pixels` bound an image's area (None = the processor's own); `answer_tokens` is the room that
    an answer needs after the prompt. Raises InputError for bounds or a checkpoint that cannot be used.
    """

    checkpoint: Checkpoint
    min_pixels: int | None = None
    max_pixels: int | None = None
    answer_tokens: int = 0

    def __post_init__(self) -> None:
        checkpoint = self.checkpoint
        if not checkpoint.processor.chat_template:
            raise ModelError(f"model {checkpoint.name!r} has no chat template; add a chat_template.jinja to its folder")
        if not checkpoint.family.qwen_vl_utils and (self.min_pixels or self.max_pixels):
            raise InputError(
                f"--min-pixels/--max-pixels: {checkpoint.model_type} has one fixed image size; leave them out"
            )
        low, high = self.pixel_bounds or (0, 0)
        if low > high:
            raise InputError(f"--min-pixels {low} is larger than --max-pixels {high}")

    @cached_property
    def pixel_bounds(self) -> tuple[int, int] | None:
        """The area in pixels between which images are resized; None for a fixed image size."""
        if not self.checkpoint.family.qwen_vl_utils:
            return None
        size = self.checkpoint.processor.image_processor.size
        low, high = size["shortest_edge"], size["longest_edge"]
        if low is None or high is None:  # the same two areas under their other names
            low, high = size["min_pixels"], size["max_pixels"]
        return self.min_pixels or int(low), self.max_pixels or int(high)

    def prompt(self, sample: Sample, image: LoadedImage) -> Prompt:
        """The sample's whole prompt.

        Raises PromptError when the question holds one of the model's special tokens, the image's shape is refused, or
        the prompt (with room for the answer) is longer than the model's context.
        """
        inputs = self._inputs(self._text(sample, image), image.pixels)
        try:
            positions = find_positions(inputs["input_ids"][0].tolist(), self.checkpoint.image_token_id)
        except ValueError as error:
            raise PromptError(str(error)) from error
        limit = getattr(self.checkpoint.config.get_text_config(), "max_position_embeddings", None)
        needed = positions.query_index + 1 + self.answer_tokens
        if limit is not None and needed > limit:
            raise PromptError(
                f"prompt and answer need {needed} tokens, the model takes {limit}; lower --max-pixels or "
                "--max-new-tokens"
            )
        family = self.checkpoint.family
        return Prompt(
            sample=sample,
            image_sha256=image.sha256,
            input_ids=inputs["input_ids"][0],
            token_types=inputs[family.token_types.name][0] if family.token_types else None,
            images={name: inputs[name] for name in family.image_inputs},
            positions=positions,
        )

    def _text(self, sample: Sample, image: LoadedImage) -> str:
        for token in self._special_tokens:
            if token in sample.question:
                raise PromptError(f"the question holds the model's special token {token!r}; remove it from the text")
        content = [{"type": "image", "image": image.pixels}, {"type": "text", "text": sample.question}]
        try:
            text: str = self.checkpoint.processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            raise PromptError(f"the model's chat template refuses the question: {error}") from error
        return text

    def _inputs(self, text: str, pixels: Image.Image) -> Any:
        """What the processor makes of it, batch of one."""
        processor = self.checkpoint.processor
        pixels, options = self._sized(pixels)
        if (bos := processor.tokenizer.bos_token) and text.startswith(bos):
            options["add_special_tokens"] = False  # the template has written it already
        inputs = processor(text=[text], images=[pixels], return_tensors="pt", **options)
        family = self.checkpoint.family
        known = {"input_ids", "attention_mask", *family.image_inputs, *family.unused_outputs}
        if family.token_types:
            known.add(family.token_types.name)
        if unknown := set(inputs) - known:
            raise ModelError(
                f"the processor of {self.checkpoint.name!r} returns {', '.join(sorted(unknown))}, which the family "
                f"{self.checkpoint.model_type!r} in halp_probe/models/families.py does not pass on"
            )
        return inputs

    def _sized(self, pixels: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
        """The image as the processor shall take it: for Qwen resized by qwen-vl-utils, and then not again."""
        if self.pixel_bounds is None:
            return pixels, {}
        from qwen_vl_utils import process_vision_info

        low, high = self.pixel_bounds
        element = {"type": "image", "image": pixels, "min_pixels": low, "max_pixels": high}
        patch_size = self.checkpoint.processor.image_processor.patch_size
        try:
            images, _ = process_vision_info([{"role": "user", "content": [element]}], image_patch_size=patch_size)
        except ValueError as error:
            size = f"{pixels.width}×{pixels.height}"
            raise PromptError(f"an image of {size} cannot be brought to {low} to {high} pixels: {error}") from error
        return images[0], {"do_resize": False}

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        tokenizer = self.checkpoint.processor.tokenizer
        image_token = tokenizer.convert_ids_to_tokens(self.checkpoint.image_token_id)
        return tuple({*tokenizer.all_special_tokens, image_token})
