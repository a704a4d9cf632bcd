"""Sample several answers of each prompt from the prefill's cache.

Answers to one question that have the same tokens so far are one row of the batch: they have the same states. So the
batch begins with a row for each prompt, and a row divides where its answers do. An answer depends on its question, its
number, the seed and the temperature alone, except for rounding at the border between two tokens.

Legend: B prompts, S answers of each, A answers that run together, R rows of the batch, N new tokens at most, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from halp_probe.engine.decoding import AnswerRules, advance, sample_tokens
from halp_probe.engine.prefill import Prefill
from halp_probe.engine.sampling import Sampling
from halp_probe.models.loading import LoadedModel


@dataclass(frozen=True, kw_only=True)
class SampledTokens:
    """S sampled answers of each of B prompts."""

    tokens: list[list[list[int]]]  # [B][S], an end token included
    logprobs: np.ndarray  # [B, S] float32, nats at temperature 1, summed over the tokens
    finished: np.ndarray  # [B, S] bool, whether an end token came


def sample_answers(
    loaded: LoadedModel,
    rules: AnswerRules,
    sampling: Sampling,
    prefill: Prefill,
    max_new_tokens: int,
    keys: Sequence[str],
    *,
    cached_tokens: int | None = None,
) -> SampledTokens:
    """Sample answers of the prompts that `keys` name; the prefill's cache is copied and stays as it is.

    So many answers run together that their rows hold at most `cached_tokens` in the cache, if no two of them were the
    same; None: all.
    """
    rules = replace(rules, decoding=sampling.decoding, repetition_penalty=1.0)
    numbered = [(row, number) for row in range(len(keys)) for number in range(sampling.count)]
    columns = prefill.attention_mask.shape[1] + max_new_tokens
    together = len(numbered) if cached_tokens is None else max(1, cached_tokens // columns)
    tokens: list[list[list[int]]] = [[[] for _ in range(sampling.count)] for _ in keys]
    logprobs = torch.zeros(len(keys), sampling.count, device=prefill.logits.device)
    for start in range(0, len(numbered), together):
        group = numbered[start : start + together]
        for step in _steps(loaded, rules, prefill, max_new_tokens, keys, group):
            places = [group[answer] for answer in step.answers]
            rows, numbers = (list(index) for index in zip(*places, strict=True))
            logprobs[rows, numbers] += step.logprobs
            for (row, number), token in zip(places, step.tokens, strict=True):
                tokens[row][number].append(token)
    finished = [[answer[-1] in rules.end_ids for answer in row] for row in tokens]
    return SampledTokens(tokens=tokens, logprobs=logprobs.cpu().numpy(), finished=np.array(finished))


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One token of each of the answers that have not ended."""

    answers: list[int]  # indices in the group
    tokens: list[int]
    logprobs: torch.Tensor  # [answers] float32, nats


@torch.no_grad()
def _steps(
    loaded: LoadedModel,
    rules: AnswerRules,
    prefill: Prefill,
    max_new_tokens: int,
    keys: Sequence[str],
    group: Sequence[tuple[int, int]],
) -> Iterator[_Step]:
    """Yield the tokens of a group of answers, each the prompt's row and its own number among that prompt's."""
    device = prefill.logits.device
    draws = [rules.decoding.uniforms([keys[row]], number + 1, max_new_tokens)[0] for row, number in group]
    uniforms = torch.from_numpy(np.stack(draws)).to(device)  # [A, N]
    prompts = list(dict.fromkeys(row for row, _ in group))
    batch = prefill.copy(prompts)
    processors, ends = rules.processors(device), frozenset(rules.end_ids)
    answers, at = list(range(len(group))), [prompts.index(row) for row, _ in group]  # those that go on, and their rows
    cache, logits, mask, position, later = (
        batch.cache,
        batch.logits,
        batch.attention_mask,
        batch.next_position,
        batch.later,
    )
    for step in range(max_new_tokens):
        raw, index = logits.float(), torch.tensor(at, device=device)
        scores = processors(batch.input_ids, raw.clone())  # [R, V]; without a penalty no processor reads the ids
        token = sample_tokens(scores[index], uniforms[answers, step])  # [A]
        chosen = token.tolist()
        yield _Step(answers=answers, tokens=chosen, logprobs=raw.log_softmax(-1)[index, token])
        going = [k for k, own in enumerate(chosen) if own not in ends]
        if not going or step + 1 == max_new_tokens:
            return
        branches = list(dict.fromkeys((at[k], chosen[k]) for k in going))  # a row, and the token that it goes on with
        place = {branch: row for row, branch in enumerate(branches)}
        answers, at = [answers[k] for k in going], [place[at[k], chosen[k]] for k in going]
        parents = torch.tensor([parent for parent, _ in branches], device=device)
        cache.reorder_cache(parents)
        mask, position = mask[parents], position[parents]
        later = {name: tensor[parents] for name, tensor in later.items()}
        mask = torch.cat([mask, mask.new_ones(len(branches), 1)], dim=1)
        token = torch.tensor([own for _, own in branches], device=device)
        cache, logits = advance(loaded, cache, token, mask=mask, position=position + step, later=later)
