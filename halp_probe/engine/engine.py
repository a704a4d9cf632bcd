"""Run a batch of prompts through the model once: vision means, states at both positions, confidence, answers.

A gate may look at the states before any answer begins, and decide which prompts are answered.

Legend: B prompts, I images, L probed layers, D decoder width, V vision width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from halp_probe.engine.decoding import Answers, Step, answer_rules, decode, steps
from halp_probe.engine.prefill import Prefill, Prefiller
from halp_probe.engine.prefix import ImageGroups, group_by_image, shared_tokens
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.readings import Readings, to_host
from halp_probe.engine.sampled import SampledTokens, sample_answers
from halp_probe.engine.sampling import GREEDY, Decoding, Sampling
from halp_probe.engine.streaming import answer_text
from halp_probe.engine.vision import see
from halp_probe.models.cpu_memory import report_no_memory
from halp_probe.models.loading import LoadedModel
from halp_probe.records import (
    IMAGE_MEAN,
    QUERY_TOKEN,
    QUESTION_END,
    VISION_ENCODER,
    VISION_ONLY,
    VISION_TOKEN,
    Captured,
    CaptureSpec,
    SampledAnswers,
)
from halp_probe.shards.names import layer_of


@dataclass(frozen=True, kw_only=True)
class ComputedBatch:
    """A batch as it comes from the device; `Engine.collect` turns it into samples."""

    prompts: Sequence[Prompt]
    image_of: list[int]  # index of each prompt's image in the readings of images
    vision_row: list[int]  # index of each prompt in `readings.vision_token`
    layers: tuple[int, ...]
    readings: Readings[np.ndarray]
    answers: list[list[int]]  # token ids; empty if no answer was requested, or the gate refused it
    finished: list[bool]  # whether each answer reached an end token; False if it was cut off, or there is no answer
    sampled: SampledTokens | None = None  # of each prompt, beside `answers`; None if none were requested
    first_logprobs: np.ndarray | None = None  # [B, V] float32, nats, of every first token; None if not requested

    def vectors(self, representation: str) -> np.ndarray:
        """Return [B, D] float32 of one representation, as in a shard; KeyError for one that was not read."""
        position, layer = representation.split("/")[0], layer_of(representation)
        values, rows = {
            VISION_ONLY: (self.readings.vision_only, self.image_of),
            VISION_ENCODER: (self.readings.vision_encoder, self.image_of),
            VISION_TOKEN: (self.readings.vision_token, self.vision_row),
            IMAGE_MEAN: (self.readings.image_mean, self.vision_row),
            QUESTION_END: (self.readings.question_end, list(range(len(self.prompts)))),
            QUERY_TOKEN: (self.readings.query_token, list(range(len(self.prompts)))),
        }[position]
        if values is None:
            raise KeyError(f"{representation} was not read: no prompt shows an image, or the position is not asked for")
        return (values if layer is None else values[self.layers.index(layer)])[rows]

    def numbers(self, name: str) -> np.ndarray:
        """Return [B] float32, `first_token_logprob` or `first_token_entropy`, as in a shard; KeyError for others."""
        known = {field: getattr(self.readings, field) for field in ("first_token_logprob", "first_token_entropy")}
        return known[name]


@dataclass(frozen=True, kw_only=True)
class StartedAnswers:
    """States of prompts that were read, and their answers, which are computed on demand."""

    computed: ComputedBatch  # without answers
    steps: Iterator[Step]  # to iterate once; empty if no answers were requested; holds the cache until its end
    end_ids: tuple[int, ...]  # one of them ends an answer, unless it was cut off


@dataclass(frozen=True, kw_only=True)
class _ReadPrompts:
    """Prompts that were read, on the device."""

    prompts: Sequence[Prompt]
    image_of: list[int]
    readings: Readings[torch.Tensor]
    prefill: Prefill


Gate: TypeAlias = Callable[[ComputedBatch], np.ndarray]  # -> [B] bool: whether to answer


class Engine:
    """A loaded model and a spec; `run` turns a batch of prompts into captured samples.

    Either all prompts of a batch show images, or none does. With `share_prefix`, the common prefix of prompts on one
    image (by file content) is computed once, if their family allows it. A `gate` receives the batch before its answers,
    and decides which prompts are answered. Sampled answers depend on the prompts' question ids, on `attempt` and on the
    seed in `decoding`. `sampling` asks for further answers beside those, which it does not change; so many of them run
    together that the cache holds at most `sampled_tokens` of theirs (None: all). `keep_first` keeps the whole
    distributions of the first tokens.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        spec: CaptureSpec,
        *,
        share_prefix: bool = False,
        padding_side: str = "left",
        gate: Gate | None = None,
        decoding: Decoding = GREEDY,
        attempt: int = 1,
        sampling: Sampling | None = None,
        sampled_tokens: int | None = None,
        keep_first: bool = False,
    ) -> None:
        self.loaded, self.spec, self._gate, self._attempt = loaded, spec, gate, attempt
        self._sampling, self._sampled_tokens, self._keep_first = sampling, sampled_tokens, keep_first
        self.share_prefix = share_prefix and not loaded.checkpoint.family.unshared
        self._prefiller = Prefiller(loaded, spec, padding_side)
        self._window = _sliding_window(loaded.checkpoint.config.get_text_config())
        self._tokenizer = loaded.checkpoint.processor.tokenizer
        settings, ignored = loaded.model.generation_config, loaded.checkpoint.family.ignored_generation
        end_id = self._tokenizer.eos_token_id
        self._rules = answer_rules(settings, end_id, ignored, decoding) if spec.max_new_tokens else None

    def run(self, prompts: Sequence[Prompt]) -> list[Captured]:
        """Return captured samples in the order of the prompts, with float32 vectors on the CPU; NaN is not checked."""
        return self.collect(self.compute(prompts))

    @torch.no_grad()
    def compute(self, prompts: Sequence[Prompt]) -> ComputedBatch:
        """Compute states and answers of a batch: the work on the device. Raises torch.OutOfMemoryError."""
        with report_no_memory():
            return self._compute(prompts)

    def _compute(self, prompts: Sequence[Prompt]) -> ComputedBatch:
        read = self._read(prompts)
        rows = list(range(len(prompts))) if self._rules is not None else []
        if self._gate is not None and rows:
            rows = np.flatnonzero(self._gate(self._to_host(read))).tolist()
        sampled = self._sample(prompts, read.prefill, rows)  # before the cache is consumed
        answers = self._answers(prompts, read.prefill, rows)
        computed = replace(self._to_host(read, answers), sampled=sampled)  # after the last work on the device
        if not self._keep_first:
            return computed
        return replace(computed, first_logprobs=read.prefill.logits.float().log_softmax(-1).cpu().numpy())

    @torch.no_grad()
    def begin(self, prompts: Sequence[Prompt]) -> StartedAnswers:
        """Compute states and confidence now, ignoring the gate, and each token of the answers on demand."""
        read = self._read(prompts)
        remaining: Iterator[Step] = iter(())
        end_ids = self._rules.end_ids if self._rules is not None else ()
        if self._rules is not None:
            keys = [prompt.sample.question_id for prompt in prompts]
            remaining = steps(self.loaded, self._rules, read.prefill, self.spec.max_new_tokens, keys, self._attempt)
        return StartedAnswers(computed=self._to_host(read), steps=remaining, end_ids=end_ids)

    def _read(self, prompts: Sequence[Prompt]) -> _ReadPrompts:
        images = group_by_image(prompts)
        vision = see(self.loaded, [prompts[row] for row in images.first_rows]) if _show_images(prompts) else None
        several = len(images.rows) < len(prompts)
        if vision is not None and self.share_prefix and several and self._fits_window(prompts, images):
            prefill = self._prefiller.read_shared(prompts, images, vision)
        else:
            prefill = self._prefiller.read_whole(prompts, images, vision, keep_cache=self._rules is not None)
        log_probabilities = prefill.logits.float().log_softmax(-1)
        entropy = -(log_probabilities.exp() * log_probabilities.clamp(min=-1e9)).sum(-1)
        readings = Readings(
            vision_only=None if vision is None else vision.only,
            vision_encoder=None if vision is None else vision.encoder,
            vision_token=None if vision is None else prefill.vision_states,
            image_mean=prefill.image_means,
            question_end=prefill.question_states,
            query_token=prefill.query_states,
            first_token_logprob=log_probabilities.max(-1).values,
            first_token_entropy=entropy,
        )
        return _ReadPrompts(prompts=prompts, image_of=images.image_of, readings=readings, prefill=prefill)

    def _to_host(self, read: _ReadPrompts, answers: Answers | None = None) -> ComputedBatch:
        """Bring what was read to the host, without answers unless there are some."""
        logprobs = None if answers is None else answers.logprobs
        return ComputedBatch(
            prompts=read.prompts,
            image_of=read.image_of,
            vision_row=read.prefill.vision_row,
            layers=self.spec.layers,
            readings=to_host(replace(read.readings, answer_logprob=logprobs)),
            answers=[[] for _ in read.prompts] if answers is None else answers.tokens,
            finished=[False] * len(read.prompts) if answers is None else answers.finished,
        )

    def _answers(self, prompts: Sequence[Prompt], prefill: Prefill, rows: list[int]) -> Answers:
        """Decode the answers of these rows; the other prompts' are empty, with log-probability nan."""
        count = len(prompts)
        logprobs = torch.full((count,), torch.nan, device=prefill.logits.device)
        answers = Answers(tokens=[[] for _ in prompts], logprobs=logprobs, finished=[False] * count)
        if self._rules is not None and rows:
            selected = prefill if len(rows) == count else prefill.take(rows)
            keys = [prompts[row].sample.question_id for row in rows]
            decoded = decode(self.loaded, self._rules, selected, self.spec.max_new_tokens, keys, self._attempt)
            logprobs[rows] = decoded.logprobs
            for k, row in enumerate(rows):
                answers.tokens[row], answers.finished[row] = decoded.tokens[k], decoded.finished[k]
        return answers

    def _sample(self, prompts: Sequence[Prompt], prefill: Prefill, rows: list[int]) -> SampledTokens | None:
        """Sample further answers of these rows; the other prompts have empty ones, with log-probability nan."""
        if self._sampling is None or self._rules is None:
            return None
        shape = (len(prompts), self._sampling.count)
        sampled = SampledTokens(
            tokens=[[[]] * self._sampling.count for _ in prompts],
            logprobs=np.full(shape, np.nan, dtype=np.float32),
            finished=np.zeros(shape, dtype=bool),
        )
        if rows:
            selected = prefill if len(rows) == len(prompts) else prefill.copy(rows)
            keys = [prompts[row].sample.question_id for row in rows]
            found = sample_answers(
                self.loaded,
                self._rules,
                self._sampling,
                selected,
                self.spec.max_new_tokens,
                keys,
                cached_tokens=self._sampled_tokens,
            )
            sampled.logprobs[rows], sampled.finished[rows] = found.logprobs, found.finished
            for k, row in enumerate(rows):
                sampled.tokens[row] = found.tokens[k]
        return sampled

    def _fits_window(self, prompts: Sequence[Prompt], images: ImageGroups) -> bool:
        """Return whether all columns fit a sliding window: it counts padding, which also stands inside prompts here."""
        if self._window is None:
            return True
        prefixes = [shared_tokens([prompts[row] for row in rows]) for rows in images.rows]
        suffixes = [len(prompt) - prefixes[image] for prompt, image in zip(prompts, images.image_of, strict=True)]
        return max(prefixes) + max(suffixes) + self.spec.max_new_tokens <= self._window

    def collect(self, computed: ComputedBatch) -> list[Captured]:
        """Convert a computed batch into captured samples."""
        return [self._capture_row(computed, row) for row in range(len(computed.prompts))]

    def _capture_row(self, computed: ComputedBatch, row: int) -> Captured:
        readings, prompt, answer = computed.readings, computed.prompts[row], computed.answers[row]
        image, boundary = computed.image_of[row], computed.vision_row[row] if computed.vision_row else -1
        only, encoder = readings.vision_only, readings.vision_encoder
        return Captured(
            sample=prompt.sample,
            image_sha256=prompt.image_sha256,
            image_difference_hash=prompt.image_difference_hash,
            vision_only=None if only is None else only[image],
            vision_encoder=None if encoder is None else encoder[image],
            vision_token=self._by_layer("vision", readings.vision_token, boundary),
            query_token=self._by_layer("query", readings.query_token, row),
            question_end=self._by_layer("question-end", readings.question_end, row),
            image_mean=self._by_layer("image-mean", readings.image_mean, boundary),
            vision_index=prompt.positions.vision_index,
            vision_id=prompt.positions.vision_id,
            query_index=prompt.positions.query_index,
            query_id=prompt.positions.query_id,
            question_end_index=prompt.positions.question_end_index,
            question_end_id=prompt.positions.question_end_id,
            prompt_tokens=len(prompt),
            first_token_logprob=float(readings.first_token_logprob[row]),
            first_token_entropy=float(readings.first_token_entropy[row]),
            answer=answer_text(self._tokenizer, answer),
            answer_logprob=np.nan if readings.answer_logprob is None else float(readings.answer_logprob[row]),
            answer_tokens=len(answer),
            finished=computed.finished[row],
            sampled=self._sampled_row(computed.sampled, row),
        )

    def _sampled_row(self, sampled: SampledTokens | None, row: int) -> SampledAnswers | None:
        if sampled is None:
            return None
        tokens = sampled.tokens[row]
        return SampledAnswers(
            answers=tuple(answer_text(self._tokenizer, answer) for answer in tokens),
            logprobs=sampled.logprobs[row],
            tokens=np.array(list(map(len, tokens)), dtype=np.int32),
            finished=sampled.finished[row],
        )

    def _by_layer(self, position: str, states: np.ndarray | None, place: int) -> dict[int, np.ndarray]:
        """Return the states [L, K, D] at one place by layer, if the position is one to read."""
        if states is None or position not in self.spec.positions:
            return {}
        return {layer: states[k, place] for k, layer in enumerate(self.spec.layers)}


def _show_images(prompts: Sequence[Prompt]) -> bool:
    """Return whether these prompts show images. Raises ValueError if some do and others do not."""
    kinds = {prompt.image_count > 0 for prompt in prompts}
    if len(kinds) > 1:
        raise ValueError("prompts with and without images in one batch")
    return kinds.pop()


def _sliding_window(text_config: Any) -> int | None:
    """Return the window in tokens; None if all layers have full attention. Without `layer_types` all slide (Mistral).

    Llama 4's chunks count columns, too.
    """
    window, types = getattr(text_config, "sliding_window", None), getattr(text_config, "layer_types", None)
    chunk = getattr(text_config, "attention_chunk_size", None)
    windows = [int(window)] if window and (types is None or "sliding_attention" in types) else []
    windows += [int(chunk)] if chunk and types is not None and "chunked_attention" in types else []
    return min(windows, default=None)
