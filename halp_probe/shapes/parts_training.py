"""Make the two bundled parts from which `halp-probe train-vlm` fuses a VLM without any download.

python -m halp_probe.shapes.parts_training --output-dir runs/parts

`vit` learns to name the shape in each cell of a picture, in about 12 minutes on one CPU thread, on scenes from seeds
that `halp-probe shapes` refuses. `lm` is the bundled model's decoder: it can answer about pictures, but has never been
trained with this tower.

Legend: S scenes a batch, D the ViT's width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    set_seed,
)

from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.shapes import scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED
from halp_probe.shapes.model import CHAT_TEMPLATE, INITIALIZER_RANGE, build_tokenizer
from halp_probe.shapes.train import GroundingHead, cell_labels

PATCH = scenes.SIDE // scenes.GRID  # pixels: a patch of the ViT is a cell of the captions
_NOT_COPIED = ("model_type", "architectures", "rope_parameters", "layer_types", "transformers_version")


@dataclass(frozen=True, kw_only=True)
class VisionTraining:
    """Settings of one training run of the ViT."""

    steps: int = 6000
    scenes_a_step: int = 64
    scenes: int = 12_000  # drawn once, and shown shifted by whole cells and mirrored
    learning_rate: float = 2e-3  # peak of the one-cycle schedule
    weight_decay: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class TrainedPart:
    """Finished part, in evaluation mode, and the loss of every step."""

    model: PreTrainedModel
    losses: list[float]


def build_vit() -> ViTModel:
    """Build the untrained ViT of width 64: 16 patches and the class token; weights follow torch's global seed."""
    config = ViTConfig(
        image_size=scenes.SIDE,
        patch_size=PATCH,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        initializer_range=INITIALIZER_RANGE,
    )
    return ViTModel(config, add_pooling_layer=False)


def build_image_processor() -> ViTImageProcessor:
    """Build the image processor: pixels from -1 to 1, as the large ViTs take them."""
    size = {"height": scenes.SIDE, "width": scenes.SIDE}
    return ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def train_vit(training: VisionTraining) -> TrainedPart:
    """Train a ViT whose patches encode colour and shape of the thing there; the grounding head is discarded."""
    set_seed(training.seed)
    vit = build_vit()
    head = GroundingHead(vit.config.hidden_size)
    scene_list = [
        scenes.make_scene(seed, scenes.MILD)
        for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + training.scenes)
    ]
    pictures = torch.from_numpy(np.stack([np.asarray(scenes.render(scene)) for scene in scene_list])).permute(
        0, 3, 1, 2
    )
    grid = (len(scene_list), scenes.GRID, scenes.GRID)
    colours = cell_labels(scene_list, "colour", list(scenes.COLOURS)).view(grid)
    shapes = cell_labels(scene_list, "shape", list(scenes.SHAPES)).view(grid)

    def loss(step: int) -> torch.Tensor:
        chosen = torch.randint(len(scene_list), (training.scenes_a_step,))
        down, right, mirrored = (int(torch.randint(n, ())) for n in (scenes.GRID, scenes.GRID, 2))

        def shift(images: torch.Tensor, cell: int) -> torch.Tensor:
            rolled = images[chosen].roll((down * cell, right * cell), dims=(-2, -1))
            return rolled.flip(-1) if mirrored else rolled

        pixels = shift(pictures, PATCH) / 127.5 - 1
        states = vit(pixels).last_hidden_state[:, 1:]  # [S, cells, D]
        return head.loss(states, shift(colours, 1).flatten(1), shift(shapes, 1).flatten(1))

    modules = torch.nn.ModuleDict({"vit": vit, "head": head})
    losses = _optimise("vit", modules, loss, training)
    return TrainedPart(vit.eval(), losses)


def extract_language_part() -> Qwen2ForCausalLM:
    """Extract the decoder of the bundled model, in float16: same weights, positions in one dimension."""
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED_FOLDER, dtype=torch.float16)
    source = whole.config.text_config.to_dict()
    fields = {name: source[name] for name in Qwen2Config().to_dict() if name in source and name not in _NOT_COPIED}
    theta = whole.config.text_config.rope_parameters["rope_theta"]
    model = Qwen2ForCausalLM(Qwen2Config(**fields, rope_parameters={"rope_type": "default", "rope_theta": theta}))
    model.to(torch.float16).model.load_state_dict(whole.model.language_model.state_dict())
    model.generation_config = whole.generation_config
    return model.eval()


def _optimise(
    name: str,
    modules: torch.nn.Module,
    loss_of_step: Callable[[int], torch.Tensor],
    training: VisionTraining,
) -> list[float]:
    """Train by AdamW on a one-cycle schedule; print the mean loss every 100 steps, and return all losses."""
    parameters = [p for p in modules.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    modules.train()
    losses: list[float] = []
    started = time.monotonic()
    for step in range(training.steps):
        loss = loss_of_step(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            recent, seconds = sum(losses[-100:]) / 100, time.monotonic() - started
            print(f"{name} {step + 1}/{training.steps}  loss {recent:.3f}  {seconds:.0f} s", flush=True)
    return losses


def save_vit(vit: PreTrainedModel, folder: Path) -> None:
    """Save weights in float16, config and image processor."""
    vit.to(torch.float16).save_pretrained(folder)
    build_image_processor().save_pretrained(folder)


def save_language_part(folder: Path) -> None:
    """Save weights in float16, config, tokenizer and chat template."""
    extract_language_part().save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Make both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="gets vit/ and lm/")
    args = parser.parse_args()
    save_language_part(args.output_dir / "lm")
    save_vit(train_vit(VisionTraining()).model, args.output_dir / "vit")


if __name__ == "__main__":
    main()
