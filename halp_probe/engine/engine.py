"""A batch of prompts through the model once: vision means, states at both positions, confidence, then the answers.

A gate may look at the states before any answer begins, and say which prompts are answered at all.

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
from halp_probe.engine.prefix import ByImage, by_image, shared_tokens
from halp_probe.engine.prompting import Prompt
from halp_probe.engine.sampling import GREEDY, Decoding
from halp_probe.engine.streaming import answer_text
from halp_probe.engine.vision import Seen, see
from halp_probe.models.loading import LoadedModel
from halp_probe.records import QUERY_TOKEN, VISION_ENCODER, VISION_ONLY, VISION_TOKEN, Captured, CaptureSpec
from halp_probe.shards.names import layer_of


@dataclass(frozen=True)
class Computed:
    """A batch as it comes from the device; `Engine.collect` makes samples of it."""

    prompts: Sequence[Prompt]
    image_of: list[int]  # of each prompt, in `only` and `encoder`
    vision_row: list[int]  # of each prompt, in `vision_token`
    layers: tuple[int, ...]
    arrays: dict[str, np.ndarray]  # float32; without `only`, `encoder` and `vision_token` where no image is shown
    answers: list[list[int]]  # token ids; empty where no answer was asked for, or the gate was shut
    finished: list[bool]  # whether each answer came to an end token; False where it was cut off, or there is none

    def vectors(self, representation: str) -> np.ndarray:
        """[B, D] float32 of one of the representations, as a shard holds them."""
        position, layer = representation.split("/")[0], layer_of(representation)
        if layer is None:
            return self.arrays[{VISION_ONLY: "only", VISION_ENCODER: "encoder"}[position]][self.image_of]
        name, rows = {
            VISION_TOKEN: ("vision_token", self.vision_row),
            QUERY_TOKEN: ("query_token", list(range(len(self.prompts)))),
        }[position]
        return self.arrays[name][self.layers.index(layer)][rows]


@dataclass(frozen=True)
class Begun:
    """Prompts that were read, and their answers, which go on from there when they are asked for."""

    computed: Computed  # without answers
    steps: Iterator[Step]  # once, and none where no answers were asked for; holds the cache until its end
    end_ids: tuple[int, ...]  # of which one is an answer's last, unless it was cut off


@dataclass(frozen=True)
class _Read:
    """Prompts that were read; `tensors` are what `arrays` become of them."""

    computed: Computed  # without arrays and answers
    tensors: dict[str, torch.Tensor]
    prefill: Prefill


Gate: TypeAlias = Callable[[Computed], np.ndarray]  # -> [B] bool: whether to answer


class Engine:
    """A loaded model and a spec; `run` takes a batch of prompts to captured samples.

    Either all prompts of a batch show images, or none does. With `share_prefix`, prompts on one image (by file content)
    share all that they have in common, where their family can. A `gate` is given the batch before its answers, and says
    which there will be. Sampled answers depend on the prompts' question ids and on `attempt`, beside the seed in
    `decoding`.
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
    ) -> None:
        self.loaded, self.spec, self._gate, self._attempt = loaded, spec, gate, attempt
        self.share_prefix = share_prefix and not loaded.checkpoint.family.unshared
        self._prefiller = Prefiller(loaded, spec.layers, padding_side)
        self._window = _sliding_window(loaded.checkpoint.config.get_text_config())
        self._tokenizer = loaded.checkpoint.processor.tokenizer
        settings, ignored = loaded.model.generation_config, loaded.checkpoint.family.ignored_generation
        end_id = self._tokenizer.eos_token_id
        self._rules = answer_rules(settings, end_id, ignored, decoding) if spec.max_new_tokens else None

    def run(self, prompts: Sequence[Prompt]) -> list[Captured]:
        """Captured samples in the order of the prompts, vectors as float32 on the CPU; nothing is checked for NaN."""
        return self.collect(self.compute(prompts))

    @torch.no_grad()
    def compute(self, prompts: Sequence[Prompt]) -> Computed:
        """The part that keeps the device busy."""
        read = self._read(prompts)
        rows = list(range(len(prompts))) if self._rules is not None else []
        if self._gate is not None and rows:
            rows = np.flatnonzero(self._gate(replace(read.computed, arrays=_to_host(read.tensors)))).tolist()
        answers = self._answers(prompts, read.prefill, rows)
        tensors = {**read.tensors, "answer_logprob": answers.logprobs}
        arrays = _to_host(tensors)  # one copy, after the last work on the device
        return replace(read.computed, arrays=arrays, answers=answers.tokens, finished=answers.finished)

    @torch.no_grad()
    def begin(self, prompts: Sequence[Prompt]) -> Begun:
        """States and confidence now, without asking the gate; each token of the answers when it is asked for."""
        read = self._read(prompts)
        going_on: Iterator[Step] = iter(())
        end_ids = self._rules.end_ids if self._rules is not None else ()
        if self._rules is not None:
            keys = [prompt.sample.question_id for prompt in prompts]
            going_on = steps(self.loaded, self._rules, read.prefill, self.spec.max_new_tokens, keys, self._attempt)
        return Begun(replace(read.computed, arrays=_to_host(read.tensors)), going_on, end_ids)

    def _read(self, prompts: Sequence[Prompt]) -> _Read:
        images = by_image(prompts)
        seen = see(self.loaded, [prompts[row] for row in images.first_rows]) if _show_images(prompts) else None
        several = len(images.rows) < len(prompts)
        if seen is not None and self.share_prefix and several and self._fits_window(prompts, images):
            prefill = self._prefiller.shared(prompts, images, seen)
        else:
            prefill = self._prefiller.whole(prompts, images, seen, keep_cache=self._rules is not None)
        log_probabilities = prefill.logits.float().log_softmax(-1)
        entropy = -(log_probabilities.exp() * log_probabilities.clamp(min=-1e9)).sum(-1)
        tensors = {
            **(_of_images(seen, prefill) if seen is not None else {}),
            "query_token": prefill.query_states,
            "first_logprob": log_probabilities.max(-1).values,
            "entropy": entropy,
        }
        unanswered: list[list[int]] = [[] for _ in prompts]
        unfinished = [False] * len(prompts)
        computed = Computed(prompts, images.image_of, prefill.vision_row, self.spec.layers, {}, unanswered, unfinished)
        return _Read(computed, tensors, prefill)

    def _answers(self, prompts: Sequence[Prompt], prefill: Prefill, rows: list[int]) -> Answers:
        """Of every prompt, but empty, and with log-probability nan, for those that are not among these rows."""
        count = len(prompts)
        logprobs = torch.full((count,), torch.nan, device=prefill.logits.device)
        answers = Answers([[] for _ in prompts], logprobs, [False] * count)
        if self._rules is not None and rows:
            going_on = prefill if len(rows) == count else prefill.take(rows)
            keys = [prompts[row].sample.question_id for row in rows]
            given = decode(self.loaded, self._rules, going_on, self.spec.max_new_tokens, keys, self._attempt)
            logprobs[rows] = given.logprobs
            for k, row in enumerate(rows):
                answers.tokens[row], answers.finished[row] = given.tokens[k], given.finished[k]
        return answers

    def _fits_window(self, prompts: Sequence[Prompt], images: ByImage) -> bool:
        """Whether a sliding window holds all columns: it counts padding, which here stands inside the prompts too."""
        if self._window is None:
            return True
        prefixes = [shared_tokens([prompts[row] for row in rows]) for rows in images.rows]
        suffixes = [len(prompt) - prefixes[image] for prompt, image in zip(prompts, images.image_of, strict=True)]
        return max(prefixes) + max(suffixes) + self.spec.max_new_tokens <= self._window

    def collect(self, computed: Computed) -> list[Captured]:
        """What was computed, sample by sample."""
        arrays, answers = computed.arrays, computed.answers
        layers = list(enumerate(self.spec.layers))
        shown = "only" in arrays
        return [
            Captured(
                sample=prompt.sample,
                image_sha256=prompt.image_sha256,
                vision_only=arrays["only"][image] if shown else None,
                vision_encoder=arrays["encoder"][image] if shown else None,
                vision_token={layer: arrays["vision_token"][k, computed.vision_row[row]] for k, layer in layers}
                if shown
                else {},
                query_token={layer: arrays["query_token"][k, row] for k, layer in layers},
                vision_index=prompt.positions.vision_index,
                vision_id=prompt.positions.vision_id,
                query_index=prompt.positions.query_index,
                query_id=prompt.positions.query_id,
                prompt_tokens=len(prompt),
                first_token_logprob=float(arrays["first_logprob"][row]),
                first_token_entropy=float(arrays["entropy"][row]),
                answer=answer_text(self._tokenizer, answers[row]),
                answer_logprob=float(arrays["answer_logprob"][row]),
                answer_tokens=len(answers[row]),
                finished=computed.finished[row],
            )
            for row, (prompt, image) in enumerate(zip(computed.prompts, computed.image_of, strict=True))
        ]


def _of_images(seen: Seen, prefill: Prefill) -> dict[str, torch.Tensor]:
    return {"only": seen.only, "encoder": seen.encoder, "vision_token": prefill.vision_states}


def _show_images(prompts: Sequence[Prompt]) -> bool:
    """Whether these prompts show images. Raises ValueError when some do and others do not."""
    shown = {prompt.image_count > 0 for prompt in prompts}
    if len(shown) > 1:
        raise ValueError("prompts with and without images in one batch")
    return shown.pop()


def _sliding_window(text_config: Any) -> int | None:
    """In tokens; None when every layer attends to everything. Without `layer_types` all layers slide, as in Mistral.

    Llama 4's chunks count columns too.
    """
    window, types = getattr(text_config, "sliding_window", None), getattr(text_config, "layer_types", None)
    chunk = getattr(text_config, "attention_chunk_size", None)
    windows = [int(window)] if window and (types is None or "sliding_attention" in types) else []
    windows += [int(chunk)] if chunk and types is not None and "chunked_attention" in types else []
    return min(windows, default=None)


def _to_host(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """All of them as float32 arrays, in one copy from the device."""
    flat = torch.cat([tensor.float().flatten() for tensor in tensors.values()]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors.values()])
    pieces = np.split(flat, ends[:-1])
    return {
        name: piece.reshape(tuple(tensor.shape)) for (name, tensor), piece in zip(tensors.items(), pieces, strict=True)
    }
