"""Preprocess the images of a prompt into pixels for the model, once for all questions about them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from halp_probe.engine.question_end import QuestionEndError, TokenizedText
from halp_probe.errors import InputError
from halp_probe.models.picture_shapes import check_picture_shape


class _CachedProcessor:
    """An image processor for one prompt's images: it runs on the first call; later calls get the same tensors."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._output: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._output is None:
            self._output = self._inner(*args, **kwargs)
        return type(self._output)(dict(self._output))  # a copy: processors take entries out of it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while it is being unpickled, when there is no `_inner` yet
            raise AttributeError(name)
        return getattr(self._inner, name)


class _RecordingTokenizer:
    """A tokenizer that keeps what it was called with, and each token's offsets."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: list[TokenizedText] = []

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        encoding = self._inner(text, *args, **{**kwargs, "return_offsets_mapping": True})
        (offsets,) = torch.as_tensor(encoding.pop("offset_mapping")).tolist()
        (input_ids,) = torch.as_tensor(encoding["input_ids"]).tolist()
        (said,) = [text] if isinstance(text, str) else text
        self.calls.append(TokenizedText(text=said, input_ids=input_ids, offsets=[(a, b) for a, b in offsets]))
        return encoding

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)


class ImageTexts:
    """The images of a prompt, in order, with a checkpoint's processor: call it with one text after another.

    `pixel_bounds` are the smallest and the largest area in pixels to which each image is resized, by qwen-vl-utils or
    by the processor itself; with None the processor decides. Raises InputError if an image cannot be resized so, or the
    processor cannot take its shape.
    """

    def __init__(
        self,
        processor: Any,
        pixels: Sequence[Image.Image],
        pixel_bounds: tuple[int, int] | None,
        *,
        by_qwen_vl_utils: bool = True,
    ) -> None:
        for image in pixels:
            check_picture_shape(processor.image_processor, image.width, image.height)
        self._processor = copy.copy(processor)
        inner = processor.image_processor
        if pixel_bounds is not None and not by_qwen_vl_utils:
            inner = _bound_area(inner, *pixel_bounds)
        self._processor.image_processor = _CachedProcessor(inner)
        self._options: dict[str, Any] = {}
        images = list(pixels)
        if images and pixel_bounds is not None and by_qwen_vl_utils:
            images = [_resize(image, *pixel_bounds, processor.image_processor.patch_size) for image in images]
            self._options["do_resize"] = False  # not a second time
        if images:
            self._options["images"] = images if len(images) == 1 else [images]  # those of a batch of one

    def __call__(self, text: str, **options: Any) -> Any:
        """Return the processor's output, a batch of one; all calls return the same image tensors."""
        return self._processor(text=[text], return_tensors="pt", **self._options, **options)

    def tokenized(self, text: str, **options: Any) -> TokenizedText:
        """Return what the processor gives its tokenizer of this text, images written out, and the tokens' offsets.

        Raises QuestionEndError for a tokenizer without offsets, or a processor that calls it otherwise than once.
        """
        if not self._processor.tokenizer.is_fast:
            raise QuestionEndError("the model's tokenizer does not tell which characters a token holds")
        processor = copy.copy(self._processor)
        processor.tokenizer = recording = _RecordingTokenizer(self._processor.tokenizer)
        processor(text=[text], return_tensors="pt", **self._options, **options)
        if len(recording.calls) != 1:
            raise QuestionEndError(f"the model's processor calls its tokenizer {len(recording.calls)} times a prompt")
        return recording.calls[0]


def _bound_area(image_processor: Any, low: int, high: int) -> Any:
    """Return a copy of the processor with these bounds of the area, under all names that it has for them."""
    bounded = copy.copy(image_processor)
    names = {"shortest_edge": low, "longest_edge": high, "min_pixels": low, "max_pixels": high}
    known = {name: names.get(name, value) for name, value in dict(bounded.size).items()}
    bounded.size = type(bounded.size)(**known)
    return bounded


def _resize(pixels: Image.Image, low: int, high: int, patch_size: int) -> Image.Image:
    from qwen_vl_utils import process_vision_info

    element = {"type": "image", "image": pixels, "min_pixels": low, "max_pixels": high}
    try:
        images, _ = process_vision_info([{"role": "user", "content": [element]}], image_patch_size=patch_size)
    except ValueError as error:
        size = f"{pixels.width}×{pixels.height}"
        raise InputError(f"an image of {size} cannot be brought to {low} to {high} pixels: {error}") from error
    resized: Image.Image = images[0]
    return resized
