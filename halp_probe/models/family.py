"""What one row of the table of families says, and the position ids that decoders take.

Legend: B rows of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn

    from halp_probe.models.image_entry import ImageArguments


@dataclass(frozen=True)
class RowPositions:
    """Positions of a padded prompt batch."""

    ids: torch.Tensor  # what the decoder takes: [axes, B, T] (mRoPE) or [B, T]
    next: torch.Tensor  # [B], the position of the first answer token


@dataclass(frozen=True, kw_only=True)
class TokenTypes:
    """One number a token beside the ids, and who reads it."""

    name: str  # as the processor returns it and the decoder takes it
    for_decoder: bool  # the prefill takes it (answer tokens never do); otherwise it is for `positions` alone
    padding: int  # the type of tokens that are part of no block
    block: int | None = None  # the type of tokens that image tokens see both ways: a shared prefix holds them all
    after_prefix: bool = False  # the tokens behind a shared prefix take theirs too


def plain_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """0, 1, 2, … over the tokens that are not padding."""
    mask = inputs["attention_mask"]
    return RowPositions(ids=(mask.cumsum(1) - 1).clamp(min=0), next=mask.sum(1))


def plain_positions_from_one(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """1, 2, 3, … over the tokens that are not padding."""
    plain = plain_positions(model, inputs)
    return RowPositions(ids=plain.ids + 1, next=plain.next + 1)


def mrope_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Qwen-VL's three-dimensional positions, computed here and passed on: `model.rope_deltas` is mutable state."""
    ids, delta = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )
    return RowPositions(ids=ids, next=inputs["attention_mask"].sum(1) + delta[:, 0])


def mrope_positions_by_id(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """The same, where the row's token types are others: image tokens are told by their id."""
    return mrope_positions(model, {**inputs, "mm_token_type_ids": inputs["input_ids"] == model.config.image_token_id})


def mrope_positions_by_row(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """The same, one row at a time: where a position counts images, `get_rope_index` counts on through the batch."""
    import torch

    rows = [
        mrope_positions(model, {name: tensor[row : row + 1] for name, tensor in inputs.items()})
        for row in range(len(inputs["input_ids"]))
    ]
    return RowPositions(ids=torch.cat([row.ids for row in rows], dim=1), next=torch.cat([row.next for row in rows]))


Tensors: TypeAlias = "Mapping[str, torch.Tensor]"
Positions: TypeAlias = "Callable[[Any, Tensors], RowPositions]"  # (model, prompt inputs) -> position ids
# (config, what the encoder's end gave in each call, the image inputs) -> [patches, V]; see `vision_states.py`
VisionStates: TypeAlias = "Callable[[Any, list[Any], Tensors], torch.Tensor]"
# (model, image inputs) -> what the decoder reads of the images; see `image_entry.py`
Features: TypeAlias = "Callable[[Any, Tensors], Any]"
# (model, features, image inputs, prompt inputs) -> the arguments of the call that reads the images
Entry: TypeAlias = "Callable[[Any, Any, Tensors, Tensors], AbstractContextManager[ImageArguments]]"


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The family in words, for `docs/families.md`."""

    checkpoint: str  # a well-known one, by its hub name
    vision_only: str = "mean over the image's tokens as they enter the decoder"
    vision_encoder: str = "mean over the patches of the last block that the projector reads"
    vision_token: str = "the last image token"
    attention: str = "causal"  # what image tokens see
    oddities: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a family keeps its parts (dotted paths from the loaded model) and how its inputs are made."""

    notes: Notes
    features: Features
    entry: Entry
    vision_states: VisionStates
    positions: Positions = plain_positions
    position_axes: int = 1  # 3 or 4 for mRoPE
    position_inputs: tuple[str, ...] = ()  # the image inputs that `positions` needs
    decoder_blocks: str = "model.language_model.layers"
    feed_forward: str | None = "mlp"  # of the last decoder block: a module that treats each position by itself
    block_states: Callable[[Any], torch.Tensor] | None = None  # what a block returns -> [B, T, D], where it is not that
    projector: str = "model.multi_modal_projector"  # its input ends the vision encoder …
    encoder: str | None = None  # … or this module's output, where the two are not the same place
    cross_attention: bool = False  # the image is no tokens of the prompt: one token stands for it
    image_token_id: str = "image_token_id"  # attribute of the config (dotted where it is in a part of it)
    image_marks: str | None = None  # attribute of the config: ids of further tokens whose embeddings are the image's
    image_inputs: tuple[str, ...] = ("pixel_values",)  # what the processor returns for images
    optional_image_inputs: tuple[str, ...] = ()  # further ones of some processors; images with them go one at a time
    images_together: bool = False  # one call for a batch's images, each with equally many patches an image token
    unused_outputs: tuple[str, ...] = ()  # what the processor returns that no prompt needs
    token_types: TokenTypes | None = None
    qwen_vl_utils: bool = False  # images are resized by qwen-vl-utils, and by nothing else
    ignored_generation: tuple[str, ...] = ()  # of generation_config, what the model's own `generate` ignores for text
    unshared: str = ""  # why questions on one image cannot share its prefix; empty: they can
    several_images: str = ""  # why a prompt cannot show several; empty: it can
    text_only: str = ""  # why a prompt cannot be without an image; empty: it can
    column_limit: str | None = None  # of the text config: padding would show in states from so many columns on
    right_padding: bool = True  # False: padding behind a prompt would show in its answer
    packed_tower: str | None = None  # the vision tower, where it attends within the chunks of `cu_seqlens`
    patch_projection: str | None = None  # a convolution over patches that are cut already, each as large as its kernel
    auto_class: str = "AutoModelForImageTextToText"
    looked_up: bool = False  # not from the table: to be checked on the first sample

    def refuses(self, images: int) -> str:
        """Why a prompt cannot show so many images, to follow "takes"; empty: it can."""
        if images > 1 and self.several_images:
            return f"one image a prompt: {self.several_images}"
        if images == 0 and self.text_only:
            return f"no prompt without an image: {self.text_only}"
        return ""

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        blocks: nn.ModuleList = attrgetter(self.decoder_blocks)(model)
        return blocks

    def on_axes(self, text_positions: torch.Tensor) -> torch.Tensor:
        """Positions [B, T] of text tokens as the decoder takes them: the same on all axes."""
        return text_positions.expand(self.position_axes, -1, -1) if self.position_axes > 1 else text_positions

    @property
    def decoder_inputs(self) -> tuple[str, ...]:
        """What the prefill takes beside positions and images, [B, T] each."""
        types = self.token_types
        return ("input_ids", "attention_mask", *([types.name] if types is not None and types.for_decoder else []))
