"""What differs between the supported releases of transformers (5.17 to 5.23), each told by what the release has.

Nothing else in the package asks which release it runs on. When `setup.cfg`'s bound rises to 5.18, all of it can go.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils.hub import cached_file

try:
    from transformers.utils.hub import resolve_revision
except ImportError:  # 5.17
    resolve_revision = None


def takes_features(model: Any) -> bool:
    """Whether `forward` names the argument: without it (5.17) the value would vanish in `**kwargs`, without a word."""
    return "mm_encoder_outputs" in inspect.signature(type(model).forward).parameters


@contextmanager
def image_arguments(model: Any, features: Any, images: Mapping[str, torch.Tensor]) -> Iterator[dict[str, Any]]:
    """Inside the context, one call of the model with these arguments sees `features`; its vision tower does not run.

    `features` is what `model.get_image_features(**images)` returned, for the images of the call's rows in order. Where
    `forward` takes no features, `images` are passed and `get_image_features` hands out `features` instead of looking;
    it is itself again at the end, also after an error. Raises RuntimeError when a call took them not exactly once.
    """
    if takes_features(model):
        yield {"mm_encoder_outputs": {"image": features}}
        return
    taken = 0

    def hand_out(*_args: Any, **_kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        return features

    inner = model.model
    inner.get_image_features = hand_out  # on this instance, in front of the class's method
    try:
        yield dict(images)
    finally:
        del inner.get_image_features
    if taken != 1:
        raise RuntimeError(f"{type(inner).__name__} took the image features {taken} times in one call, expected once")


def select_images(features: Any, tokens: Sequence[int], images: Sequence[int]) -> Any:
    """`features` as if `get_image_features` had been given these images, of which each has `tokens[image]` tokens."""
    pooled = features.pooler_output
    chosen = [pooled[image] for image in images]
    selected = {"pooler_output": chosen if isinstance(pooled, list | tuple) else torch.stack(chosen)}
    if getattr(features, "deepstack_features", None) is not None:
        selected["deepstack_features"] = [_select(layer, tokens, images) for layer in features.deepstack_features]
    return type(features)(**selected)


def _select(layer: Any, tokens: Sequence[int], images: Sequence[int]) -> Any:
    if isinstance(layer, torch.Tensor):  # 5.17: [tokens of all images, D]
        return torch.cat([layer.split(list(tokens))[image] for image in images])
    return [layer[image] for image in images]


def hub_commit(name: str, revision: str | None, *, cache_dir: str | None) -> str | None:
    """The hub's commit of `revision` (None = the default branch) of the model `name`, from the cache when offline.

    Where it cannot be told: `revision` as it is, or transformers' own OSError; 5.17 asks by fetching `config.json`.
    """
    if resolve_revision is None:
        return Path(cached_file(name, "config.json", revision=revision, cache_dir=cache_dir)).parent.name
    resolved = resolve_revision(name, revision, cache_dir=cache_dir)
    return getattr(resolved, "resolved", resolved)
