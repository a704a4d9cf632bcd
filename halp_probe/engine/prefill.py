"""Read prompts up to their query tokens, each as a whole or after the prefix that prompts on its image share.

Legend: B prompts, I images, P prefix, S suffix and T whole tokens (padded), L probed layers, D decoder width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from halp_probe.engine.capture import capture_means, capture_outputs, restrict_positions, select_columns
from halp_probe.engine.prefix import ImageGroups, shared_tokens
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.vision import ImageFeatures
from halp_probe.errors import InputError
from halp_probe.models.compat import cache_of, pass_cache, takes_columns
from halp_probe.models.family import RowPositions, plain_positions
from halp_probe.models.image_entry import ImageArguments
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """Result of reading B prompts. Padding may stand anywhere: see `attention_mask`."""

    vision_states: torch.Tensor  # [L, K, D] at the vision tokens that were read
    vision_row: list[int]  # index among the K of each prompt, shared with its image; empty without images
    image_means: torch.Tensor | None  # [L, K, D] float32; None if they are not read
    question_states: torch.Tensor | None  # [L, B, D] at the question's end; None likewise
    query_states: torch.Tensor  # [L, B, D]
    logits: torch.Tensor  # [B, V] at the query token
    cache: Any  # of T tokens of B prompts; None if it was not requested
    input_ids: torch.Tensor  # [B, T]
    attention_mask: torch.Tensor  # [B, T]
    next_position: torch.Tensor  # [B], of the first answer token
    later: dict[str, torch.Tensor]  # [B, 1, …], further arguments of each later token

    def take(self, rows: Sequence[int]) -> Prefill:
        """Return these prompts alone. The cache is the same object, and holds no other prompts afterwards."""
        index = torch.tensor(rows, device=self.logits.device)
        self.cache.reorder_cache(index)  # also selects: `batch_select_indices` fails for recurrent layers
        return replace(
            self,
            vision_row=[self.vision_row[row] for row in rows] if self.vision_row else [],
            question_states=None if self.question_states is None else self.question_states[:, index],
            query_states=self.query_states[:, index],
            logits=self.logits[index],
            input_ids=self.input_ids[index],
            attention_mask=self.attention_mask[index],
            next_position=self.next_position[index],
            later={name: tensor[index] for name, tensor in self.later.items()},
        )

    def copy(self, rows: Sequence[int]) -> Prefill:
        """Return these prompts with a cache of their own, so that this one stays as it is."""
        return replace(self, cache=deepcopy(self.cache)).take(rows)


@dataclass(frozen=True, kw_only=True)
class _Prefixes:
    """Result of reading the shared prefixes of the prompts on I images."""

    lengths: list[int]  # tokens of each, without padding
    vision_states: torch.Tensor  # [L, I, D]
    image_means: torch.Tensor | None  # [L, I, D] float32
    cache: Any  # of P tokens of I prefixes
    input_ids: torch.Tensor  # [I, P]
    attention_mask: torch.Tensor  # [I, P]
    next_position: torch.Tensor  # [I]
    later: dict[str, torch.Tensor]  # [I, 1, …]


class _Read:
    """Blocks' outputs of one forward pass, by layer, at K places; and their means over the image, where asked for."""

    def __init__(self, layers: Sequence[int], places: int, device: torch.device) -> None:
        self._layers, self._places, self._device = layers, places, device
        self.states_of: dict[int, torch.Tensor] = {}  # layer -> [K, D]
        self.means_of: dict[int, torch.Tensor] = {}  # layer -> [B, D] float32; empty if none is asked for

    @property
    def states(self) -> torch.Tensor:
        """States of all layers: [L, K, D]."""
        if not self._layers:
            return torch.empty(0, self._places, 0, device=self._device)
        return self._stack(self.states_of)

    @property
    def means(self) -> torch.Tensor | None:
        """Means of all layers: [L, B, D] float32; None if none is asked for."""
        return self._stack(self.means_of) if self.means_of else None

    def _stack(self, by_layer: Mapping[int, torch.Tensor]) -> torch.Tensor:
        return torch.stack([by_layer[layer].to(self._device) for layer in self._layers])


class Prefiller:
    """A model, what to read of it, and the padding side. The images of a batch are those of `vision`, in order.

    Raises InputError for a mean over the image's tokens where the family's image is no sequence of tokens.
    """

    def __init__(self, loaded: LoadedModel, spec: CaptureSpec, padding_side: str = "left") -> None:
        self.model, self.device, self.family = loaded.model, loaded.device, loaded.checkpoint.family
        self.layers, self.padding_side = spec.layers, padding_side
        self._question_end = "question-end" in spec.positions
        self._image_mean = "image-mean" in spec.positions
        check_positions(spec, loaded)
        self._image_token_id = loaded.checkpoint.image_token_id
        blocks = self.family.blocks(loaded.model)
        self._blocks = {layer: blocks[layer] for layer in spec.layers}
        feed_forward = self.family.feed_forward
        self._last_feed_forward = None if feed_forward is None else blocks[-1].get_submodule(feed_forward)
        padding_id = loaded.checkpoint.processor.tokenizer.pad_token_id
        self._padding_id = 0 if padding_id is None else int(padding_id)

    def read_whole(
        self, prompts: Sequence[Prompt], images: ImageGroups, vision: ImageFeatures | None, *, keep_cache: bool
    ) -> Prefill:
        """Read every prompt as a whole; prompts on one image share only the vision tower's work.

        `vision` is None for prompts of text alone.
        """
        inputs, positions = self._place_tokens(prompts, [len(prompt) for prompt in prompts])
        queries = _columns(inputs, [prompt.positions.query_index for prompt in prompts])
        rows = torch.arange(len(prompts), device=self.device)
        logit_columns, at = queries.unique(return_inverse=True)  # left padding: one column for all
        columns = self._behind_images(inputs, prompts, [0] * len(prompts))
        entry: AbstractContextManager[ImageArguments] = nullcontext(ImageArguments({}))
        if vision is not None:
            ends = _columns(inputs, [prompt.positions.vision_index for prompt in prompts])
            columns = torch.cat([ends, columns])
            entry = self.family.entry(self.model, vision.features_of(images.image_of), vision.inputs, inputs)
        with (
            entry as image,
            self._read_at(rows.repeat(len(columns) // len(rows)), columns, self._images_in(inputs, vision)) as read,
            self._logits_at(logit_columns) as logit_options,
        ):
            outputs = self.model(
                **inputs,
                **image.now,
                **logit_options,
                position_ids=positions.ids,
                use_cache=keep_cache,
            )
        vision_states, question_states, query_states = self._split(read, len(rows))
        return Prefill(
            vision_states=vision_states,
            vision_row=list(range(len(prompts))) if vision is not None else [],
            image_means=read.means,
            question_states=question_states,
            query_states=query_states,
            logits=outputs.logits.to(self.device)[rows, at],
            cache=cache_of(outputs),
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            next_position=positions.next,
            later=image.later,
        )

    def read_shared(self, prompts: Sequence[Prompt], images: ImageGroups, vision: ImageFeatures) -> Prefill:
        """Read the shared prefix of the prompts on an image once, then the rest of each, on that image's cache.

        Raises PrefixError if prompts on one image do not share a prefix with it.
        """
        prefix = self._prefixes([[prompts[row] for row in rows] for rows in images.rows], vision)
        starts = [prefix.lengths[image] for image in images.image_of]
        suffix = self._pad_rows([prompt.input_ids[start:] for prompt, start in zip(prompts, starts, strict=True)])
        queries = _columns(suffix, [p.positions.query_index - start for p, start in zip(prompts, starts, strict=True)])
        count = suffix["attention_mask"].cumsum(1)  # [B, S]: 1, 2, … over the tokens that are not padding
        columns = self._behind_images(suffix, prompts, starts)
        rows, image = torch.arange(len(prompts), device=self.device), torch.tensor(images.image_of, device=self.device)
        ids = prefix.next_position[image][:, None] + (count - 1).clamp(min=0)
        mask = torch.cat([prefix.attention_mask[image], suffix["attention_mask"]], dim=1)  # [B, P + S]
        prefix.cache.reorder_cache(image)
        later = {name: tensor[image] for name, tensor in prefix.later.items()}
        logit_columns, at = queries.unique(return_inverse=True)
        reading = self._read_at(rows.repeat(len(columns) // len(rows)), columns)
        with reading as read, self._logits_at(logit_columns) as logit_options:
            outputs = self.model(
                input_ids=suffix["input_ids"],
                attention_mask=mask,
                position_ids=self.family.on_axes(ids),
                **pass_cache(self.model, prefix.cache),
                use_cache=True,
                **logit_options,
                **self._suffix_types(prompts, starts),
                **expand_tokens(later, suffix["input_ids"].shape[1]),
            )
        _, question_states, query_states = self._split(read, len(rows))
        return Prefill(
            vision_states=prefix.vision_states,
            vision_row=images.image_of,
            image_means=prefix.image_means,
            question_states=question_states,
            query_states=query_states,
            logits=outputs.logits.to(self.device)[rows, at],
            cache=cache_of(outputs),
            input_ids=torch.cat([prefix.input_ids[image], suffix["input_ids"]], dim=1),
            attention_mask=mask,
            next_position=prefix.next_position[image] + count[:, -1],
            later=later,
        )

    def _prefixes(self, groups: Sequence[Sequence[Prompt]], vision: ImageFeatures) -> _Prefixes:
        """Read the shared prefix of each image's prompts."""
        firsts, lengths = [group[0] for group in groups], [shared_tokens(group) for group in groups]
        inputs, positions = self._place_tokens(firsts, lengths)
        ends = _columns(inputs, [prompt.positions.vision_index for prompt in firsts])
        with (
            self.family.entry(self.model, vision.features_of(range(len(groups))), vision.inputs, inputs) as image,
            self._read_at(torch.arange(len(groups), device=self.device), ends, self._images_in(inputs, vision)) as read,
            self._logits_at(ends.new_empty(0)) as logit_options,
        ):
            outputs = self.model(
                **inputs,
                **image.now,
                **logit_options,
                position_ids=positions.ids,
                use_cache=True,
            )
        return _Prefixes(
            lengths=lengths,
            vision_states=read.states,
            image_means=read.means,
            cache=cache_of(outputs),
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            next_position=positions.next,
            later=image.later,
        )

    def _place_tokens(
        self, prompts: Sequence[Prompt], lengths: Sequence[int]
    ) -> tuple[dict[str, torch.Tensor], RowPositions]:
        """Return the model's inputs for the first `lengths[k]` tokens of each prompt, and their positions."""
        inputs = self._pad_rows([prompt.input_ids[:end] for prompt, end in zip(prompts, lengths, strict=True)])
        if types := self.family.token_types:
            rows = [prompt.token_types for prompt in prompts if prompt.token_types is not None]
            inputs[types.name] = self._pad([row[:end] for row, end in zip(rows, lengths, strict=True)], types.padding)
        decoder_inputs = {name: inputs[name] for name in self.family.decoder_inputs}
        if not prompts[0].image_count:
            plain = plain_positions(self.model, inputs)
            return decoder_inputs, replace(plain, ids=self.family.on_axes(plain.ids))
        names = self.family.position_inputs
        grids = {name: torch.cat([prompt.images[name] for prompt in prompts]).to(self.device) for name in names}
        return decoder_inputs, self.family.positions(self.model, {**inputs, **grids})

    def _suffix_types(self, prompts: Sequence[Prompt], starts: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the token types from `starts[k]` on, [B, S], if the decoder takes them."""
        types = self.family.token_types
        if types is None or not types.after_prefix:
            return {}
        rows = [prompt.token_types for prompt in prompts if prompt.token_types is not None]
        return {types.name: self._pad([row[start:] for row, start in zip(rows, starts, strict=True)], types.padding)}

    def _pad_rows(self, rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask`, [B, T] each."""
        return {
            "input_ids": self._pad(rows, self._padding_id),
            "attention_mask": self._pad([np.ones_like(row) for row in rows], 0),
        }

    @contextmanager
    def _read_at(
        self, rows: torch.Tensor, columns: torch.Tensor, images: torch.Tensor | None = None
    ) -> Iterator[_Read]:
        """Read K places, and the means over `images` [B, T], in one forward pass inside the context.

        The pass's last hidden state is valid only there.
        """
        read, states_of = _Read(self.layers, len(rows), self.device), self.family.block_states
        means: AbstractContextManager[dict[int, torch.Tensor]] = nullcontext({})
        restricted: AbstractContextManager[None] = restrict_positions(self._last_feed_forward, rows, columns)
        if images is not None:
            means, restricted = capture_means(self._blocks, images, states_of), nullcontext()
        with (
            restricted,
            means as read.means_of,
            capture_outputs(self._blocks, rows, columns, states_of) as read.states_of,
        ):
            yield read

    def _images_in(self, inputs: Mapping[str, torch.Tensor], vision: ImageFeatures | None) -> torch.Tensor | None:
        """Return where the image's tokens stand, [B, T] bool; None if there are none or no mean over them is read."""
        if vision is None or not self._image_mean or not self.layers:
            return None
        return (inputs["input_ids"] == self._image_token_id) & inputs["attention_mask"].bool()

    def _behind_images(
        self, inputs: dict[str, torch.Tensor], prompts: Sequence[Prompt], starts: Sequence[int]
    ) -> torch.Tensor:
        """Return the columns to read behind the images, of tokens from `starts[k]` on: question ends, then queries."""
        read = [[prompt.positions.query_index for prompt in prompts]]
        if self._question_end:
            read.insert(0, [prompt.positions.question_end_index for prompt in prompts])
        return torch.cat(
            [_columns(inputs, [index - start for index, start in zip(each, starts, strict=True)]) for each in read]
        )

    def _split(self, read: _Read, rows: int) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the states at the vision tokens, the questions' ends (if read) and the query tokens, [L, …, D]."""
        states, behind = read.states, (2 if self._question_end else 1) * rows
        ahead = states.shape[1] - behind
        question = states[:, ahead : ahead + rows] if self._question_end else None
        return states[:, :ahead], question, states[:, -rows:]

    @contextmanager
    def _logits_at(self, columns: torch.Tensor) -> Iterator[dict[str, torch.Tensor]]:
        """Yield arguments with which one call inside the context returns logits at these columns alone."""
        if takes_columns(self.model):
            yield {"logits_to_keep": columns}
            return
        head = self.model.get_output_embeddings()
        with select_columns(self.model.language_model.lm_head if head is None else head, columns):
            yield {}

    def _pad(self, rows: list[np.ndarray], value: int) -> torch.Tensor:
        tensors = [torch.from_numpy(row) for row in rows]
        padded = pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=self.padding_side)
        return padded.to(self.device)


def check_positions(spec: CaptureSpec, loaded: LoadedModel) -> None:
    """Raise InputError for a mean over the image's tokens where the family's image is no sequence of tokens."""
    if "image-mean" in spec.positions and loaded.checkpoint.family.cross_attention:
        raise InputError(
            f"`positions` image-mean: in {loaded.checkpoint.model_type!r} the image is seen by cross-attention and "
            "stands as one token, so there is no mean; leave it out and read the vision token"
        )


def expand_tokens(later: Mapping[str, torch.Tensor], tokens: int) -> dict[str, torch.Tensor]:
    """Expand the arguments of one later token, [B, 1, …], to this many tokens."""
    return {name: tensor.expand(-1, tokens, *tensor.shape[2:]) for name, tensor in later.items()}


def _columns(inputs: dict[str, torch.Tensor], indices: Sequence[int]) -> torch.Tensor:
    """Return the columns [B] of token `indices[k]` of row k in the padded batch."""
    padding = inputs["attention_mask"].int().argmax(1)  # before each row's first token
    return padding + torch.tensor(indices, device=padding.device)
