"""What is known of each model family, by `config.model_type`: a literal table, where a wrong row fails its proof.

To add a family: one row here and one line in `tests/tiny_models.py`; `tests/test_equality.py` then proves it.
Legend: B rows of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from halp_probe.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class RowPositions:
    """Rotary positions of a padded prompt batch."""

    ids: torch.Tensor  # what the decoder takes: [3, B, T] (mRoPE) or [B, T]
    next: torch.Tensor  # [B], the position of the first answer token


@dataclass(frozen=True)
class TokenTypes:
    """One number a token beside the ids, and who reads it."""

    name: str  # as the processor returns it and the decoder takes it
    for_decoder: bool  # the prefill takes it (answer tokens never do); otherwise it is for `positions` alone
    padding: int  # the type of tokens that are part of no block


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts (dotted paths from the loaded model) and how its inputs are made."""

    decoder_blocks: str
    feed_forward: str  # of a decoder block: the module that treats each position by itself
    projector: str  # its input is the vision encoder's output, its output has the decoder's width
    image_token_id: str  # attribute of the config
    image_inputs: tuple[str, ...]  # what the processor returns for images, as `get_image_features` names it
    token_types: TokenTypes | None
    positions: Callable[[Any, Mapping[str, torch.Tensor]], RowPositions]
    position_axes: int  # 3 for mRoPE, else 1
    qwen_vl_utils: bool  # images are resized by qwen-vl-utils, and by nothing else
    unused_outputs: tuple[str, ...] = ()  # what the processor returns that no prompt needs
    prefix_lm: bool = False  # image tokens see the question: nothing can be shared between questions on one image
    packed_tower: str | None = None  # the vision tower, where it attends within the chunks of `cu_seqlens`
    patch_projection: str | None = None  # a convolution over patches that are cut already, each as large as its kernel

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        blocks: nn.ModuleList = attrgetter(self.decoder_blocks)(model)
        return blocks

    def on_axes(self, text_positions: torch.Tensor) -> torch.Tensor:
        """Positions [B, T] of text tokens as the decoder takes them: the same on all axes."""
        return text_positions.expand(3, -1, -1) if self.position_axes == 3 else text_positions

    @property
    def grids(self) -> tuple[str, ...]:
        """The image inputs beside the pixels."""
        return tuple(name for name in self.image_inputs if name != "pixel_values")

    @property
    def decoder_inputs(self) -> tuple[str, ...]:
        """What the prefill takes beside positions and images, [B, T] each."""
        types = self.token_types
        return ("input_ids", "attention_mask", *([types.name] if types is not None and types.for_decoder else []))


def mrope_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Qwen-VL's three-dimensional positions, computed here and passed on: `model.rope_deltas` is mutable state."""
    ids, delta = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )
    return RowPositions(ids=ids, next=inputs["attention_mask"].sum(1) + delta[:, 0])


def plain_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """0, 1, 2, … over the tokens that are not padding."""
    mask = inputs["attention_mask"]
    return RowPositions(ids=(mask.cumsum(1) - 1).clamp(min=0), next=mask.sum(1))


def plain_positions_from_one(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """1, 2, 3, … over the tokens that are not padding."""
    plain = plain_positions(model, inputs)
    return RowPositions(ids=plain.ids + 1, next=plain.next + 1)


_QWEN = Family(  # attention is causal, also among image tokens
    decoder_blocks="model.language_model.layers",
    feed_forward="mlp",
    projector="model.visual.merger",
    image_token_id="image_token_id",
    image_inputs=("pixel_values", "image_grid_thw"),
    token_types=TokenTypes("mm_token_type_ids", for_decoder=False, padding=0),  # 1 = image
    positions=mrope_positions,
    position_axes=3,
    qwen_vl_utils=True,
    packed_tower="model.visual",
    patch_projection="model.visual.patch_embed.proj",
)

FAMILIES: dict[str, Family] = {
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,  # DeepStack adds to the image positions after blocks 0-2: a hook reads the value before that
    "llava": Family(  # attention is causal, also among image tokens
        decoder_blocks="model.language_model.layers",
        feed_forward="mlp",
        projector="model.multi_modal_projector",
        image_token_id="image_token_id",
        image_inputs=("pixel_values",),
        token_types=None,
        positions=plain_positions,
        position_axes=1,
        qwen_vl_utils=False,
    ),
    "gemma3": Family(  # image tokens see what comes before and all of their image, never the question after it
        decoder_blocks="model.language_model.layers",
        feed_forward="mlp",
        projector="model.multi_modal_projector",
        image_token_id="image_token_id",
        image_inputs=("pixel_values",),
        token_types=TokenTypes("token_type_ids", for_decoder=True, padding=0),  # 1 = image, 0 = causal text
        positions=plain_positions,
        position_axes=1,
        qwen_vl_utils=False,
    ),
    "paligemma": Family(  # every prompt token sees every other: at the image tokens the question is known already
        decoder_blocks="model.language_model.layers",
        feed_forward="mlp",
        projector="model.multi_modal_projector",
        image_token_id="image_token_id",
        image_inputs=("pixel_values",),
        token_types=TokenTypes("token_type_ids", for_decoder=True, padding=1),  # 0 = prompt, 1 = causal answer
        positions=plain_positions_from_one,
        position_axes=1,
        qwen_vl_utils=False,
        unused_outputs=("labels",),  # for training: the prompt masked out
        prefix_lm=True,
    ),
}


def family_of(model_type: str) -> Family:
    """The row of this `config.model_type`; InputError with what to add when there is none."""
    if model_type not in FAMILIES:
        raise InputError(
            f"model_type {model_type!r} is not supported (supported: {', '.join(FAMILIES)}). To add it: a row "
            f"FAMILIES[{model_type!r}] in halp_probe/models/families.py with the paths of its decoder blocks and "
            "projector and its image token, and a tiny config in tests/tiny_models.py that proves it"
        )
    return FAMILIES[model_type]
