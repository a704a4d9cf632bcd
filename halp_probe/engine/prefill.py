"""Read prompts up to their query tokens, each as a whole or after a prefix that the prompts on its image share.

Legend: B prompts, I images, P prefix, S suffix and T whole tokens (padded), L probed layers, D decoder width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from halp_probe.engine.capture import capture_outputs, only_at, only_columns
from halp_probe.engine.prefix import ByImage, shared_tokens
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.vision import Seen
from halp_probe.models.compat import takes_columns
from halp_probe.models.family import RowPositions, plain_positions
from halp_probe.models.image_entry import ImageArguments
from halp_probe.models.loading import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """B prompts, read. Padding may stand anywhere: `attention_mask` tells."""

    vision_states: torch.Tensor  # [L, K, D] at the vision tokens that were read
    vision_row: list[int]  # which of the K is each prompt's; prompts that share an image have one; empty without any
    query_states: torch.Tensor  # [L, B, D]
    logits: torch.Tensor  # [B, V] at the query token
    cache: Any  # of T tokens of B prompts; None when it was not asked for
    input_ids: torch.Tensor  # [B, T]
    attention_mask: torch.Tensor  # [B, T]
    next_position: torch.Tensor  # [B], of the first answer token
    later: dict[str, torch.Tensor]  # [B, 1, …], what each later token takes beside the cache

    def take(self, rows: Sequence[int]) -> Prefill:
        """These prompts alone. The cache is the same object, which afterwards holds no others."""
        index = torch.tensor(rows, device=self.logits.device)
        self.cache.reorder_cache(index)  # any selection: `batch_select_indices` knows no recurrent layers
        return replace(
            self,
            vision_row=[self.vision_row[row] for row in rows] if self.vision_row else [],
            query_states=self.query_states[:, index],
            logits=self.logits[index],
            input_ids=self.input_ids[index],
            attention_mask=self.attention_mask[index],
            next_position=self.next_position[index],
            later={name: tensor[index] for name, tensor in self.later.items()},
        )


@dataclass(frozen=True, kw_only=True)
class _Prefixes:
    """What the prompts on each of I images share, read."""

    lengths: list[int]  # tokens of each, without padding
    vision_states: torch.Tensor  # [L, I, D]
    cache: Any  # of P tokens of I prefixes
    input_ids: torch.Tensor  # [I, P]
    attention_mask: torch.Tensor  # [I, P]
    next_position: torch.Tensor  # [I]
    later: dict[str, torch.Tensor]  # [I, 1, …]


class Prefiller:
    """A model, the layers to read of it, and how to pad. The images of a batch are those that `seen` has, in order."""

    def __init__(self, loaded: LoadedModel, layers: Sequence[int], padding_side: str = "left") -> None:
        self.model, self.device, self.family = loaded.model, loaded.device, loaded.checkpoint.family
        self.layers, self.padding_side = layers, padding_side
        blocks = self.family.blocks(loaded.model)
        self._blocks = {layer: blocks[layer] for layer in layers}
        feed_forward = self.family.feed_forward
        self._last_feed_forward = None if feed_forward is None else blocks[-1].get_submodule(feed_forward)
        padding_id = loaded.checkpoint.processor.tokenizer.pad_token_id
        self._padding_id = 0 if padding_id is None else int(padding_id)

    def whole(self, prompts: Sequence[Prompt], images: ByImage, seen: Seen | None, *, keep_cache: bool) -> Prefill:
        """Every prompt by itself; only the vision tower's work is shared by prompts on one image.

        Prompts of text alone have nothing `seen`.
        """
        inputs, positions = self._placed(prompts, [len(prompt) for prompt in prompts])
        queries = _columns(inputs, [prompt.positions.query_index for prompt in prompts])
        rows = torch.arange(len(prompts), device=self.device)
        kept, at = queries.unique(return_inverse=True)  # left padding: one column for all
        read_rows, columns = rows, queries
        entry: AbstractContextManager[ImageArguments] = nullcontext(ImageArguments({}))
        if seen is not None:
            ends = _columns(inputs, [prompt.positions.vision_index for prompt in prompts])
            read_rows, columns = rows.repeat(2), torch.cat([ends, queries])
            entry = self.family.entry(self.model, seen.features_of(images.image_of), seen.inputs, inputs)
        with (
            entry as image,
            self._read_at(read_rows, columns) as states,
            self._logits_at(kept) as asked,
        ):
            outputs = self.model(
                **inputs,
                **image.now,
                **asked,
                position_ids=positions.ids,
                use_cache=keep_cache,
            )
        stacked = self._stacked(states, len(columns))  # [L, 2B, D]; [L, B, D] of text alone
        return Prefill(
            vision_states=stacked[:, : -len(prompts)],
            vision_row=list(range(len(prompts))) if seen is not None else [],
            query_states=stacked[:, -len(prompts) :],
            logits=outputs.logits.to(self.device)[rows, at],
            cache=outputs.past_key_values,
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            next_position=positions.next,
            later=image.later,
        )

    def shared(self, prompts: Sequence[Prompt], images: ByImage, seen: Seen) -> Prefill:
        """What the prompts on an image share is read once, then what is left of each, on that image's cache.

        Raises PrefixError when prompts on one image do not share it.
        """
        prefix = self._prefixes([[prompts[row] for row in rows] for rows in images.rows], seen)
        starts = [prefix.lengths[image] for image in images.image_of]
        suffix = self._padded([prompt.input_ids[start:] for prompt, start in zip(prompts, starts, strict=True)])
        queries = _columns(suffix, [p.positions.query_index - start for p, start in zip(prompts, starts, strict=True)])
        count = suffix["attention_mask"].cumsum(1)  # [B, S]: 1, 2, … over the tokens that are not padding
        rows, image = torch.arange(len(prompts), device=self.device), torch.tensor(images.image_of, device=self.device)
        ids = prefix.next_position[image][:, None] + (count - 1).clamp(min=0)
        mask = torch.cat([prefix.attention_mask[image], suffix["attention_mask"]], dim=1)  # [B, P + S]
        prefix.cache.reorder_cache(image)
        later = {name: tensor[image] for name, tensor in prefix.later.items()}
        kept, at = queries.unique(return_inverse=True)
        with self._read_at(rows, queries) as states, self._logits_at(kept) as asked:
            outputs = self.model(
                input_ids=suffix["input_ids"],
                attention_mask=mask,
                position_ids=self.family.on_axes(ids),
                past_key_values=prefix.cache,
                use_cache=True,
                **asked,
                **self._types_behind(prompts, starts),
                **along(later, suffix["input_ids"].shape[1]),
            )
        return Prefill(
            vision_states=prefix.vision_states,
            vision_row=images.image_of,
            query_states=self._stacked(states, len(queries)),
            logits=outputs.logits.to(self.device)[rows, at],
            cache=outputs.past_key_values,
            input_ids=torch.cat([prefix.input_ids[image], suffix["input_ids"]], dim=1),
            attention_mask=mask,
            next_position=prefix.next_position[image] + count[:, -1],
            later=later,
        )

    def _prefixes(self, groups: Sequence[Sequence[Prompt]], seen: Seen) -> _Prefixes:
        """Read what each image's prompts share."""
        firsts, lengths = [group[0] for group in groups], [shared_tokens(group) for group in groups]
        inputs, positions = self._placed(firsts, lengths)
        ends = _columns(inputs, [prompt.positions.vision_index for prompt in firsts])
        with (
            self.family.entry(self.model, seen.features_of(range(len(groups))), seen.inputs, inputs) as image,
            self._read_at(torch.arange(len(groups), device=self.device), ends) as states,
            self._logits_at(ends.new_empty(0)) as asked,
        ):
            outputs = self.model(
                **inputs,
                **image.now,
                **asked,
                position_ids=positions.ids,
                use_cache=True,
            )
        return _Prefixes(
            lengths=lengths,
            vision_states=self._stacked(states, len(ends)),
            cache=outputs.past_key_values,
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            next_position=positions.next,
            later=image.later,
        )

    def _placed(
        self, prompts: Sequence[Prompt], lengths: Sequence[int]
    ) -> tuple[dict[str, torch.Tensor], RowPositions]:
        """The first `lengths[k]` tokens of each prompt, as the model takes them, and their positions."""
        inputs = self._padded([prompt.input_ids[:end] for prompt, end in zip(prompts, lengths, strict=True)])
        if types := self.family.token_types:
            rows = [prompt.token_types for prompt in prompts if prompt.token_types is not None]
            inputs[types.name] = self._pad([row[:end] for row, end in zip(rows, lengths, strict=True)], types.padding)
        taken = {name: inputs[name] for name in self.family.decoder_inputs}
        if not prompts[0].image_count:
            plain = plain_positions(self.model, inputs)
            return taken, replace(plain, ids=self.family.on_axes(plain.ids))
        names = self.family.position_inputs
        grids = {name: torch.cat([prompt.images[name] for prompt in prompts]).to(self.device) for name in names}
        return taken, self.family.positions(self.model, {**inputs, **grids})

    def _types_behind(self, prompts: Sequence[Prompt], starts: Sequence[int]) -> dict[str, torch.Tensor]:
        """What the decoder takes beside the tokens from `starts[k]` on: [B, S] each."""
        types = self.family.token_types
        if types is None or not types.after_prefix:
            return {}
        rows = [prompt.token_types for prompt in prompts if prompt.token_types is not None]
        return {types.name: self._pad([row[start:] for row, start in zip(rows, starts, strict=True)], types.padding)}

    def _padded(self, rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, [B, T] each."""
        return {
            "input_ids": self._pad(rows, self._padding_id),
            "attention_mask": self._pad([np.ones_like(row) for row in rows], 0),
        }

    @contextmanager
    def _read_at(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[dict[int, torch.Tensor]]:
        """Inside the context, one forward pass fills `{layer: [K, D]}`; elsewhere its last hidden state is void."""
        with (
            only_at(self._last_feed_forward, rows, columns),
            capture_outputs(self._blocks, rows, columns, self.family.block_states) as states,
        ):
            yield states

    @contextmanager
    def _logits_at(self, columns: torch.Tensor) -> Iterator[dict[str, torch.Tensor]]:
        """Inside the context, one call with these arguments gives logits at these columns alone."""
        if takes_columns(self.model):
            yield {"logits_to_keep": columns}
            return
        with only_columns(self.model.get_output_embeddings(), columns):
            yield {}

    def _stacked(self, states: dict[int, torch.Tensor], places: int) -> torch.Tensor:
        """[L, K, D] at K places."""
        if not self.layers:
            return torch.empty(0, places, 0, device=self.device)
        return torch.stack([states[layer].to(self.device) for layer in self.layers])

    def _pad(self, rows: list[np.ndarray], value: int) -> torch.Tensor:
        tensors = [torch.from_numpy(row) for row in rows]
        padded = pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=self.padding_side)
        return padded.to(self.device)


def along(later: Mapping[str, torch.Tensor], tokens: int) -> dict[str, torch.Tensor]:
    """What one later token takes, [B, 1, …], for so many of them."""
    return {name: tensor.expand(-1, tokens, *tensor.shape[2:]) for name, tensor in later.items()}


def _columns(inputs: dict[str, torch.Tensor], indices: Sequence[int]) -> torch.Tensor:
    """Where token `indices[k]` of row k stands in the padded batch: [B]."""
    padding = inputs["attention_mask"].int().argmax(1)  # before each row's first token
    return padding + torch.tensor(indices, device=padding.device)
