"""Process one made picture at opening, so that a processor which does not fit the model is refused before a run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jinja2
from PIL import Image

from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.image_settings import CLASS_TOKENS, FILE, image_file

_SIZE = (96, 80)  # width, height: small, and not square
_QUESTION = {"type": "text", "text": "?"}
_REFUSALS = (jinja2.TemplateError, TypeError, ValueError)  # of a template; ValueError: there is none
_GRIDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe")


def try_picture(
    processor: Any, config: Any, image_token_id: int, *, said: Mapping[str, Any], template_file: str, name: str
) -> None:
    """Raise ModelError if the processor fails on a made picture, or makes no image tokens or another number than fits.

    How many fit is told by the config, for families whose features are a grid of patches. `said` is what the file
    processor_config.json holds. A template that is missing or refuses the prompt is left to the prompts' maker.
    """
    try:
        text = _render(processor, [{"type": "image"}, _QUESTION])
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(f"{template_file} of {name!r} is no Jinja template: line {error.lineno}: {error}") from error
    except _REFUSALS:
        return
    try:
        inputs = processor(text=[text], images=[Image.new("RGB", _SIZE, (90, 160, 200))], return_tensors="pt")
    except Exception as error:  # whatever a processor's own code raises: it would end the run at its first picture
        raise ModelError(
            f"the processor of {name!r} fails on a picture of {_SIZE[0]}×{_SIZE[1]} ({type(error).__name__}: "
            f"{one_line(error)}); {_likely_reason(processor, text, template_file)}"
        ) from error
    tokens = int((inputs["input_ids"] == image_token_id).sum())
    if not tokens:
        token = processor.tokenizer.convert_ids_to_tokens(image_token_id)
        raise ModelError(
            f"a prompt with a picture has no image token of {name!r} ({token!r}, id {image_token_id} in config.json): "
            f"{_likely_reason(processor, text, template_file)}"
        )
    _check_size(inputs, config, said, name)
    features = _expected_tokens(inputs, config)
    if features is not None and tokens != features:
        raise ModelError(
            f"the processor of {name!r} gives a picture of {_SIZE[0]}×{_SIZE[1]} {tokens} image tokens (id "
            f"{image_token_id}), and the model {features} features: "
            f"{_likely_reason(processor, text, template_file)}"
        )


def _render(processor: Any, content: list[dict[str, str]]) -> str:
    message = {"role": "user", "content": content}
    text: str = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return text


def _likely_reason(processor: Any, text: str, template_file: str) -> str:
    """Say what to write where: in the template, for a setting without a value, or else which files to look at."""
    marks = {token.content for token in processor.tokenizer.added_tokens_decoder.values()}
    marks |= {getattr(processor, name, None) or "" for name in ("image_token", "image_placeholder_token")}
    try:
        plain = _render(processor, [_QUESTION])
    except _REFUSALS:
        plain = ""
    if all(text.count(mark) <= plain.count(mark) for mark in marks if mark):
        return f"{template_file} writes no token for it; take the chat template of the vision-language model itself"
    known = inspect.signature(type(processor).__init__).parameters
    empty = [key for key in known if key != "chat_template" and getattr(processor, key, "") is None]
    if empty:
        return f"{FILE} says no {', '.join(empty)}: write the model's"
    return f"compare {FILE}, preprocessor_config.json and tokenizer_config.json with the original's"


def _check_size(inputs: Mapping[str, Any], config: Any, said: Mapping[str, Any], name: str) -> None:
    """Raise ModelError for pictures of another size than a tower with fixed positions takes."""
    vision: Any = getattr(config, "vision_config", None)
    pixels: Any = inputs.get("pixel_values")
    if getattr(vision, "model_type", None) not in CLASS_TOKENS or getattr(pixels, "ndim", 0) < 4:
        return
    side = vision.image_size
    height, width = pixels.shape[-2:]
    if (height, width) != (side, side):
        raise ModelError(
            f"{image_file(said)} of {name} makes pictures of {width}×{height}, the vision tower takes {side}×{side}: "
            f'write the "size" and "crop_size" there that make {{"height": {side}, "width": {side}}} of any picture'
        )


def _expected_tokens(inputs: Mapping[str, Any], config: Any) -> int | None:
    """Return the number of features that the model makes of the picture; None if only the model tells."""
    vision: Any = getattr(config, "vision_config", None)
    kind = config.model_type
    if kind in _GRIDS:
        return int(inputs["image_grid_thw"].prod()) // vision.spatial_merge_size**2
    if kind in ("llava", "vipllava") and vision.model_type in CLASS_TOKENS:
        dropped = getattr(config, "vision_feature_select_strategy", "default") == "default"
        return int((vision.image_size // vision.patch_size) ** 2 + CLASS_TOKENS[vision.model_type] - dropped)
    if kind == "gemma3":
        return int(inputs["pixel_values"].shape[0] * config.mm_tokens_per_image)
    if kind in ("idefics3", "smolvlm"):
        side = vision.image_size // vision.patch_size // config.scale_factor
        return int(inputs["pixel_values"].shape[1] * side**2)
    if kind == "internvl":
        height, width = (size // patch for size, patch in zip(vision.image_size, vision.patch_size, strict=True))
        return int(inputs["pixel_values"].shape[0] * height * width * config.downsample_ratio**2)
    if kind in ("janus", "deepseek_vl"):
        return int((vision.image_size // vision.patch_size) ** 2)
    return None
