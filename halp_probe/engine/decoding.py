"""Decode answers from the prefill's cache.

Greedy answers equal `model.generate(do_sample=False)` token for token. A sampled token has the distribution from which
`generate(do_sample=True)` draws with the same settings; its random number is the row's own, so an answer does not
depend on the batch, except for rounding at the border between two tokens. One exception: if a checkpoint's
generation_config names no end token, answers end at its tokenizer's.

Legend: B rows of a batch, T prompt tokens (padded), N new tokens at most, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from halp_probe.engine.prefill import Prefill
from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.errors import InputError
from halp_probe.models.compat import cache_of, pass_cache
from halp_probe.models.loading import LoadedModel

# Settings of a generation_config that change answers, besides the repetition penalty and suppressed tokens, which are
# applied here; and the values, besides None, with which they change nothing.
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


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """Rules of a model's answers: how they end, which tokens are excluded, and how the others are chosen."""

    end_ids: tuple[int, ...]
    repetition_penalty: float  # 1 = none
    suppressed: tuple[int, ...] = ()  # Gemma 4's are the marks of media
    decoding: Decoding = GREEDY

    def processors(self, device: torch.device) -> LogitsProcessorList:
        """Return the logits processors, in the order of `generate`."""
        processors = LogitsProcessorList()
        if self.repetition_penalty != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.suppressed:
            processors.append(SuppressTokensLogitsProcessor(self.suppressed, device=device))
        if self.decoding.temperature:
            processors.append(TemperatureLogitsWarper(float(self.decoding.temperature)))
        if self.decoding.top_p < 1:
            processors.append(TopPLogitsWarper(self.decoding.top_p))
        return processors


@dataclass(frozen=True, kw_only=True)
class Step:
    """One token of each of the R rows whose answers have not ended."""

    rows: list[int]
    tokens: list[int]  # an end token included
    index: torch.Tensor  # [R] int64, the rows on the device
    logprobs: torch.Tensor  # [R] float32, nats, of the tokens by the model's own distribution


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers of B rows."""

    tokens: list[list[int]]  # ids of each, including the end token if there was one
    logprobs: torch.Tensor  # [B] float32, nats: sums over the tokens, by the model's own distribution
    finished: list[bool]  # whether each reached an end token; if not, it was cut off


def answer_rules(
    generation: GenerationConfig,
    tokenizer_end_id: int | None,
    ignored: Collection[str] = (),
    decoding: Decoding = GREEDY,
) -> AnswerRules:
    """Build the rules from a checkpoint's generation config and from `decoding`, the only source of sampling.

    `ignored` names settings that the checkpoint's own `generate` ignores.

    Raises InputError for a setting that is not supported here: no answer is better than one that `generate` would not
    give.
    """
    unsupported = [
        name
        for name, neutral in _UNSUPPORTED.items()
        if name not in ignored and getattr(generation, name, None) not in (None, *neutral)
    ]
    if (generation.num_beams or 1) > 1:
        unsupported.append("num_beams")
    if unsupported:
        raise InputError(
            f"the model's generation_config sets {', '.join(unsupported)}, which is not supported for answers here; "
            "remove it from generation_config.json, or extract with `answers=False`"
        )
    ends = generation.eos_token_id if generation.eos_token_id is not None else tokenizer_end_id
    ids = () if ends is None else tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)
    penalty = decoding.repetition_penalty or generation.repetition_penalty or 1.0
    return AnswerRules(
        end_ids=ids,
        repetition_penalty=float(penalty),
        suppressed=tuple(generation.suppress_tokens or ()),
        decoding=decoding,
    )


def decode(
    loaded: LoadedModel,
    rules: AnswerRules,
    prefill: Prefill,
    max_new_tokens: int,
    keys: Sequence[str],
    attempt: int = 1,
) -> Answers:
    """Collect all of what `steps` yields, answer by answer."""
    answers: list[list[int]] = [[] for _ in prefill.input_ids]
    totals = torch.zeros(len(answers), device=prefill.logits.device)
    for step in steps(loaded, rules, prefill, max_new_tokens, keys, attempt):
        totals[step.index] += step.logprobs
        for row, token in zip(step.rows, step.tokens, strict=True):
            answers[row].append(token)
    return Answers(tokens=answers, logprobs=totals, finished=[answer[-1] in rules.end_ids for answer in answers])


@torch.no_grad()
def steps(
    loaded: LoadedModel,
    rules: AnswerRules,
    prefill: Prefill,
    max_new_tokens: int,
    keys: Sequence[str],
    attempt: int = 1,
) -> Iterator[Step]:
    """Yield answers of at most `max_new_tokens` tokens, token by token.

    `keys` name the B rows, for the random numbers of sampled answers. Rows whose answer has ended leave the batch. The
    prefill's cache is consumed. Each token is computed on demand, by one call of the model.
    """
    device = prefill.logits.device
    processors, ends = rules.processors(device), frozenset(rules.end_ids)
    uniforms = _uniforms(rules.decoding, keys, attempt, max_new_tokens, device)  # [B, N], or None
    running = list(range(len(prefill.input_ids)))  # the rows that are still in the batch
    rows = torch.arange(len(running), device=device)  # the same, on the device
    cache, logits, mask, position = prefill.cache, prefill.logits, prefill.attention_mask, prefill.next_position
    history, later = _replace_padding(prefill.input_ids, mask), prefill.later
    for step in range(max_new_tokens):
        raw = logits.float()
        scores = processors(history, raw.clone())  # [running, V]
        token = scores.argmax(-1) if uniforms is None else sample_tokens(scores, uniforms[rows, step])  # [running]
        logprobs = raw.log_softmax(-1).gather(1, token[:, None])[:, 0]
        chosen = token.tolist()
        yield Step(rows=running, tokens=chosen, index=rows, logprobs=logprobs)
        unfinished = [k for k, own in enumerate(chosen) if own not in ends]
        if not unfinished or step + 1 == max_new_tokens:
            return
        if len(unfinished) < len(running):
            kept_rows = torch.tensor(unfinished, device=device)
            cache.reorder_cache(kept_rows)
            token, rows, mask, position, history = (t[kept_rows] for t in (token, rows, mask, position, history))
            later = {name: tensor[kept_rows] for name, tensor in later.items()}
            running = [running[k] for k in unfinished]
        history = torch.cat([history, token[:, None]], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        cache, logits = advance(loaded, cache, token, mask=mask, position=position + step, later=later)


def advance(
    loaded: LoadedModel,
    cache: Any,
    token: torch.Tensor,
    *,
    mask: torch.Tensor,
    position: torch.Tensor,
    later: Mapping[str, torch.Tensor],
) -> tuple[Any, torch.Tensor]:
    """Return the cache after one more token [R] of each row, at `position` [R], and the logits [R, V] of the next.

    `mask` [R, columns] counts the new token's column.
    """
    outputs = loaded.model(
        input_ids=token[:, None],
        attention_mask=mask,
        position_ids=loaded.checkpoint.family.on_axes(position[:, None]),
        **pass_cache(loaded.model, cache),
        use_cache=True,
        logits_to_keep=1,
        **later,
    )
    return cache_of(outputs), outputs.logits[:, -1]


def _uniforms(
    decoding: Decoding, keys: Sequence[str], attempt: int, tokens: int, device: torch.device
) -> torch.Tensor | None:
    """Return the random numbers [keys, tokens] float64; None for greedy answers."""
    return torch.from_numpy(decoding.uniforms(keys, attempt, tokens)).to(device) if decoding.is_sampled else None


def sample_tokens(scores: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Sample [B] tokens from scores [B, V] and uniforms [B] float64 in [0, 1): the inverse CDF over token ids."""
    probabilities = scores.softmax(-1, dtype=torch.float64)
    cdf = probabilities.cumsum(-1).masked_fill(probabilities == 0, 0)  # tokens of probability 0 are never drawn
    return (cdf > uniforms[:, None] * cdf.amax(-1, keepdim=True)).byte().argmax(-1)  # the first


def _replace_padding(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Replace padding by a token of the row's own prompt, so that the repetition penalty sees the prompt alone."""
    real = attention_mask.bool()
    own = input_ids.gather(1, real.int().argmax(1, keepdim=True))  # [B, 1], the first real token
    return torch.where(real, input_ids, own)
