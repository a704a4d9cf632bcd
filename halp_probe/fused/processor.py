"""The processor of a fused model: stock classes, pictures without distortion on black, ChatML prompts."""

from __future__ import annotations

from typing import Any

from transformers import DonutImageProcessor, LlavaNextImageProcessor, LlavaNextProcessor, LlavaProcessor

from halp_probe.fused.parts import IMAGE_TOKEN, Vision
from halp_probe.models.chatml import chat_template


def letterbox_processor(vision: Vision, tokenizer: Any) -> LlavaProcessor:
    """A picture's longest side becomes the tower's, and the rest of the square is black, equally on both sides."""
    size = {"height": vision.side, "width": vision.side}
    image_processor = DonutImageProcessor(
        size=size, do_resize=True, do_thumbnail=True, do_pad=True, do_align_long_axis=False, **_pixels(vision)
    )
    return LlavaProcessor(image_processor=image_processor, **_prompts(vision, tokenizer, "full"))


def tiles_processor(vision: Vision, tokenizer: Any, tiles: int) -> LlavaNextProcessor:
    """AnyRes as LLaVA-NeXT published it: a picture is brought without distortion, on black, to one of the canvases and
    cut into tiles; the overview in front of them is the whole picture, stretched to the square.
    """
    square = {"height": vision.side, "width": vision.side}
    image_processor = LlavaNextImageProcessor(
        size=square, crop_size=square, image_grid_pinpoints=pinpoints(vision.side, tiles), **_pixels(vision)
    )
    return LlavaNextProcessor(
        image_processor=image_processor, **_prompts(vision, tokenizer, tiles_strategy(vision.kind.class_token))
    )


def pinpoints(side: int, tiles: int) -> list[list[int]]:
    """Height and width in pixels of the canvases of at most so many tiles."""
    rows = range(1, tiles + 1)
    return [[side * row, side * column] for row in rows for column in rows if row * column <= tiles]


def tiles_strategy(class_token: bool) -> str:
    """LLaVA-NeXT puts the patches of tiles on a grid, which has no place for a class token."""
    return "default" if class_token else "full"


def _pixels(vision: Vision) -> dict[str, Any]:
    """The settings of the tower's own image processor that hold for pictures of any size."""
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
