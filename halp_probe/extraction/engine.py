"""One prefill for a batch of prompts: states at both positions, vision means, first-token confidence, then the answers.

Legend: B prompts, T tokens (padded), L probed layers, D decoder width, V vision width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from halp_probe.extraction.capture import capture_input, capture_outputs
from halp_probe.extraction.decoding import Decoded, decode_greedy, greedy_rules
from halp_probe.extraction.prompting import Prompt
from halp_probe.models.compat import image_arguments
from halp_probe.models.loading import LoadedModel
from halp_probe.records import Captured, CaptureSpec


@dataclass(frozen=True)
class VisionMeans:
    """Of one image: the means over its tokens after, and over its patches before the projector."""

    only: torch.Tensor  # [D] float32
    encoder: torch.Tensor  # [V] float32


class Engine:
    """A loaded model and a spec; `run` takes a batch of prompts to captured samples."""

    def __init__(self, loaded: LoadedModel, spec: CaptureSpec, padding_side: str = "left") -> None:
        self.loaded, self.spec, self.padding_side = loaded, spec, padding_side
        self.family = loaded.checkpoint.family
        self._blocks = {layer: self.family.blocks(loaded.model)[layer] for layer in spec.layers}
        tokenizer = loaded.checkpoint.processor.tokenizer
        self._padding_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
        self._rules = (
            greedy_rules(loaded.model.generation_config, tokenizer.eos_token_id) if spec.max_new_tokens else None
        )

    @torch.no_grad()
    def run(self, prompts: Sequence[Prompt]) -> list[Captured]:
        """Captured samples in the order of the prompts, vectors as float32 on the CPU; nothing is checked for NaN."""
        model, family = self.loaded.model, self.family
        inputs = self._padded(prompts)
        images = {name: torch.cat([prompt.images[name] for prompt in prompts]) for name in family.image_inputs}
        images = {name: tensor.to(self.loaded.device) for name, tensor in images.items()}
        features, vision = self._see(images)
        positions = family.positions(model, {**inputs, **images})
        rows = torch.arange(len(prompts), device=self.loaded.device)
        offsets = inputs["attention_mask"].int().argmax(1)  # [B], padding before each prompt
        queries = offsets + torch.tensor([p.positions.query_index for p in prompts], device=rows.device)
        images_end = offsets + torch.tensor([p.positions.vision_index for p in prompts], device=rows.device)
        kept, at = queries.unique(return_inverse=True)  # left padding: one column for all
        with (
            image_arguments(model, features, images) as arguments,
            capture_outputs(self._blocks, rows.repeat(2), torch.cat([images_end, queries])) as states,
        ):
            outputs = model(
                **{name: tensor for name, tensor in inputs.items() if name != "mm_token_type_ids"},
                position_ids=positions.ids,
                **arguments,
                use_cache=self._rules is not None,
                logits_to_keep=kept,
            )
        logits = outputs.logits[rows, at]  # [B, vocabulary]
        answers: list[Decoded] | None = None
        if self._rules is not None:
            answers = decode_greedy(
                model,
                self._rules,
                cache=outputs.past_key_values,
                logits=logits,
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                next_position=positions.next,
                position_axes=3 if positions.ids.ndim == 3 else 1,
                max_new_tokens=self.spec.max_new_tokens,
            )
        stacked = torch.stack([states[layer] for layer in self.spec.layers])  # [L, 2B, D]
        return self._collect(prompts, stacked, vision, logits, answers)

    def _padded(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and, where the family has them, `mm_token_type_ids`: [B, T] each."""

        def pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
            padded = pad_sequence(rows, batch_first=True, padding_value=value, padding_side=self.padding_side)
            return padded.to(self.loaded.device)

        inputs = {
            "input_ids": pad([prompt.input_ids for prompt in prompts], self._padding_id),
            "attention_mask": pad([torch.ones_like(prompt.input_ids) for prompt in prompts], 0),
        }
        token_types = [prompt.token_types for prompt in prompts if prompt.token_types is not None]
        if token_types:
            inputs["mm_token_type_ids"] = pad(token_types, 0)
        return inputs

    def _see(self, images: dict[str, torch.Tensor]) -> tuple[Any, list[VisionMeans]]:
        """Run the vision tower once: its features for the decoder, and the means of each image."""
        model = self.loaded.model
        images = {**images, "pixel_values": images["pixel_values"].to(model.dtype)}
        projector = model.get_submodule(self.family.projector)
        with capture_input(projector) as seen:
            features = model.get_image_features(**images, return_dict=True)
        after = list(features.pooler_output)  # [image tokens, D] an image
        if len(seen) != 1:
            raise RuntimeError(f"{self.family.projector} ran {len(seen)} times for one batch, expected once")
        before = seen[0].flatten(0, -2)  # [patches of all images, V]
        merged = len(before) // sum(len(tokens) for tokens in after)  # patches that become one image token
        patches = before.split([merged * len(tokens) for tokens in after])
        return features, [
            VisionMeans(tokens.float().mean(0), patch.float().mean(0))
            for tokens, patch in zip(after, patches, strict=True)
        ]

    def _collect(
        self,
        prompts: Sequence[Prompt],
        states: torch.Tensor,  # [L, 2B, D]
        vision: list[VisionMeans],
        logits: torch.Tensor,  # [B, vocabulary]
        answers: list[Decoded] | None,
    ) -> list[Captured]:
        layers, n = self.spec.layers, len(prompts)
        vectors = _to_numpy(states)
        only = _to_numpy(torch.stack([means.only for means in vision]))
        encoder = _to_numpy(torch.stack([means.encoder for means in vision]))
        log_probabilities = logits.float().log_softmax(-1)
        entropy = _to_numpy(-(log_probabilities.exp() * log_probabilities.clamp(min=-1e9)).sum(-1))
        first_logprob = _to_numpy(log_probabilities.max(-1).values)
        tokenizer = self.loaded.checkpoint.processor.tokenizer
        return [
            Captured(
                sample=prompt.sample,
                image_sha256=prompt.image_sha256,
                vision_only=only[row],
                vision_encoder=encoder[row],
                vision_token={layer: vectors[k, row] for k, layer in enumerate(layers)},
                query_token={layer: vectors[k, n + row] for k, layer in enumerate(layers)},
                vision_index=prompt.positions.vision_index,
                vision_id=prompt.positions.vision_id,
                query_index=prompt.positions.query_index,
                query_id=prompt.positions.query_id,
                prompt_tokens=len(prompt),
                first_token_logprob=float(first_logprob[row]),
                first_token_entropy=float(entropy[row]),
                answer=tokenizer.decode(answers[row].ids, skip_special_tokens=True).strip() if answers else "",
                answer_logprob=answers[row].logprob if answers else float("nan"),
                answer_tokens=len(answers[row].ids) if answers else 0,
            )
            for row, prompt in enumerate(prompts)
        ]


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.float().cpu().numpy()
    return array
