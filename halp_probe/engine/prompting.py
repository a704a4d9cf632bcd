"""Turn a sample and its images into the model's inputs, through the model's own processor and chat template.

Legend: T tokens of one unpadded prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from halp_probe.engine.chat import Chat
from halp_probe.engine.chat import PromptError as PromptError
from halp_probe.engine.images import LoadedImage, content_sha256
from halp_probe.engine.positions import TokenPositions, find_positions, text_positions
from halp_probe.engine.preprocessing import ImageTexts
from halp_probe.engine.prompt_errors import concerns_one_prompt, describe
from halp_probe.engine.question_end import MARK, QuestionEndError, Surroundings, find_question_end
from halp_probe.errors import InputError
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import Checkpoint
from halp_probe.plain_text import is_whole
from halp_probe.records import Sample
from halp_probe.state_identity import StateIdentity


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One sample, ready for a batch."""

    sample: Sample
    image_sha256: str
    image_difference_hash: str  # of each image, separated by spaces; see `near_duplicates`
    input_ids: np.ndarray  # [T] int64
    token_types: np.ndarray | None  # [T] int64, as the family's row says; None if it has none
    images: dict[str, torch.Tensor]  # pixel_values, image_grid_thw, …; one object for consecutive prompts
    image_count: int  # 0: a prompt of text alone
    image_tokens: int  # of all its images
    positions: TokenPositions
    image_end: int  # number of tokens up to the last one that belongs to an image or that image tokens attend to

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens up to the last image's end; 0 if there is none."""
        return self.positions.vision_index + 1


@dataclass(frozen=True, kw_only=True)
class Prompter:
    """Maker of prompts for one checkpoint. Images are preprocessed once for consecutive prompts on them.

    `min_pixels` and `max_pixels` bound an image's area (None = the processor's own); `answer_tokens` is the room that
    an answer needs after the prompt; `date` (YYYY-MM-DD) is for a chat template that writes the current date, and
    `template_options` are variables that it takes; `system` is a message in front of every question. With
    `question_end` the end of each question's own text is found, too. Raises InputError for bounds, options, a system
    message or a checkpoint that cannot be used.
    """

    checkpoint: Checkpoint
    min_pixels: int | None = None
    max_pixels: int | None = None
    answer_tokens: int = 0
    date: str | None = None  # None: today's
    template_options: str | None = None  # a JSON object, such as {"enable_thinking": false}
    system: str | None = None
    question_end: bool = False
    _last: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # images, texts, inputs

    def __post_init__(self) -> None:
        checkpoint = self.checkpoint
        if self.system is not None and not is_whole(self.system):
            raise InputError("`system_prompt` holds a NUL character or half a surrogate pair; leave it out")
        _ = self.prompt_date  # fixed now: the day may change before the last prompt, and in worker processes
        if not checkpoint.family.takes_pixel_bounds and (self.min_pixels or self.max_pixels):
            raise InputError(
                f"`min_pixels` and `max_pixels`: {checkpoint.model_type}'s own processor decides the image size; "
                "leave them out"
            )
        self._check_answers()
        low, high = self.pixel_bounds or (0, 0)
        if low > high:
            raise InputError(f"`min_pixels` {low} is larger than `max_pixels` {high}")

    def _check_answers(self) -> None:
        """Raise InputError for answers of more tokens than the family's cache keeps right beside padding."""
        name = self.checkpoint.family.answer_limit
        limit = None if name is None else getattr(self.checkpoint.config.get_text_config(), name)
        if limit is not None and self.answer_tokens > limit:
            raise InputError(
                f"`max_new_tokens` {self.answer_tokens}: in {self.checkpoint.model_type!r} padding changes answers of "
                f"more than {limit} tokens; lower it"
            )

    @classmethod
    def for_identity(
        cls, checkpoint: Checkpoint, identity: StateIdentity, answer_tokens: int = 0, *, question_end: bool = False
    ) -> Prompter:
        """Return a prompter for this checkpoint that makes prompts like those of the states with this identity.

        Unknown fields of the identity are as the checkpoint has them. Raises as the class does.
        """
        options = identity.prompt_options()
        return cls(
            checkpoint=checkpoint,
            min_pixels=options["min_pixels"],
            max_pixels=options["max_pixels"],
            answer_tokens=answer_tokens,
            date=options["prompt_date"],
            template_options=options["template_options"],
            system=options["system_prompt"],
            question_end=question_end,
        )

    @cached_property
    def pixel_bounds(self) -> tuple[int, int] | None:
        """Smallest and largest area of resized images in pixels; None if the processor decides."""
        family = self.checkpoint.family
        if not family.qwen_vl_utils and not (family.area_bounds and (self.min_pixels or self.max_pixels)):
            return None
        size = self.checkpoint.processor.image_processor.size
        low, high = size["shortest_edge"], size["longest_edge"]
        if low is None or high is None:  # the same two areas under their other names
            low, high = size["min_pixels"], size["max_pixels"]
        return self.min_pixels or int(low), self.max_pixels or int(high)

    @cached_property
    def _chat(self) -> Chat:
        return Chat(checkpoint=self.checkpoint, date=self.date, options=self.template_options, system=self.system)

    @cached_property
    def prompt_date(self) -> str | None:
        """Date in every prompt, YYYY-MM-DD; None if the template writes none."""
        return self._chat.prompt_date

    def check(self, samples: Iterable[Sample]) -> None:
        """Raise InputError, naming the first, for samples with more or fewer images than the family takes."""
        for sample in samples:
            if reason := self.checkpoint.family.refuses(len(sample.files)):
                raise InputError(
                    f"question {sample.question_id!r} shows {len(sample.files) or 'no'} images, but "
                    f"{self.checkpoint.model_type!r} takes {reason}; choose another model"
                )

    def prompt(self, sample: Sample, *images: LoadedImage) -> Prompt:
        """Make the sample's whole prompt: the images in order, then earlier turns, then the question.

        Raises PromptError if a text holds one of the model's special tokens or the template leaves it out, the family
        does not support such a prompt, an image's shape is refused, the prompt (with room for the answer) is longer
        than the model's context, or the question's end is asked for and not found.
        """
        if reason := self.checkpoint.family.refuses(len(images)):
            raise PromptError(f"{self.checkpoint.model_type!r} takes {reason}")
        text = self._chat.text(sample.question, [image.pixels for image in images], sample.history)
        inputs = self._inputs(text, sample, images)
        tokens, family = inputs["input_ids"][0], self.checkpoint.family
        find = find_positions if images else text_positions
        try:
            positions = find(tokens.tolist(), self.checkpoint.image_token_id)
        except ValueError as error:
            raise PromptError(str(error)) from error
        self._check_length(positions.query_index + 1 + self.answer_tokens)
        if self.question_end:
            end = self._find_question_end(text, tokens.tolist(), sample, images)
            positions = replace(positions, question_end_index=end, question_end_id=int(tokens[end]))
        ids, types = tokens.numpy(), self._token_types(inputs, bool(images))
        optional = [name for name in family.optional_image_inputs if name in inputs]
        names = [*family.image_inputs, *optional] if images else []
        return Prompt(
            sample=sample,
            image_sha256=content_sha256(sample.image_id, [image.sha256 for image in images]),
            image_difference_hash=" ".join(image.difference_hash for image in images),
            input_ids=ids,
            token_types=types,
            images=self._last.setdefault("inputs", {name: torch.as_tensor(inputs[name]) for name in names}),
            image_count=len(images),
            image_tokens=int((ids == self.checkpoint.image_token_id).sum()),
            positions=positions,
            image_end=_count_image_prefix(self.checkpoint, ids, types, positions) if images else 0,
        )

    def _find_question_end(self, text: str, input_ids: list[int], sample: Sample, images: Sequence[LoadedImage]) -> int:
        """Return the index of the last token of the question's own text. Raises PromptError if it is not found."""
        texts: ImageTexts = self._last["texts"]
        surroundings: dict[Any, Surroundings] = self._last.setdefault("surroundings", {})
        try:
            tokenized = texts.tokenized(text, **self._tokenizer_options(text))
            if list(tokenized.input_ids) != input_ids:
                raise QuestionEndError("the model's processor changes the tokens")
            if sample.history not in surroundings:
                trial = self._chat.text(MARK, [image.pixels for image in images], sample.history)
                marked = texts.tokenized(trial, **self._tokenizer_options(trial)).text
                surroundings[sample.history] = Surroundings.of_mark(marked)
            last = surroundings[sample.history].last_character(sample.question, tokenized.text)
            return find_question_end(tokenized, last, self.checkpoint.processor.tokenizer)
        except QuestionEndError as error:
            raise PromptError(
                f"the question's end cannot be found: {error}; leave question-end out of `positions`"
            ) from error

    def plain_inputs(self, sample: Sample, *images: LoadedImage) -> dict[str, Any]:
        """Return all that the processor makes of this prompt, on the CPU, as a plain user of transformers passes it on.

        Raises as `prompt` does.
        """
        text = self._chat.text(sample.question, [image.pixels for image in images], sample.history)
        return dict(self._inputs(text, sample, images))

    def _token_types(self, inputs: Any, shows_images: bool) -> np.ndarray | None:
        """Return [T] from the processor; some omit it for a prompt of text alone, all of which has one type."""
        types = self.checkpoint.family.token_types
        if types is None:
            return None
        if not shows_images and types.name not in inputs:
            return np.full(inputs["input_ids"].shape[1], types.padding)
        token_types: np.ndarray = inputs[types.name][0].numpy()
        return token_types

    def _check_length(self, needed: int) -> None:
        """Raise PromptError for more tokens than the model takes, or than its LongRoPE takes as a short prompt."""
        if (limit := self._token_limit) is not None and needed > limit:
            raise PromptError(
                f"prompt and answer need {needed} tokens, the model takes {limit}; lower `max_pixels` or "
                "`max_new_tokens`"
            )
        rope = getattr(self.checkpoint.config.get_text_config(), "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope" and needed > (short := rope["original_max_position_embeddings"]):
            raise PromptError(  # the longest row decides for its whole batch, and for keys already in the cache
                f"prompt and answer need {needed} tokens; beyond {short} this model's positions are another function "
                "(LongRoPE) for the whole batch: make the image smaller, or lower `max_new_tokens`"
            )

    def _inputs(self, text: str, sample: Sample, images: Sequence[LoadedImage]) -> Any:
        """Run the processor on the prompt, as a batch of one."""
        options = self._tokenizer_options(text)
        try:
            if [*map(id, self._last.get("images", [None]))] != [*map(id, images)]:
                pixels = [image.pixels for image in images]
                texts = ImageTexts(
                    self.checkpoint.processor,
                    pixels,
                    self.pixel_bounds,
                    by_qwen_vl_utils=self.checkpoint.family.qwen_vl_utils,
                )
                self._last.clear()
                self._last.update(images=images, texts=texts)
            inputs = self._last["texts"](text, **options)
        except ModelError:
            raise
        except InputError as error:
            raise PromptError(f"{_names(sample, images)}{error}") from error
        except Exception as error:  # see prompt_errors: a picture that is too narrow or small raises anything
            if not concerns_one_prompt(error):
                raise
            raise PromptError(f"{_names(sample, images)}{_refusal(error, images)}") from error
        if "attention_mask" in inputs and not inputs["attention_mask"].all():
            raise ModelError(
                f"the processor of {self.checkpoint.name!r} pads a single prompt; take `padding` and "
                "`pad_to_multiple_of` out of its tokenizer_config.json and processor_config.json"
            )
        family = self.checkpoint.family
        of_images = {*family.image_inputs, *family.optional_image_inputs}
        expected = {"input_ids", "attention_mask", *of_images, *family.unused_outputs}
        if family.token_types:
            expected.add(family.token_types.name)
        if unknown := set(inputs) - expected:
            raise ModelError(
                f"the processor of {self.checkpoint.name!r} returns {', '.join(sorted(unknown))}, which the family "
                f"{self.checkpoint.model_type!r} in halp_probe/models/families/ does not pass on"
            )
        return inputs

    def _tokenizer_options(self, text: str) -> dict[str, Any]:
        bos = self.checkpoint.processor.tokenizer.bos_token
        return {"add_special_tokens": False} if bos and text.startswith(bos) else {}  # already in the text

    @cached_property
    def _token_limit(self) -> int | None:
        """Largest number of tokens of prompt and answer; None: no limit."""
        text_config = self.checkpoint.config.get_text_config()
        names = [name for name in ("max_position_embeddings", self.checkpoint.family.column_limit) if name]
        return min((limit for name in names if (limit := getattr(text_config, name, None)) is not None), default=None)


def _count_image_prefix(
    checkpoint: Checkpoint, ids: np.ndarray, types: np.ndarray | None, positions: TokenPositions
) -> int:
    """Count the tokens up to the last one that belongs to the image or that image tokens attend to."""
    family, ends = checkpoint.family, [positions.vision_index]
    if types is not None and family.token_types is not None and family.token_types.block is not None:
        ends += np.flatnonzero(types == family.token_types.block).tolist()
    if family.image_marks is not None:
        ends += np.flatnonzero(np.isin(ids, getattr(checkpoint.config, family.image_marks))).tolist()
    return max(ends) + 1


def _names(sample: Sample, images: Sequence[LoadedImage]) -> str:
    """Return the names of the prompt's files for the beginning of a message; "" for pictures in memory."""
    names = [name for name, image in zip(sample.files, images, strict=False) if name != image.sha256]
    return f"{', '.join(names)}: " if names else ""


def _refusal(error: Exception, images: Sequence[LoadedImage]) -> str:
    """Return a message with the images' sizes and the remedy."""
    if not images:
        return f"the processor refuses the prompt: {describe(error)}"
    sizes = " and ".join(f"{image.pixels.width}×{image.pixels.height}" for image in images)
    remedy = "crop or enlarge the image, or leave it out"
    return f"the processor refuses an image of {sizes} or its prompt: {describe(error)}; {remedy}"


def largest_area(max_pixels: int | None, usual: int | None, *, adjustable: bool) -> int | None:
    """Return the upper bound of an image's area: as given, or the task's usual one if the family takes a bound."""
    return max_pixels or (usual if adjustable else None)
