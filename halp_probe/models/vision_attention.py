"""Compute attention of a packed vision tower in one call for all chunks of one length, not one for each chunk.

Without flash-attn, transformers calls SDPA in a Python loop over `cu_seqlens`. A tower whose attention's name contains
"flash" calls it once with `cu_seqlens` instead: this is such an attention, and it needs only torch.
It relies on the following, the same in transformers 5.17 and 5.24: `AttentionInterface.register`, that name rule
(`is_flash_attention_requested`), and the keywords `cu_seq_lens_q` and `max_length_q`.
Legend: T patches of all images, H heads, D a head's width, C chunks of one length n.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface

from halp_probe.models.family import Family

try:
    from torch.nn.attention import varlen  # torch >= 2.10
except ImportError:
    varlen = None  # type: ignore[assignment]

BY_LENGTH = "flash_by_length"  # no digit in it: transformers looks for a version after "flash"
_lengths_cache = WeakIdKeyDictionary()  # `cu_seqlens` -> its chunks' lengths, while the tensor lives


def pack_vision_attention(model: Any, family: Family) -> None:
    """Switch a loaded model's vision tower from SDPA in a loop to one call a length: the same numbers, faster.

    Towers without `cu_seqlens`, those with another attention than SDPA, and the text model are left unchanged.
    """
    if family.packed_tower is None:
        return
    config = attrgetter(family.packed_tower)(model).config
    if config._attn_implementation == "sdpa":
        AttentionInterface.register(BY_LENGTH, attend_by_length)
        config._attn_implementation = BY_LENGTH


def attend_by_length(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, H, T, D], like key and value
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,  # [chunks + 1]: start of each chunk, and T; keys are cut like queries
    max_length_q: int | torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention within each chunk, as transformers calls it; the output is [1, T, H, D]."""
    if attention_mask is not None or is_causal or dropout:
        raise NotImplementedError(f"{BY_LENGTH} is for vision towers: no mask, no causal attention, no dropout")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, H, D]
    if _varlen_usable(q, scaling):
        # cuDNN, which torch may choose, assumes contiguous tensors for the chunks' offsets
        starts, longest = cu_seq_lens_q.int(), int(max_length_q)
        out: Any = varlen.varlen_attn(q.contiguous(), k.contiguous(), v.contiguous(), starts, starts, longest, longest)
    else:
        out = attend_chunks(q, k, v, _lengths(cu_seq_lens_q), scaling)
    return out[None], None


def attend_chunks(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], scaling: float
) -> torch.Tensor:
    """Compute SDPA within consecutive chunks of these lengths, one call for each distinct length; all are [T, H, D]."""
    runs = [(n, len(list(run))) for n, run in groupby(lengths)]  # equal neighbours need no copy
    places: dict[int, list[int]] = {}
    for place, (n, _) in enumerate(runs):
        places.setdefault(n, []).append(place)
    rows = [n * count for n, count in runs]
    parts = [tensor.split(rows) for tensor in (q, k, v)]
    done: list[torch.Tensor] = [q] * len(runs)
    for n, at in places.items():
        query, key, value = (
            _join([part[place] for place in at]).unflatten(0, (-1, n)).transpose(1, 2) for part in parts
        )
        out = F.scaled_dot_product_attention(query, key, value, scale=scaling)  # [C, H, n, D]
        attended = out.transpose(1, 2).flatten(0, 1).split([rows[place] for place in at])
        for place, run in zip(at, attended, strict=True):
            done[place] = run
    return _join(done)


def _join(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _lengths(cu_seqlens: torch.Tensor) -> list[int]:
    """Return the chunks' lengths, read once a tensor: on CUDA one synchronisation a forward, not one a block."""
    if cu_seqlens not in _lengths_cache:
        _lengths_cache[cu_seqlens] = cu_seqlens.diff().tolist()
    return _lengths_cache[cu_seqlens]


def _varlen_usable(q: torch.Tensor, scaling: float) -> bool:
    """Return whether torch's flash kernel applies: half precision, Ampere GPU or newer, D a multiple of 8 up to 256.

    The towers' D qualify (80, 80 and 72 in Qwen2-VL-7B, Qwen2.5-VL-7B and Qwen3-VL-8B). torch 2.10 has no `scale`.
    """
    d = q.shape[-1]
    return (
        varlen is not None
        and q.is_cuda
        and q.dtype in (torch.float16, torch.bfloat16)
        and d % 8 == 0
        and d <= 256
        and abs(scaling - d**-0.5) < 1e-9
        and torch.backends.cuda.is_flash_attention_available()
        and torch.version.hip is None
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
    )
