"""Compute an image's features, split them by prompt, join them, and pass them to the decoder.

Functions for the rows of families; most families share the first of each kind.
Legend: I images, B prompts, T tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from halp_probe.errors import InputError
from halp_probe.models.compat import pass_cache, takes_features


@dataclass(frozen=True)
class ImageArguments:
    """Arguments of the model's `forward`."""

    now: dict[str, Any]  # for the call that reads the images
    later: dict[str, torch.Tensor] = field(default_factory=dict)  # [B, 1, …], for each later token, with the cache


def image_features(model: Any, inputs: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """Return the output of transformers' own `get_image_features`."""
    owner = model if hasattr(model, "get_image_features") else model.model
    return owner.get_image_features(**inputs, **options, return_dict=True)


def pooled_features(model: Any, inputs: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """Return only the features that the decoder reads, if the tower's own output type needs more."""
    return BaseModelOutputWithPooling(pooler_output=image_features(model, inputs, **options).pooler_output)


def pooled_features_of_layer(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Return `pooled_features` of the layer in the config, which `get_image_features` does not read itself."""
    return pooled_features(model, inputs, vision_feature_layer=model.config.vision_feature_layer)


def pooled_features_of_every_tile(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Return `pooled_features` of `pixel_values` [1, tiles, C, height, width].

    Raises InputError for a tile of zeros: the model would take it for padding and leave it out.
    """
    nonzero = inputs["pixel_values"].flatten(2).any(-1)
    if not nonzero.all():
        raise InputError(
            f"{int((~nonzero).sum())} of {nonzero.numel()} tiles of a picture are zero throughout, and the model would "
            "leave them out; load a processor that normalises pixels (do_normalize), so that black is not zero"
        )
    return pooled_features(model, inputs)


def features_of_lists(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Return `image_features` of a model that takes its counts as lists."""
    listed: dict[str, Any] = {
        name: value if value.is_floating_point() else value.tolist() for name, value in inputs.items()
    }
    return image_features(model, listed)


@contextmanager
def pass_features(
    model: Any, features: Any, images: Mapping[str, torch.Tensor], _inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Yield arguments with which one call of the model inside the context uses `features`, without its vision tower.

    `features` is the output of `model.get_image_features(**images)`, for the images of the call's rows in order. If
    `forward` takes no features, `images` are passed and `get_image_features` is replaced by a function that returns
    `features`, until the end of the context, also after an error. Raises RuntimeError if it is not called exactly once.
    """
    if takes_features(model):
        yield ImageArguments({"mm_encoder_outputs": {"image": features}})
        return
    n_calls = 0

    def return_features(*_args: Any, **_kwargs: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        return features

    inner = model.model if hasattr(model, "model") else model
    inner.get_image_features = return_features  # on this instance, in front of the class's method
    try:
        yield ImageArguments(dict(images))
    finally:
        del inner.get_image_features
    if n_calls != 1:
        raise RuntimeError(f"{type(inner).__name__} took the image features {n_calls} times in one call, expected once")


@dataclass(frozen=True)
class UnprojectedFeatures:
    """Features of a model whose `forward` projects them itself."""

    pooler_output: torch.Tensor  # [tiles, tokens, D], projected
    unprojected: torch.Tensor  # [tiles, tokens, V], as `forward` takes them


def unprojected_features(model: Any, inputs: Mapping[str, torch.Tensor]) -> UnprojectedFeatures:
    """Run Llama 4's vision tower, which ends before the projector, and then the projector."""
    output = model.vision_model(**inputs).last_hidden_state
    return UnprojectedFeatures(pooler_output=model.multi_modal_projector(output), unprojected=output)


@contextmanager
def pass_unprojected(
    model: Any, features: UnprojectedFeatures, images: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Do as `pass_features`, for the output of `unprojected_features`."""
    with pass_features(model, BaseModelOutput(features.unprojected), images, inputs) as arguments:
        yield arguments


@dataclass(frozen=True)
class InjectedFeatures:
    """Features of a model that adds different ones before several of its blocks."""

    pooler_output: Sequence[torch.Tensor]  # [image tokens, D] of each image, before the first of these blocks
    deepstack_features: Sequence[Sequence[torch.Tensor]]  # the same before each of them, in the config's order


def injected_features(model: Any, inputs: Mapping[str, torch.Tensor]) -> InjectedFeatures:
    """Return Granite 4 Vision's features: its image tokens are zero until these are added to them."""
    by_block = image_features(model, inputs).deepstack_features  # [(block, features)]
    return InjectedFeatures(min(by_block, key=lambda pair: pair[0])[1], [added for _, added in by_block])


@contextmanager
def pass_injected(
    model: Any, features: InjectedFeatures, images: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Do as `pass_features`, for the output of `injected_features`."""
    config = model.config
    blocks = [*(block for _, block in config.deepstack_layer_map), *config.spatial_target_layers]
    output = BaseModelOutput()
    output.deepstack_features = list(zip(blocks, features.deepstack_features, strict=True))
    cache = DynamicCache(config=config.get_text_config())  # the decoder does not make one itself
    with pass_features(model, output, images, inputs) as arguments:
        yield ImageArguments({**arguments.now, **pass_cache(model, cache)})


def split_by_prompt(features: Any, images: Sequence[int], tokens: Sequence[int]) -> list[Any]:
    """Split the features of several prompts' images, as if those of each prompt had been computed alone.

    Prompt k shows `images[k]` of the images, which have `tokens[k]` tokens together.
    """
    pooled = features.pooler_output
    deepstack = getattr(features, "deepstack_features", None)
    alone = []
    for k, end in enumerate(accumulate(images)):
        own = slice(end - images[k], end)
        part: dict[str, Any] = {"pooler_output": pooled[own]}
        if deepstack is not None:
            part["deepstack_features"] = [_of_prompt(layer, own, tokens, k) for layer in deepstack]
        alone.append(_like(features, part))
    return alone


def _of_prompt(layer: Any, images: slice, tokens: Sequence[int], k: int) -> Any:
    if isinstance(layer, torch.Tensor):  # transformers 5.17: [tokens of all images, D]
        return layer.split(list(tokens))[k]
    return layer[images]


def join_features(features: Sequence[Any]) -> Any:
    """Join the features of consecutive prompts as those of one call."""
    first = features[0]
    if len(features) == 1:
        return first
    names = [name for name in _JOIN if getattr(first, name, None) is not None]
    return _like(first, {name: _JOIN[name]([getattr(image, name) for image in features]) for name in names})


def image_tokens(features: Any) -> torch.Tensor:
    """Return [image tokens, D] of one prompt's images, as the decoder reads them."""
    pooled = features.pooler_output
    parts = [pooled] if isinstance(pooled, torch.Tensor) else pooled
    return torch.cat([part.flatten(0, -2) for part in parts])


def _like(features: Any, values: Mapping[str, Any]) -> Any:
    """Return features of the same type. In 5.17 some models set fields that their output's type has not."""
    known = {known.name for known in fields(features)}
    made = type(features)(**{name: value for name, value in values.items() if name in known})
    for name in values.keys() - known:
        setattr(made, name, values[name])
    return made


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], torch.Tensor):
        tokens = len({part.shape[1:] for part in parts}) > 1  # [1, image tokens, D] each: HunYuan in 5.17
        return torch.cat(list(parts), dim=int(tokens))
    return [tensor for part in parts for tensor in part]


def _concatenate_layers(parts: Sequence[Any]) -> Any:
    return [_concatenate(layer) for layer in zip(*parts, strict=True)]


def _take_first(parts: Sequence[Any]) -> Any:
    return parts[0]


_JOIN: dict[str, Callable[[Sequence[Any]], Any]] = {
    "pooler_output": _concatenate,
    "deepstack_features": _concatenate_layers,
    "cross_attention_states": _concatenate,  # this and the next: images that enter by cross-attention
    "tile_mask": _concatenate,
    "unprojected": _concatenate,
    "visual_indicator_features": _take_first,  # Ovis 2: rows of a table, not of a picture
}
