"""Build the processor of a fused model: stock classes, undistorted pictures on black, ChatML prompts."""

from __future__ import annotations

from typing import Any

from transformers import DonutImageProcessor, LlavaNextImageProcessor, LlavaNextProcessor, LlavaProcessor

from halp_probe.fused.parts import IMAGE_TOKEN, Vision
from halp_probe.models.chatml import chat_template


def letterbox_processor(vision: Vision, tokenizer: Any) -> LlavaProcessor:
    """Return a processor that scales a picture's longest side to the tower's and centres it on a black square."""
    size = {"height": vision.side, "width": vision.side}
    image_processor = DonutImageProcessor(
        size=size, do_resize=True, do_thumbnail=True, do_pad=True, do_align_long_axis=False, **_pixels(vision)
    )
    return LlavaProcessor(image_processor=image_processor, **_prompts(vision, tokenizer, "full"))


def tiles_processor(vision: Vision, tokenizer: Any, tiles: int) -> LlavaNextProcessor:
    """Return a processor for AnyRes as in LLaVA-NeXT.

    A picture is scaled without distortion, on black, to one of the canvases and cut into tiles; the overview before
    them is the whole picture, stretched to the square.
    """
    square = {"height": vision.side, "width": vision.side}
    image_processor = LlavaNextImageProcessor(
        size=square, crop_size=square, image_grid_pinpoints=pinpoints(vision.side, tiles), **_pixels(vision)
    )
    return LlavaNextProcessor(
        image_processor=image_processor, **_prompts(vision, tokenizer, tiles_strategy(vision.kind.class_token))
    )


def pinpoints(side: int, tiles: int) -> list[list[int]]:
    """Return height and width in pixels of all canvases of at most `tiles` tiles."""
    rows = range(1, tiles + 1)
    return [[side * row, side * column] for row in rows for column in rows if row * column <= tiles]


def tiles_strategy(class_token: bool) -> str:
    """Return LLaVA-NeXT's feature strategy: it puts patches on a grid, which has no place for a class token."""
    return "default" if class_token else "full"


def _pixels(vision: Vision) -> dict[str, Any]:
    """Return the settings of the tower's own image processor that apply to pictures of any size."""
    names = ("resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    return {name: getattr(vision.image_processor, name) for name in names}


def _prompts(vision: Vision, tokenizer: Any, strategy: str) -> dict[str, Any]:
    template = chat_template(IMAGE_TOKEN)
    tokenizer.chat_template = template  # it is saved in the same file
    return {
        "tokenizer": tokenizer,
        "patch_size": vision.patch_size,
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": int(vision.kind.class_token),
        "image_token": IMAGE_TOKEN,
        "chat_template": template,
    }
