"""Greedy answers that go on from the prefill's cache, token for token as `model.generate(do_sample=False)`.

One exception: where a checkpoint's generation_config names no end token, answers end at its tokenizer's.

Legend: B rows of a batch, T prompt tokens (padded).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from halp_probe.errors import InputError
from halp_probe.extraction.prefill import Prefill
from halp_probe.models.loading import LoadedModel

# What a checkpoint's generation_config may ask of greedy decoding beyond the repetition penalty and suppressed tokens,
# which are applied here; and the values, beside None, with which it asks nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "begin_suppress_tokens": ([],),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1.0,),
    "stop_strings": ([],),
    "watermarking_config": (),
}


@dataclass(frozen=True)
class GreedyRules:
    """How a model's answers end, its repetition penalty (1 = none), and the tokens that it may not say."""

    end_ids: tuple[int, ...]
    repetition_penalty: float
    suppressed: tuple[int, ...] = ()  # Gemma 4's are the marks of media

    def processors(self, device: torch.device) -> LogitsProcessorList:
        processors = LogitsProcessorList()
        if self.repetition_penalty != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.suppressed:
            processors.append(SuppressTokensLogitsProcessor(self.suppressed, device=device))
        return processors


def greedy_rules(
    generation: GenerationConfig, tokenizer_end_id: int | None, ignored: Collection[str] = ()
) -> GreedyRules:
    """The rules in a checkpoint's generation config; the settings `ignored` are none that its `generate` follows.

    Raises InputError for a setting that this decoding does not follow: an answer that `generate` would not give is
    worse than none.
    """
    asked = [
        name
        for name, neutral in _UNSUPPORTED.items()
        if name not in ignored and getattr(generation, name, None) not in (None, *neutral)
    ]
    if (generation.num_beams or 1) > 1:
        asked.append("num_beams")
    if asked:
        raise InputError(
            f"the model's generation_config sets {', '.join(asked)}, which greedy answers here do not follow; "
            "remove it from generation_config.json or pass --no-answers"
        )
    ends = generation.eos_token_id if generation.eos_token_id is not None else tokenizer_end_id
    ids = () if ends is None else tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)
    return GreedyRules(ids, float(generation.repetition_penalty or 1.0), tuple(generation.suppress_tokens or ()))


@torch.no_grad()
def decode_greedy(
    loaded: LoadedModel, rules: GreedyRules, prefill: Prefill, max_new_tokens: int
) -> tuple[list[list[int]], torch.Tensor]:
    """Answers of at most `max_new_tokens` tokens: each row's token ids, the end token included when it came, and the
    sums of their log-probabilities in nats, [B] float32 on the device.

    Rows whose answer has ended leave the batch. The prefill's cache is used up.
    """
    processors, ends = rules.processors(prefill.logits.device), frozenset(rules.end_ids)
    answers: list[list[int]] = [[] for _ in prefill.input_ids]
    totals = torch.zeros(len(answers), device=prefill.logits.device)
    running = list(range(len(answers)))  # the rows that are still in the batch
    rows = torch.arange(len(answers), device=totals.device)  # the same, on the device
    cache, logits, mask, position = prefill.cache, prefill.logits, prefill.attention_mask, prefill.next_position
    history, later = _without_padding(prefill.input_ids, mask), prefill.later
    for step in range(max_new_tokens):
        raw = logits.float()
        token = processors(history, raw.clone()).argmax(-1)  # [running]
        totals[rows] += raw.log_softmax(-1).gather(1, token[:, None])[:, 0]
        chosen = token.tolist()
        for row, own in zip(running, chosen, strict=True):
            answers[row].append(own)
        going = [k for k, own in enumerate(chosen) if own not in ends]
        if not going or step + 1 == max_new_tokens:
            break
        if len(going) < len(running):
            kept = torch.tensor(going, device=rows.device)
            cache.reorder_cache(kept)
            token, rows, mask, position, history = (t[kept] for t in (token, rows, mask, position, history))
            later = {name: tensor[kept] for name, tensor in later.items()}
            running = [running[k] for k in going]
        history = torch.cat([history, token[:, None]], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        outputs = loaded.model(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=loaded.checkpoint.family.on_axes((position + step)[:, None]),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **later,
        )
        cache, logits = outputs.past_key_values, outputs.logits[:, -1]
    return answers, totals


def _without_padding(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Padding replaced by a token of the row's own prompt, so that the repetition penalty sees the prompt alone."""
    real = attention_mask.bool()
    own = input_ids.gather(1, real.int().argmax(1, keepdim=True))  # [B, 1], the first real token
    return torch.where(real, input_ids, own)
