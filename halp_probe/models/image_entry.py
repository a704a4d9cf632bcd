"""How an image's features are made, taken apart by prompt, put together, and handed to the decoder.

The functions of the families' rows; most families share the first of each kind.
Legend: I images, B prompts, T tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from halp_probe.errors import InputError
from halp_probe.models.compat import takes_features


@dataclass(frozen=True)
class ImageArguments:
    """Arguments of the model's `forward`."""

    now: dict[str, Any]  # of the call that reads the images
    later: dict[str, torch.Tensor] = field(default_factory=dict)  # [B, 1, …] of each token after it, with the cache


def image_features(model: Any, inputs: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """What transformers' own `get_image_features` returns."""
    owner = model if hasattr(model, "get_image_features") else model.model
    return owner.get_image_features(**inputs, **options, return_dict=True)


def pooled_features(model: Any, inputs: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """Nothing but what the decoder reads, where the tower's own output cannot be made of that alone."""
    return BaseModelOutputWithPooling(pooler_output=image_features(model, inputs, **options).pooler_output)


def pooled_features_of_layer(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The same where `get_image_features` must be told the layer that `forward` takes from the config."""
    return pooled_features(model, inputs, vision_feature_layer=model.config.vision_feature_layer)


def pooled_features_of_every_tile(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The same of `pixel_values` [1, tiles, C, height, width], where the model takes a tile of zeros for padding.

    Raises InputError for such a tile: the model would leave it out.
    """
    seen = inputs["pixel_values"].flatten(2).any(-1)
    if not seen.all():
        raise InputError(
            f"{int((~seen).sum())} of {seen.numel()} tiles of a picture are zero throughout, and the model would leave "
            "them out; load a processor that normalises pixels (do_normalize), so that black is not zero"
        )
    return pooled_features(model, inputs)


@contextmanager
def pass_features(
    model: Any, features: Any, images: Mapping[str, torch.Tensor], _inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Inside the context, one call of the model with these arguments sees `features`; its vision tower does not run.

    `features` is what `model.get_image_features(**images)` returned, for the images of the call's rows in order. Where
    `forward` takes no features, `images` are passed and `get_image_features` hands out `features` instead of looking;
    it is itself again at the end, also after an error. Raises RuntimeError when a call took them not exactly once.
    """
    if takes_features(model):
        yield ImageArguments({"mm_encoder_outputs": {"image": features}})
        return
    taken = 0

    def hand_out(*_args: Any, **_kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        return features

    inner = model.model if hasattr(model, "model") else model
    inner.get_image_features = hand_out  # on this instance, in front of the class's method
    try:
        yield ImageArguments(dict(images))
    finally:
        del inner.get_image_features
    if taken != 1:
        raise RuntimeError(f"{type(inner).__name__} took the image features {taken} times in one call, expected once")


@dataclass(frozen=True)
class ProjectedLate:
    """Features of a model whose `forward` projects them itself."""

    pooler_output: torch.Tensor  # [tiles, tokens, D], projected
    unprojected: torch.Tensor  # [tiles, tokens, V], as `forward` takes them


def projected_late(model: Any, inputs: Mapping[str, torch.Tensor]) -> ProjectedLate:
    """Llama 4's: its vision tower ends in front of the projector."""
    made = model.vision_model(**inputs).last_hidden_state
    return ProjectedLate(pooler_output=model.multi_modal_projector(made), unprojected=made)


@contextmanager
def pass_unprojected(
    model: Any, features: ProjectedLate, images: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """As `pass_features`, for what `projected_late` returned."""
    with pass_features(model, BaseModelOutput(features.unprojected), images, inputs) as arguments:
        yield arguments


@dataclass(frozen=True)
class Injected:
    """Features of a model that adds others in front of several of its blocks."""

    pooler_output: Sequence[torch.Tensor]  # [image tokens, D] of each image, in front of the first of these blocks
    deepstack_features: Sequence[Sequence[torch.Tensor]]  # the same in front of each of them, in the config's order


def injected_features(model: Any, inputs: Mapping[str, torch.Tensor]) -> Injected:
    """Granite 4 Vision's: its image tokens are zero until features are added to them."""
    by_block = image_features(model, inputs).deepstack_features  # [(block, features)]
    return Injected(min(by_block, key=lambda pair: pair[0])[1], [added for _, added in by_block])


@contextmanager
def pass_injected(
    model: Any, features: Injected, images: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """As `pass_features`, for what `injected_features` returned."""
    config = model.config
    blocks = [*(block for _, block in config.deepstack_layer_map), *config.spatial_target_layers]
    made = BaseModelOutput()
    made.deepstack_features = list(zip(blocks, features.deepstack_features, strict=True))
    cache = DynamicCache(config=config.get_text_config())  # the decoder makes none by itself
    with pass_features(model, made, images, inputs) as arguments:
        yield ImageArguments({**arguments.now, "past_key_values": cache})


def split_by_prompt(features: Any, images: Sequence[int], tokens: Sequence[int]) -> list[Any]:
    """The features of several prompts' images, as if those of each had been looked at alone.

    Prompt k shows `images[k]` of them, which have `tokens[k]` tokens together.
    """
    pooled = features.pooler_output
    deepstack = getattr(features, "deepstack_features", None)
    alone = []
    for k, end in enumerate(accumulate(images)):
        own = slice(end - images[k], end)
        part: dict[str, Any] = {"pooler_output": pooled[own]}
        if deepstack is not None:
            part["deepstack_features"] = [_of_prompt(layer, own, tokens, k) for layer in deepstack]
        alone.append(type(features)(**part))
    return alone


def _of_prompt(layer: Any, images: slice, tokens: Sequence[int], k: int) -> Any:
    if isinstance(layer, torch.Tensor):  # transformers 5.17: [tokens of all images, D]
        return layer.split(list(tokens))[k]
    return layer[images]


def join_features(features: Sequence[Any]) -> Any:
    """The features of one prompt's images after the other as those of one call."""
    first = features[0]
    if len(features) == 1:
        return first
    there = [name for name in _JOIN if getattr(first, name, None) is not None]
    return type(first)(**{name: _JOIN[name]([getattr(image, name) for image in features]) for name in there})


def image_tokens(features: Any) -> torch.Tensor:
    """[image tokens, D] of one prompt's images, as the decoder reads them."""
    pooled = features.pooler_output
    parts = [pooled] if isinstance(pooled, torch.Tensor) else pooled
    return torch.cat([part.flatten(0, -2) for part in parts])


def _in_a_row(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(list(parts))
    return [tensor for part in parts for tensor in part]


def _by_layer(parts: Sequence[Any]) -> Any:
    return [_in_a_row(layer) for layer in zip(*parts, strict=True)]


def _same_in_all(parts: Sequence[Any]) -> Any:
    return parts[0]


_JOIN: dict[str, Callable[[Sequence[Any]], Any]] = {
    "pooler_output": _in_a_row,
    "deepstack_features": _by_layer,
    "cross_attention_states": _in_a_row,  # these two of images that enter by cross-attention
    "tile_mask": _in_a_row,
    "unprojected": _in_a_row,
    "visual_indicator_features": _same_in_all,  # Ovis 2: rows of a table, not of a picture
}
