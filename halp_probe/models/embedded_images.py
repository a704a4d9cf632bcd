"""Images that a model processes while it embeds its tokens: features computed separately, and put into a prompt.

Legend: B prompts, T tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from halp_probe.models.image_entry import ImageArguments


@dataclass(frozen=True)
class EmbeddedFeatures:
    """Embeddings at the image tokens of one or more prompts."""

    pooler_output: torch.Tensor  # [image tokens, D]


def phi4_features(model: Any, inputs: Mapping[str, torch.Tensor]) -> EmbeddedFeatures:
    """Run Phi-4-multimodal's embedding on a prompt of image tokens only; raises if their number is unexpected."""
    embed = model.model.embed_tokens_extend.image_embed
    mask = inputs["image_attention_mask"].float()  # it is summed: bfloat16 cannot count beyond 256
    width = model.config.hidden_size
    ids = torch.full((1, _tokens(embed, inputs["image_sizes"], mask)), _image_token_id(model), device=mask.device)
    embedded = embed(
        ids,
        torch.zeros(*ids.shape, width, dtype=model.dtype, device=mask.device),
        image_pixel_values=inputs["image_pixel_values"],
        image_sizes=inputs["image_sizes"],
        image_attention_mask=mask,
    )
    return EmbeddedFeatures(embedded[0])


def _tokens(embed: Any, image_sizes: torch.Tensor, mask: torch.Tensor) -> int:
    """Count image tokens: unpadded pooled patches of crops and whole image, a separator after each row and between."""
    rows, columns = (int(side) // embed.crop_size for side in image_sizes[0])  # of crops; the first is the whole image
    pooled = mask[0, : 1 + rows * columns, ::2, ::2]  # [crops, side, side]
    line_ends = pooled[1:].unflatten(0, (rows, columns))[:, 0, :, 0].sum()  # in the leftmost crops
    return int(pooled.sum() + line_ends + pooled.shape[1] + 1)


@contextmanager
def put_in_embeddings(
    model: Any, features: EmbeddedFeatures, _images: Mapping[str, torch.Tensor], _inputs: Mapping[str, torch.Tensor]
) -> Iterator[ImageArguments]:
    """Put the features at the image tokens of one call of the model, without images, inside the context.

    Raises RuntimeError if the tokens are not embedded exactly once, or if their number is not that of the features.
    """
    n_calls = 0

    def put(_module: Any, args: tuple[torch.Tensor, ...], embedded: torch.Tensor) -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        at = args[0] == _image_token_id(model)  # [B, T]
        if int(at.sum()) != len(features.pooler_output):
            raise RuntimeError(f"{len(features.pooler_output)} image features for {int(at.sum())} image tokens")
        return embedded.masked_scatter(at[..., None], features.pooler_output.to(embedded))

    hook = model.get_input_embeddings().register_forward_hook(put)
    try:
        yield ImageArguments({})
    finally:
        hook.remove()
    if n_calls != 1:
        raise RuntimeError(f"the model embedded its tokens {n_calls} times in one call, expected once")


def _image_token_id(model: Any) -> int:
    return int(model.config.vision_config.image_token_id)
