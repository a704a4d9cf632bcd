"""From a sample and its image to the model's inputs, through the model's own processor and chat template.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jinja2
import numpy as np
import torch

from halp_probe.errors import InputError
from halp_probe.extraction.images import LoadedImage
from halp_probe.extraction.positions import TokenPositions, find_positions
from halp_probe.extraction.preprocessing import ImageTexts
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.loading import Checkpoint
from halp_probe.records import Sample

_NOW = re.compile(r"""strftime_now\s*\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")

PROMPT = "image, then question, in one user turn; the model's chat template with generation prompt"


class PromptError(InputError):
    """A sample that cannot be made into a prompt, and why."""


@dataclass(frozen=True)
class Prompt:
    """One sample, ready for a batch."""

    sample: Sample
    image_sha256: str
    input_ids: np.ndarray  # [T] int64
    token_types: np.ndarray | None  # [T] int64, as the family's row says; None where it has none
    images: dict[str, torch.Tensor]  # pixel_values, image_grid_thw, …; one object for prompts made one after the other
    image_tokens: int
    positions: TokenPositions
    image_end: int  # tokens up to the last one that belongs to the image or that image tokens see

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def prefix_tokens(self) -> int:
        """Up to the image's end."""
        return self.positions.vision_index + 1


@dataclass(frozen=True)
class Prompter:
    """Makes prompts for one checkpoint. An image is preprocessed once for all prompts that follow each other on it.

    `min_pixels` and `max_pixels` bound an image's area (None = the processor's own); `answer_tokens` is the room that
    an answer needs after the prompt; `date` (YYYY-MM-DD) is for a chat template that writes the day's, and
    `template_options` are variables that it takes. Raises InputError for bounds, options or a checkpoint that cannot
    be used.
    """

    checkpoint: Checkpoint
    min_pixels: int | None = None
    max_pixels: int | None = None
    answer_tokens: int = 0
    date: str | None = None  # None: today's
    template_options: str | None = None  # a JSON object, such as {"enable_thinking": false}
    _last: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # image, texts, inputs

    def __post_init__(self) -> None:
        checkpoint = self.checkpoint
        if not checkpoint.processor.chat_template:
            raise ModelError(f"model {checkpoint.name!r} has no chat template; add a chat_template.jinja to its folder")
        if not checkpoint.family.qwen_vl_utils and (self.min_pixels or self.max_pixels):
            raise InputError(
                f"--min-pixels/--max-pixels: {checkpoint.model_type}'s own processor decides the image size; "
                "leave them out"
            )
        unknown = [name for name in self._options if not re.search(rf"\b{re.escape(name)}\b", _template_of(checkpoint))]
        if unknown:
            raise InputError(
                f"--template-option: the chat template of {checkpoint.name!r} knows no {', '.join(unknown)}"
            )
        _ = self.prompt_date  # told once: the day may change before the last prompt, and in worker processes
        low, high = self.pixel_bounds or (0, 0)
        if low > high:
            raise InputError(f"--min-pixels {low} is larger than --max-pixels {high}")

    @cached_property
    def pixel_bounds(self) -> tuple[int, int] | None:
        """The area in pixels between which images are resized; None where the processor decides."""
        if not self.checkpoint.family.qwen_vl_utils:
            return None
        size = self.checkpoint.processor.image_processor.size
        low, high = size["shortest_edge"], size["longest_edge"]
        if low is None or high is None:  # the same two areas under their other names
            low, high = size["min_pixels"], size["max_pixels"]
        return self.min_pixels or int(low), self.max_pixels or int(high)

    @cached_property
    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = json.loads(self.template_options or "{}")
        return options

    @cached_property
    def _template(self) -> str | None:
        """The chat template with `prompt_date` where it asks for the day's date; None: as the processor has it."""
        if self.prompt_date is None:
            return None
        day = datetime.date.fromisoformat(self.prompt_date)
        return _NOW.sub(lambda call: json.dumps(day.strftime(call["format"])), _template_of(self.checkpoint))

    @cached_property
    def prompt_date(self) -> str | None:
        """The date in every prompt, YYYY-MM-DD; None where the template writes none."""
        template = _template_of(self.checkpoint)
        if not re.search(r"strftime_now\s*\(", template):
            return None
        if re.search(r"strftime_now\s*\(", _NOW.sub("", template)):
            raise ModelError(
                f"the chat template of {self.checkpoint.name!r} writes the day's date in a format that it computes, so "
                "its prompts would change from day to day; write a date into the template"
            )
        return self.date or datetime.date.today().isoformat()

    def prompt(self, sample: Sample, image: LoadedImage) -> Prompt:
        """The sample's whole prompt.

        Raises PromptError when the question holds one of the model's special tokens or the template loses it, the
        image's shape is refused, or the prompt (with room for the answer) is longer than the model's context.
        """
        inputs = self._inputs(self._text(sample, image), image)
        try:
            positions = find_positions(inputs["input_ids"][0].tolist(), self.checkpoint.image_token_id)
        except ValueError as error:
            raise PromptError(str(error)) from error
        needed = positions.query_index + 1 + self.answer_tokens
        self._check_length(needed)
        family = self.checkpoint.family
        ids = inputs["input_ids"][0].numpy()
        types = inputs[family.token_types.name][0].numpy() if family.token_types else None
        names = [*family.image_inputs, *(name for name in family.optional_image_inputs if name in inputs)]
        return Prompt(
            sample=sample,
            image_sha256=image.sha256,
            input_ids=ids,
            token_types=types,
            images=self._last.setdefault("inputs", {name: inputs[name] for name in names}),
            image_tokens=int((ids == self.checkpoint.image_token_id).sum()),
            positions=positions,
            image_end=_image_end(self.checkpoint, ids, types, positions),
        )

    def _check_length(self, needed: int) -> None:
        """Raise PromptError for more tokens than the model takes, or takes as it takes the shorter rows of a batch."""
        if (limit := self._token_limit) is not None and needed > limit:
            raise PromptError(
                f"prompt and answer need {needed} tokens, the model takes {limit}; lower --max-pixels or "
                "--max-new-tokens"
            )
        rope = getattr(self.checkpoint.config.get_text_config(), "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope" and needed > (short := rope["original_max_position_embeddings"]):
            raise PromptError(  # the longest row decides for its batch, and for keys that are in the cache already
                f"prompt and answer need {needed} tokens; beyond {short} this model's positions are another function "
                "(LongRoPE) for the whole batch: make the image smaller, or lower --max-new-tokens"
            )

    def _text(self, sample: Sample, image: LoadedImage) -> str:
        for token in self._special_tokens:
            if token in sample.question:
                raise PromptError(f"the question holds the model's special token {token!r}; remove it from the text")
        content = [{"type": "image", "image": image.pixels}, {"type": "text", "text": sample.question}]
        try:
            text: str = self.checkpoint.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                **self._options,
            )
        except (jinja2.TemplateError, TypeError) as error:  # the second: a template that adds a string to the content
            raise PromptError(f"the model's chat template refuses the question: {error}") from error
        if sample.question.strip() not in text:  # one that looks for it elsewhere leaves it out without a word
            raise PromptError(
                "the model's chat template leaves the question out: it does not read the key 'text' of a part of the "
                "content, or changes it; mend the checkpoint's chat_template.jinja"
            )
        return text

    def _inputs(self, text: str, image: LoadedImage) -> Any:
        """What the processor makes of it, batch of one."""
        if self._last.get("image") is not image:
            try:
                texts = ImageTexts(self.checkpoint.processor, image.pixels, self.pixel_bounds)
            except InputError as error:
                raise PromptError(str(error)) from error
            self._last.clear()
            self._last.update(image=image, texts=texts)
        bos = self.checkpoint.processor.tokenizer.bos_token
        options = {"add_special_tokens": False} if bos and text.startswith(bos) else {}  # the template wrote it already
        try:
            inputs = self._last["texts"](text, **options)
        except (
            ValueError,
            ArithmeticError,
        ) as error:  # what processors raise for a picture that is too narrow or small
            size = f"{image.pixels.width}×{image.pixels.height}"
            raise PromptError(f"the processor refuses an image of {size} or its prompt: {one_line(error)}") from error
        if "attention_mask" in inputs and not inputs["attention_mask"].all():
            raise ModelError(
                f"the processor of {self.checkpoint.name!r} pads a single prompt; take `padding` and "
                "`pad_to_multiple_of` out of its tokenizer_config.json and processor_config.json"
            )
        family = self.checkpoint.family
        images = {*family.image_inputs, *family.optional_image_inputs}
        known = {"input_ids", "attention_mask", *images, *family.unused_outputs}
        if family.token_types:
            known.add(family.token_types.name)
        if unknown := set(inputs) - known:
            raise ModelError(
                f"the processor of {self.checkpoint.name!r} returns {', '.join(sorted(unknown))}, which the family "
                f"{self.checkpoint.model_type!r} in halp_probe/models/families/ does not pass on"
            )
        return inputs

    @cached_property
    def _token_limit(self) -> int | None:
        """How many tokens prompt and answer may have."""
        text_config = self.checkpoint.config.get_text_config()
        names = [name for name in ("max_position_embeddings", self.checkpoint.family.column_limit) if name]
        return min((limit for name in names if (limit := getattr(text_config, name, None)) is not None), default=None)

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        processor, tokenizer = self.checkpoint.processor, self.checkpoint.processor.tokenizer
        image_token = tokenizer.convert_ids_to_tokens(self.checkpoint.image_token_id)
        placeholders = (getattr(processor, name, image_token) for name in ("image_token", "image_placeholder_token"))
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        named = {*tokenizer.all_special_tokens, *added, image_token, *placeholders}
        return tuple(token for token in named if token)  # some tokenizers name an empty one


def _template_of(checkpoint: Checkpoint) -> str:
    """The chat template that is used when none is named; a processor may have several."""
    template = checkpoint.processor.chat_template
    return str(template.get("default", "")) if isinstance(template, dict) else str(template)


def _image_end(checkpoint: Checkpoint, ids: np.ndarray, types: np.ndarray | None, positions: TokenPositions) -> int:
    """How many tokens stand up to the last one that belongs to the image or that image tokens see."""
    family, ends = checkpoint.family, [positions.vision_index]
    if types is not None and family.token_types is not None and family.token_types.block is not None:
        ends += np.flatnonzero(types == family.token_types.block).tolist()
    if family.image_marks is not None:
        ends += np.flatnonzero(np.isin(ids, getattr(checkpoint.config, family.image_marks))).tolist()
    return max(ends) + 1
