"""python -m halp_probe.shapes.parts_training --output-dir runs/parts

Trains the two parts from which `halp-probe train-vlm` fuses a VLM without any download, on one CPU thread in about
20 minutes: `vit`, which learns to name what stands in each cell of a picture, and `lm`, which learns to answer
questions on scenes that are told in words. Neither has met the other. Scenes come from seeds that `halp-probe shapes`
refuses to hand out.

Legend: S scenes a batch, T tokens of a conversation, D the ViT's width.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    set_seed,
)

from halp_probe.shapes import scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED
from halp_probe.shapes.model import CHAT_TEMPLATE, INITIALIZER_RANGE, build_tokenizer
from halp_probe.shapes.parts_text import Telling, tell
from halp_probe.shapes.train import GroundingHead, cell_labels

PATCH = scenes.SIDE // scenes.GRID  # pixels: a patch of the ViT is a cell of the captions
FIRST_USER = "<|im_start|>user\n"
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)


@dataclass(frozen=True)
class VisionTraining:
    """One training run of the ViT."""

    steps: int = 6000
    scenes_a_step: int = 64
    scenes: int = 12_000  # drawn once, and shown shifted by whole cells and mirrored
    learning_rate: float = 2e-3  # peak of the one-cycle schedule
    weight_decay: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class LanguageTraining:
    """One training run of the language model."""

    steps: int = 3000
    scenes_a_step: int = 8  # each step has new ones
    questions_a_scene: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    other_tokens: float = 0.03  # weight of a token that is not an answer's
    seed: int = 0


@dataclass(frozen=True)
class Branch:
    """Tokens in a row, and of each whether it belongs to an answer."""

    ids: list[int]
    is_answer: list[bool]


@dataclass(frozen=True)
class ToldBatch:
    """S scenes told in words, each one row."""

    input_ids: torch.Tensor  # [S, T] int64, padded on the right
    targets: torch.Tensor  # [S, T] int64: the token to predict from this one
    weights: torch.Tensor  # [S, T] float32: what that prediction weighs in the loss; 0 where there is none
    position_ids: torch.Tensor  # [S, T] int64: place of a token in its own unpacked conversation
    attention_mask: torch.Tensor  # [S, 1, T, T] bool, True = may look


@dataclass(frozen=True)
class Trained:
    """A finished part, in evaluation mode, and the loss of every step."""

    model: PreTrainedModel
    losses: list[float]


def build_vit() -> ViTModel:
    """The untrained ViT of width 64: 16 patches and the class token; weights follow torch's global seed."""
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
    """Pixels from -1 to 1, as the large ViTs take them."""
    size = {"height": scenes.SIDE, "width": scenes.SIDE}
    return ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def build_language_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """The untrained language model of width 128; weights follow torch's global seed."""
    ids = tokenizer.convert_tokens_to_ids
    end, padding = ids("<|im_end|>"), ids("<|endoftext|>")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        bos_token_id=padding,
        eos_token_id=end,
        pad_token_id=padding,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = [end, padding]
    model.generation_config.pad_token_id = padding
    return model


def train_vit(training: VisionTraining) -> Trained:
    """A ViT whose patches tell colour and shape of what stands there; the head that asked for them is thrown away."""
    set_seed(training.seed)
    vit = build_vit()
    head = GroundingHead(vit.config.hidden_size)
    drawn = [
        scenes.make_scene(seed, scenes.MILD)
        for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + training.scenes)
    ]
    pictures = torch.from_numpy(np.stack([np.asarray(scenes.render(scene)) for scene in drawn])).permute(0, 3, 1, 2)
    grid = (len(drawn), scenes.GRID, scenes.GRID)
    colours = cell_labels(drawn, "colour", list(scenes.COLOURS)).view(grid)
    shapes = cell_labels(drawn, "shape", list(scenes.SHAPES)).view(grid)

    def loss(step: int) -> torch.Tensor:
        chosen = torch.randint(len(drawn), (training.scenes_a_step,))
        down, right, mirrored = (int(torch.randint(n, ())) for n in (scenes.GRID, scenes.GRID, 2))

        def moved(images: torch.Tensor, cell: int) -> torch.Tensor:
            rolled = images[chosen].roll((down * cell, right * cell), dims=(-2, -1))
            return rolled.flip(-1) if mirrored else rolled

        pixels = moved(pictures, PATCH) / 127.5 - 1
        states = vit(pixels).last_hidden_state[:, 1:]  # [S, cells, D]
        return head.loss(states, moved(colours, 1).flatten(1), moved(shapes, 1).flatten(1))

    learned = torch.nn.ModuleDict({"vit": vit, "head": head})
    losses = _optimise("vit", learned, loss, training)
    return Trained(vit.eval(), losses)


def train_language_model(training: LanguageTraining, tokenizer: Qwen2Tokenizer) -> Trained:
    """A language model that answers questions on scenes told in words, and writes their captions."""
    set_seed(training.seed)
    model = build_language_model(tokenizer)
    model.set_attn_implementation("eager")  # on short texts and one thread faster than fused attention

    def loss(step: int) -> torch.Tensor:
        first = FIRST_TRAINING_SEED + step * training.scenes_a_step
        drawn = [scenes.make_scene(seed, scenes.MILD) for seed in range(first, first + training.scenes_a_step)]
        batch = pack(tokenizer, [tell(scene, training.questions_a_scene) for scene in drawn], training.other_tokens)
        return packed_loss(model, batch)

    losses = _optimise("lm", model, loss, training)
    return Trained(model.eval(), losses)


def packed_loss(model: Qwen2ForCausalLM, batch: ToldBatch) -> torch.Tensor:
    """Mean cross-entropy of the tokens by their weights."""
    barred = torch.zeros(batch.attention_mask.shape).masked_fill(~batch.attention_mask, torch.finfo(torch.float32).min)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=barred, use_cache=False
        ).logits
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


def pack(tokenizer: Qwen2Tokenizer, tellings: list[Telling], other_tokens: float) -> ToldBatch:
    """One row a telling: what its questions share once, then a branch for each question that is asked alone.

    The tokens of answers weigh 1, all others `other_tokens`.
    """
    rows = [_branches(tokenizer, telling) for telling in tellings]
    width = max(sum(len(branch.ids) for branch in row) for row in rows)
    n = len(rows)
    input_ids = torch.full((n, width), tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    targets = torch.zeros(n, width, dtype=torch.long)
    weights = torch.zeros(n, width)
    position_ids = torch.zeros(n, width, dtype=torch.long)
    branch_of = torch.full((n, width), -1)  # -1 padding, 0 what is shared, 1 … branches
    for row, branches in enumerate(rows):
        at, shared = 0, len(branches[0].ids)
        for number, branch in enumerate(branches):
            ids, is_answer = torch.tensor(branch.ids), torch.tensor(branch.is_answer)
            end = at + len(ids)
            input_ids[row, at:end] = ids
            targets[row, at : end - 1] = ids[1:]
            weights[row, at : end - 1] = torch.where(is_answer[1:], 1.0, other_tokens)
            position_ids[row, at:end] = torch.arange(len(ids)) + (shared if number else 0)
            branch_of[row, at:end] = number
            at = end
    same = branch_of[:, :, None] == branch_of[:, None, :]  # [S, T, T]
    look = (same | (branch_of[:, None, :] == 0)).tril()
    return ToldBatch(input_ids, targets, weights, position_ids, look[:, None])


def _branches(tokenizer: Qwen2Tokenizer, telling: Telling) -> list[Branch]:
    """What all questions of a telling share, and each question with its answer; one branch for a conversation."""
    asked = [[exchange] for exchange in telling.exchanges] if telling.alone else [telling.exchanges]
    branches = []
    for exchanges in asked:
        messages = []
        for exchange in exchanges:
            messages.append({"role": "user", "content": exchange.user})
            messages.append({"role": "assistant", "content": exchange.assistant})
        text = tokenizer.apply_chat_template(messages, chat_template=CHAT_TEMPLATE, tokenize=False)
        head, user, rest = text.partition(FIRST_USER)
        ids: list[int] = []
        is_answer: list[bool] = []
        for number, piece in enumerate(ANSWER.split(rest)):  # every second piece is an answer with its end token
            piece_ids = tokenizer(piece).input_ids
            ids += piece_ids
            is_answer += [number % 2 == 1] * len(piece_ids)
        branches.append(Branch(ids, is_answer))
    shared = tokenizer(head + user).input_ids + tokenizer(telling.description).input_ids
    return [Branch(shared, [False] * len(shared)), *branches]


def _optimise(
    name: str,
    learned: torch.nn.Module,
    loss_of_step: Callable[[int], torch.Tensor],
    training: VisionTraining | LanguageTraining,
) -> list[float]:
    """AdamW on a one-cycle schedule; the loss of every step, and every 100 steps their mean is printed."""
    parameters = [p for p in learned.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    learned.train()
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
    """Weights in float16, config and image processor."""
    vit.to(torch.float16).save_pretrained(folder)
    build_image_processor().save_pretrained(folder)


def save_language_model(model: PreTrainedModel, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Weights in float16, config, tokenizer and chat template."""
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="gets vit/ and lm/")
    args = parser.parse_args()
    save_vit(train_vit(VisionTraining()).model, args.output_dir / "vit")
    tokenizer = build_tokenizer()
    trained = train_language_model(LanguageTraining(), tokenizer)
    save_language_model(trained.model, tokenizer, args.output_dir / "lm")


if __name__ == "__main__":
    main()
