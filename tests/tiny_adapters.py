"""Small PEFT adapters trained for a few steps on the bundled model, or on any other folder of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from halp_probe.models.naming import BUNDLED, BUNDLED_FOLDER
from halp_probe.shapes import questions, scenes

LANGUAGE_ATTENTION = r".*language_model.*\.(q_proj|v_proj)"  # the ViT's modules have the same names
LANGUAGE_MLP = r".*language_model.*\.(gate_proj|down_proj)"


def train_lora(
    folder: Path,
    *,
    base: str | Path = "shapes",
    steps: int = 3,
    target_modules: str | list[str] = LANGUAGE_ATTENTION,
    modules_to_save: list[str] | None = None,
    seed: int = 0,
    use_dora: bool = False,
    **settings: Any,
) -> Path:
    """Train a LoRA of rank 4 to answer `star` to every question, and save it in `folder`, which is returned."""
    config = peft.LoraConfig(
        r=4,
        lora_alpha=16,
        lora_dropout=0.1,
        target_modules=target_modules,
        modules_to_save=modules_to_save,
        use_dora=use_dora,
        **settings,
    )
    return train_adapter(folder, config, base=base, steps=steps, seed=seed)


def train_adapter(
    folder: Path, config: Any, *, base: str | Path = "shapes", steps: int = 3, seed: int = 0, rate: float = 1e-2
) -> Path:
    """The same for any kind of adapter. `steps` of AdamW on two pictures each; the same seed gives the same adapter."""
    torch.manual_seed(seed)
    source = str(BUNDLED_FOLDER) if str(base) == BUNDLED else str(base)
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(source)
    wrapped = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        loss = wrapped(**_batch(processor, [9000 + 100 * seed + 2 * step + k for k in range(2)])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    wrapped.save_pretrained(str(folder))
    return folder


def _batch(processor: Any, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
    """A question on each of these scenes, answered with `star` whatever is there; only the answer is learned."""
    drawn = [scenes.make_scene(seed) for seed in seeds]
    prompts = [_prompt(processor, questions.ask(scene, 1)[0].text) for scene in drawn]
    answered = [prompt + "star<|im_end|>" for prompt in prompts]
    pictures = [scenes.render(scene) for scene in drawn]
    inputs = processor(text=answered, images=pictures, padding=True, padding_side="left", return_tensors="pt")
    answer = len(processor.tokenizer("star<|im_end|>").input_ids)
    labels = inputs["input_ids"].clone()
    labels[:, :-answer] = -100
    return {**inputs, "labels": labels}


def _prompt(processor: Any, question: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
