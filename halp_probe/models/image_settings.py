"""Check a processor's image settings against the model's, and fill those that its files leave out.

As transformers' maintainers advise for LLaVA and its relatives, the model's config decides. What the processor says
otherwise is kept if it makes as many image tokens, and refused if not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.image_utils import SizeDict

from halp_probe.models.errors import ModelError

FILE = "processor_config.json"
CLASS_TOKENS = {"clip_vision_model": 1, "vit": 1, "siglip_vision_model": 0}  # in front of the patches, by model type
_TILED = ("llava_next", "llava_onevision", "granite4_vision")
_LLAVA_KIND = ("llava", "vipllava", "llava_next")


def settle_image_settings(processor: Any, config: Any, said: Mapping[str, Any], name: str) -> None:
    """Fill the settings of LLaVA's kind that decide how many image tokens a picture gets, and compare the others.

    `said` is processor_config.json. Raises ModelError, with file, key and value to write, for settings that make
    another number of image tokens than the model has features, or that cannot be told from the model's config.
    """
    if config.model_type in _TILED:
        _check_canvases(processor.image_processor, config, said, name)
    if config.model_type == "llava_onevision":
        _settle_onevision(processor, config, said, name)
    elif config.model_type in _LLAVA_KIND and hasattr(processor, "num_additional_image_tokens"):
        _settle_llava(processor, config, said, name)


def _check_canvases(image_processor: Any, config: Any, said: Mapping[str, Any], name: str) -> None:
    own, models = (sorted(map(list, part.image_grid_pinpoints)) for part in (image_processor, config))
    if own != models:
        raise _contradiction(image_file(said), name, "image_grid_pinpoints", own, models)


def _settle_onevision(processor: Any, config: Any, said: Mapping[str, Any], name: str) -> None:
    wanted = {
        "num_image_tokens": (config.vision_config.image_size // config.vision_config.patch_size) ** 2,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "vision_aspect_ratio": config.vision_aspect_ratio,
    }
    for key, value in wanted.items():
        if said.get(key) is None:
            setattr(processor, key, value)
        elif getattr(processor, key) != value:
            raise _contradiction(FILE, name, key, getattr(processor, key), value)


def _settle_llava(processor: Any, config: Any, said: Mapping[str, Any], name: str) -> None:
    """Settle patch size, feature strategy and tokens before the patches, which the processor adds up."""
    vision = config.vision_config
    if processor.patch_size is None:
        processor.patch_size = vision.patch_size
    if processor.patch_size != vision.patch_size:
        raise _contradiction(FILE, name, "patch_size", processor.patch_size, vision.patch_size)
    strategy = getattr(config, "vision_feature_select_strategy", "default")  # ViP-LLaVA's is never another
    if processor.vision_feature_select_strategy is None:
        processor.vision_feature_select_strategy = strategy
    class_tokens = CLASS_TOKENS.get(vision.model_type)
    if class_tokens is None:
        if "num_additional_image_tokens" not in said:
            raise ModelError(
                f"{FILE} of {name} has no num_additional_image_tokens, and for a {vision.model_type} it cannot be told "
                "from config.json: write the number of tokens that the vision tower puts in front of the patches"
            )
        return
    expected = class_tokens - (strategy == "default")
    if _more_than_patches(processor) == expected:
        return
    if "num_additional_image_tokens" not in said:
        processor.num_additional_image_tokens = class_tokens
    if processor.vision_feature_select_strategy != strategy and _more_than_patches(processor) != expected:
        own = processor.vision_feature_select_strategy
        raise _contradiction(FILE, name, "vision_feature_select_strategy", own, strategy)
    if _more_than_patches(processor) != expected:
        raise _contradiction(
            FILE, name, "num_additional_image_tokens", processor.num_additional_image_tokens, class_tokens
        )


def name_areas(image_processor: Any) -> None:
    """Give bounds of the area that are named min_pixels and max_pixels alone the names that the processor reads."""
    size = getattr(image_processor, "size", None)
    if isinstance(size, SizeDict) and "min_pixels" in size and "shortest_edge" not in size:
        image_processor.size = SizeDict(shortest_edge=size["min_pixels"], longest_edge=size["max_pixels"])


def _more_than_patches(processor: Any) -> int:
    """Return how many image tokens more than patches a picture gets."""
    dropped = processor.vision_feature_select_strategy == "default"
    return int(processor.num_additional_image_tokens or 0) - int(dropped)


def image_file(said: Mapping[str, Any]) -> str:
    """Return where the image processor's settings stand; `said` is processor_config.json."""
    return f"the image_processor in {FILE}" if "image_processor" in said else "preprocessor_config.json"


def _contradiction(file: str, name: str, key: str, own: Any, models: Any) -> ModelError:
    return ModelError(
        f"{file} of {name} has {key} {own!r}, the model's config {models!r}: a picture would get another number of "
        f"image tokens than the model has features; write {key} {models!r} in {file}"
    )
