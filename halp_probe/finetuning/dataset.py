"""Batches of conversations: tokenized when they are needed, padded on the right.

Legend: B samples of a batch, T tokens of the longest, I images of a batch, P tiles of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from halp_probe.engine.images import load_image
from halp_probe.errors import InputError
from halp_probe.finetuning.records import Conversation
from halp_probe.finetuning.tokens import IGNORED, ConversationTokenizer, TokenizedConversation
from halp_probe.models.loading import Checkpoint

_TILED = 5  # dimensions of pixel_values [1, P, C, H, W]


class ConversationDataset(Dataset[TokenizedConversation]):
    """Data set whose sample k is conversation k; its image is decoded on access, in the process that accesses it.

    Raises InputError, naming the conversation, for an image that cannot be read (any more) and for a conversation that
    the tokenizer refuses.
    """

    def __init__(self, conversations: Sequence[Conversation], tokenizer: ConversationTokenizer) -> None:
        self.conversations, self.tokenizer = conversations, tokenizer

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> TokenizedConversation:
        conversation = self.conversations[index]
        try:
            image = None if conversation.image is None else load_image(conversation.image)
            return self.tokenizer(conversation, image)
        except InputError as error:
            raise InputError(f"{conversation.source}, {conversation.key}: {error}") from error


@dataclass(frozen=True)
class Collator:
    """Callable that puts samples of one checkpoint into a batch for its model."""

    checkpoint: Checkpoint

    def __call__(self, samples: Sequence[TokenizedConversation]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels` [B, T], token types [B, T] under the model's name for them.

        The images' arrays are present if any sample has an image, in the samples' order: `pixel_values` [I, …], with
        all images at the most tiles of any (further tiles are zeros, which the model drops), and likewise the others.
        """
        pad = self.checkpoint.processor.tokenizer.pad_token_id or 0
        batch = {
            "input_ids": _pad([sample.input_ids for sample in samples], pad),
            "attention_mask": _pad([torch.ones_like(sample.input_ids) for sample in samples], 0),
            "labels": _pad([sample.labels for sample in samples], IGNORED),
        }
        if (types := self.checkpoint.family.token_types) is not None:
            type_rows = [sample.token_types for sample in samples if sample.token_types is not None]
            batch[types.name] = _pad(type_rows, types.padding)
        images = [sample.images for sample in samples if sample.images]
        for name in images[0] if images else ():
            batch[name] = _join(name, [image[name] for image in images])
        return batch


def _pad(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    """Pad the rows to [B, T]."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _join(name: str, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join tensors of [1, …] into [I, …] (Qwen-VL's patches: of [patches, …] each)."""
    if all(tensor.ndim == _TILED for tensor in tensors):
        tiles = max(tensor.shape[1] for tensor in tensors)
        tensors = [torch.cat([t, t.new_zeros(1, tiles - t.shape[1], *t.shape[2:])], dim=1) for t in tensors]
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        shapes = ", ".join(sorted({str(tuple(tensor.shape)) for tensor in tensors}))
        raise InputError(f"the images of a batch have {name} of unlike shapes ({shapes}); train with a batch of 1")
    return torch.cat(list(tensors))
