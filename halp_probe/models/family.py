"""Rows of the table of families, and the position ids that decoders take.

Legend: B rows of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from halp_probe.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from halp_probe.models.image_entry import ImageArguments


@dataclass(frozen=True)
class RowPositions:
    """Positions of a padded prompt batch."""

    ids: torch.Tensor  # as the decoder takes them: [axes, B, T] (mRoPE) or [B, T]
    next: torch.Tensor  # [B], the position of the first answer token


@dataclass(frozen=True, kw_only=True)
class TokenTypes:
    """Numbers that a family needs for each token besides its id, and what reads them."""

    name: str  # as the processor returns it and the decoder takes it
    for_decoder: bool  # the prefill takes it (answer tokens never do); otherwise it is for `positions` alone
    padding: int  # the type of tokens outside any block
    block: int | None = None  # the type of tokens that image tokens see both ways; a shared prefix has all of them
    after_prefix: bool = False  # tokens after a shared prefix need types, too


def plain_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Count positions 0, 1, 2, … over the tokens that are not padding."""
    mask = inputs["attention_mask"]
    return RowPositions(ids=(mask.cumsum(1) - 1).clamp(min=0), next=mask.sum(1))


def plain_positions_from_one(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Count positions 1, 2, 3, … over the tokens that are not padding."""
    plain = plain_positions(model, inputs)
    return RowPositions(ids=plain.ids + 1, next=plain.next + 1)


def mrope_positions(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Compute Qwen-VL's three-dimensional positions, to be passed on: `model.rope_deltas` is mutable state."""
    ids, delta = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )
    return RowPositions(ids=ids, next=inputs["attention_mask"].sum(1) + delta[:, 0])


def mrope_positions_by_id(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Compute them if the row's token types have another meaning: image tokens are recognised by their id."""
    return mrope_positions(model, {**inputs, "mm_token_type_ids": inputs["input_ids"] == model.config.image_token_id})


def mrope_positions_by_row(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Compute them one row at a time: if a position counts images, `get_rope_index` counts across the whole batch."""
    import torch

    rows = [
        mrope_positions(model, {name: tensor[row : row + 1] for name, tensor in inputs.items()})
        for row in range(len(inputs["input_ids"]))
    ]
    return RowPositions(ids=torch.cat([row.ids for row in rows], dim=1), next=torch.cat([row.next for row in rows]))


def mrope_positions_on_canvas(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Compute those of MiniCPM-V 4.7, whose images are known by the sizes of their slices, in patches."""
    ids, delta = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        target_sizes=inputs["target_sizes"],
        attention_mask=inputs["attention_mask"],
    )
    return RowPositions(ids=ids, next=inputs["attention_mask"].sum(1) + delta[:, 0])


def mrope_positions_of_omni(model: Any, inputs: Mapping[str, torch.Tensor]) -> RowPositions:
    """Compute those of a Qwen-Omni, whose `get_rope_index` recognises images by their ids.

    It counts on a token behind each image, which a prefix that ends with one has not: one more is added here.
    """
    import torch

    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    positions, delta = model.get_rope_index(
        torch.nn.functional.pad(ids, (0, 1), value=0),  # [B, T + 1]
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=torch.nn.functional.pad(mask, (0, 1), value=1),
    )
    return RowPositions(ids=positions[..., :-1].long(), next=mask.sum(1) + delta[:, 0].long())


Tensors: TypeAlias = "Mapping[str, torch.Tensor]"
Positions: TypeAlias = "Callable[[Any, Tensors], RowPositions]"  # (model, prompt inputs) -> position ids
# (config, the output at the encoder's end in each call, the image inputs) -> [patches, V]; see `vision_states.py`
VisionStates: TypeAlias = "Callable[[Any, list[Any], Tensors], torch.Tensor]"
# (model, image inputs) -> the image features that the decoder reads; see `image_entry.py`
Features: TypeAlias = "Callable[[Any, Tensors], Any]"
# (model, features, image inputs, prompt inputs) -> the arguments of the call that reads the images
Entry: TypeAlias = "Callable[[Any, Any, Tensors, Tensors], AbstractContextManager[ImageArguments]]"


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Description of a family in words, for `docs/families.md`."""

    checkpoint: str  # a well-known one, by its hub name
    vision_only: str = "mean over the image's tokens as they enter the decoder"
    vision_encoder: str = "mean over the patches of the last block that the projector reads"
    vision_token: str = "the last image token"
    attention: str = "causal"  # what image tokens attend to
    oddities: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Places of a family's parts (dotted paths from the loaded model), and how its inputs are made."""

    notes: Notes
    features: Features
    entry: Entry
    vision_states: VisionStates
    positions: Positions = plain_positions
    position_axes: int = 1  # 3 or 4 for mRoPE
    position_inputs: tuple[str, ...] = ()  # the image inputs that `positions` needs
    decoder_blocks: str = "model.language_model.layers"
    feed_forward: str | None = "mlp"  # of the last decoder block: a module that treats each position by itself
    block_states: Callable[[Any], torch.Tensor] | None = None  # output of a block -> [B, T, D], if it is not that
    projector: str = "model.multi_modal_projector"  # its input ends the vision encoder …
    encoder: str | None = None  # … or this module's output, where the two are not the same place
    cross_attention: bool = False  # the image has no tokens in the prompt but one that stands for it
    image_token_id: str = "image_token_id"  # attribute of the config (dotted in a sub-config)
    image_marks: str | None = None  # attribute of the config: ids of further tokens whose embeddings are the image's
    image_inputs: tuple[str, ...] = ("pixel_values",)  # what the processor returns for images
    optional_image_inputs: tuple[str, ...] = ()  # of some processors; images with them are processed one at a time
    images_together: bool = False  # one call for all images of a batch; all have as many patches an image token
    unused_outputs: tuple[str, ...] = ()  # outputs of the processor that no prompt needs
    token_types: TokenTypes | None = None
    qwen_vl_utils: bool = False  # images are resized by qwen-vl-utils only
    area_bounds: bool = False  # the processor itself resizes to an area between two bounds, as Qwen's do
    ignored_generation: tuple[str, ...] = ()  # settings of generation_config that `generate` ignores for text
    unshared: str = ""  # why questions on one image cannot share its prefix; empty: they can
    several_images: str = ""  # why a prompt cannot show several; empty: it can
    text_only: str = ""  # why a prompt cannot be without an image; empty: it can
    column_limit: str | None = None  # attribute of the text config: from this column on, padding changes states
    answer_limit: str | None = None  # attribute of the text config: padding changes longer answers
    right_padding: bool = True  # False: padding after a prompt would change its answer
    packed_tower: str | None = None  # the vision tower, if it attends within the chunks of `cu_seqlens`
    patch_projection: str | None = None  # a convolution over patches that are already cut to its kernel's size
    auto_class: str = "AutoModelForImageTextToText"
    looked_up: bool = False  # not from the table: to be checked on the first samples

    def refuses(self, images: int) -> str:
        """Return why a prompt cannot show this many images, worded to follow "takes"; empty: it can."""
        if images > 1 and self.several_images:
            return f"one image a prompt: {self.several_images}"
        if images == 0 and self.text_only:
            return f"no prompt without an image: {self.text_only}"
        return ""

    @property
    def takes_pixel_bounds(self) -> bool:
        """Return whether the area of an image after resizing can be bounded."""
        return self.qwen_vl_utils or self.area_bounds

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        """Return the decoder blocks of a loaded model.

        Raises InputError if they are elsewhere, as some families' are in older releases of transformers.
        """
        try:
            blocks: nn.ModuleList = attrgetter(self.decoder_blocks)(model)
        except AttributeError as error:
            raise InputError(
                f"{type(model).__name__} of this transformers has no {self.decoder_blocks}; upgrade transformers"
            ) from error
        return blocks

    def on_axes(self, text_positions: torch.Tensor) -> torch.Tensor:
        """Expand positions [B, T] of text tokens to the decoder's axes: the same on all of them."""
        return text_positions.expand(self.position_axes, -1, -1) if self.position_axes > 1 else text_positions

    @property
    def decoder_inputs(self) -> tuple[str, ...]:
        """Names of the prefill's inputs besides positions and images, [B, T] each."""
        types = self.token_types
        return ("input_ids", "attention_mask", *([types.name] if types is not None and types.for_decoder else []))
