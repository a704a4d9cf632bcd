"""Greedy answers that go on from the prefill's cache, token for token as `model.generate(do_sample=False)`.

Legend: B rows, T prompt tokens (padded), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from halp_probe.errors import InputError

# What a checkpoint's generation_config may ask of greedy decoding beyond the repetition penalty, which is applied here.
_UNSUPPORTED = (
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "bad_words_ids",
    "sequence_bias",
    "min_length",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "stop_strings",
    "watermarking_config",
)
_NEUTRAL: tuple[Any, ...] = (None, 0, 1.0, [], False)


@dataclass(frozen=True)
class GreedyRules:
    """How a model's answers end, and its repetition penalty (1 = none)."""

    end_ids: tuple[int, ...]
    repetition_penalty: float

    def processors(self) -> LogitsProcessorList:
        if self.repetition_penalty == 1.0:
            return LogitsProcessorList()
        return LogitsProcessorList([RepetitionPenaltyLogitsProcessor(self.repetition_penalty)])


@dataclass(frozen=True)
class Decoded:
    """One answer's token ids, the end token included when it came, and the sum of their log-probabilities in nats."""

    ids: list[int]
    logprob: float


def greedy_rules(generation: GenerationConfig, tokenizer_end_id: int | None) -> GreedyRules:
    """The rules in a checkpoint's generation config.

    Raises InputError for a setting that this decoding does not follow: an answer that `generate` would not give is
    worse than none.
    """
    asked = [name for name in _UNSUPPORTED if getattr(generation, name, None) not in _NEUTRAL]
    if (generation.num_beams or 1) > 1:
        asked.append("num_beams")
    if asked:
        raise InputError(
            f"the model's generation_config sets {', '.join(asked)}, which greedy answers here do not follow; "
            "remove it from generation_config.json or pass --no-answers"
        )
    ends = generation.eos_token_id if generation.eos_token_id is not None else tokenizer_end_id
    ids = () if ends is None else tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)
    return GreedyRules(ids, float(generation.repetition_penalty or 1.0))


@torch.no_grad()
def decode_greedy(
    model: Any,
    rules: GreedyRules,
    *,
    cache: Any,
    logits: torch.Tensor,  # [B, V] at the query token
    input_ids: torch.Tensor,  # [B, T]
    attention_mask: torch.Tensor,  # [B, T]
    next_position: torch.Tensor,  # [B]
    position_axes: int,  # 3 for mRoPE, else 1
    max_new_tokens: int,
) -> list[Decoded]:
    """Answers of at most `max_new_tokens` tokens for every row."""
    rows = len(input_ids)
    processors = rules.processors()
    ends = torch.tensor(rules.end_ids, device=logits.device)
    history = _without_padding(input_ids, attention_mask)
    finished = torch.zeros(rows, dtype=torch.bool, device=logits.device)
    tokens: list[torch.Tensor] = []
    logprobs: list[torch.Tensor] = []
    for step in range(max_new_tokens):
        raw = logits.float()
        token = processors(history, raw.clone()).argmax(-1)  # [B]
        chosen = raw.log_softmax(-1).gather(1, token[:, None])[:, 0]
        tokens.append(torch.where(finished, -1, token))
        logprobs.append(torch.where(finished, 0.0, chosen))
        finished = finished | torch.isin(token, ends)
        if step + 1 == max_new_tokens or bool(finished.all()):
            break
        history = torch.cat([history, token[:, None]], dim=1)
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(rows, 1)], dim=1)
        position = (next_position + step)[:, None]  # [B, 1]
        outputs = model(
            input_ids=token[:, None],
            attention_mask=attention_mask,
            position_ids=position.expand(3, -1, -1) if position_axes == 3 else position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = outputs.past_key_values, outputs.logits[:, -1]
    ids = torch.stack(tokens, dim=1).cpu()
    totals = torch.stack(logprobs, dim=1).sum(1).cpu()
    return [Decoded([t for t in row.tolist() if t >= 0], float(total)) for row, total in zip(ids, totals, strict=True)]


def _without_padding(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Padding replaced by a token of the row's own prompt, so that the repetition penalty sees the prompt alone."""
    real = attention_mask.bool()
    own = input_ids.gather(1, real.int().argmax(1, keepdim=True))  # [B, 1], the first real token
    return torch.where(real, input_ids, own)
