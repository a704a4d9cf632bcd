"""Train the bundled ShapesVQA model on the CPU (about 35 minutes on 2 cores), seeded and resumable.

python -m halp_probe.shapes.train --output-dir runs/shapes

Run the same command again after an interruption. Scenes come from seeds that `halp-probe shapes` refuses, so what the
demo and the tests measure is held out.

Legend: S scenes a batch, T tokens of a packed row, P prefix tokens (up to the end of the image).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, set_seed

from halp_probe.shapes import questions, scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED
from halp_probe.shapes.model import build_model, build_processor

IGNORED = -100  # label of a token without a loss


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run."""

    steps: int = 4000
    scenes_a_step: int = 16
    questions_a_scene: int = 6
    learning_rate: float = 1.5e-3  # peak of the one-cycle schedule
    weight_decay: float = 0.01
    caption_steps: float = 0.4  # share of the steps in which captions count in full; a fifth of that afterwards
    seed: int = 0
    checkpoint_every: int = 250


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """S scenes, one a row: the prefix once, then every question as a branch that attends to the prefix and itself."""

    pixel_values: torch.Tensor  # [patches, channels · 2 · 14 · 14] float32
    image_grid_thw: torch.Tensor  # [S, 3] int64
    input_ids: torch.Tensor  # [S, T] int64
    labels: torch.Tensor  # [S, T] int64: the token to predict from this position, or IGNORED
    is_caption: torch.Tensor  # [S, T] bool
    position_ids: torch.Tensor  # [3, S, T] int64
    attention_mask: torch.Tensor  # [S, 1, T, T] bool, True = may look
    cell_colours: torch.Tensor  # [S, image tokens] int64: index into COLOURS, or len(COLOURS) for an empty cell
    cell_shapes: torch.Tensor  # [S, image tokens] int64: likewise for SHAPES


def pack(processor: Qwen2_5_VLProcessor, seeds: Sequence[int], questions_a_scene: int) -> PackedBatch:
    """Pack the scenes of these seeds with their questions and captions into one batch."""
    tokenizer = processor.tokenizer
    scene_list = [scenes.make_scene(seed, scenes.MILD) for seed in seeds]
    pixels = processor.image_processor(images=[scenes.render(s) for s in scene_list], return_tensors="pt")
    image_tokens = int(pixels["image_grid_thw"][0].prod()) // processor.image_processor.merge_size**2
    rows = []
    for scene in scene_list:
        question_pairs = [(q.text, q.answer) for q in questions.ask(scene, questions_a_scene)]
        branches, prefix = [], []
        for text, answer in [*question_pairs, (questions.CAPTION_PROMPT, scenes.caption(scene))]:
            content = [{"type": "image"}, {"type": "text", "text": text}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            head, tail = prompt.split("<|vision_end|>")
            prefix = tokenizer(
                head.replace("<|image_pad|>", "<|image_pad|>" * image_tokens) + "<|vision_end|>"
            ).input_ids
            question_ids = tokenizer(tail).input_ids
            answer_ids = tokenizer(answer + "<|im_end|>").input_ids
            branches.append((question_ids, answer_ids))
        rows.append((prefix, branches))
    width = max(len(prefix) + sum(len(a) + len(b) for a, b in branches) for prefix, branches in rows)
    n = len(rows)
    input_ids = torch.full((n, width), tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    labels = torch.full((n, width), IGNORED)
    is_caption = torch.zeros(n, width, dtype=torch.bool)
    branch_of = torch.full((n, width), -1)  # -1 padding, 0 prefix, 1 … branches
    place = torch.zeros(n, width, dtype=torch.long)  # 1-D place of a token in its own unpacked prompt
    for row, (prefix, branches) in enumerate(rows):
        at = len(prefix)
        input_ids[row, :at] = torch.tensor(prefix)
        branch_of[row, :at] = 0
        for number, (question_ids, answer_ids) in enumerate(branches, start=1):
            ids = question_ids + answer_ids
            end = at + len(ids)
            input_ids[row, at:end] = torch.tensor(ids)
            labels[row, at + len(question_ids) - 1 : end - 1] = torch.tensor(answer_ids)
            is_caption[row, at:end] = number == len(branches)
            branch_of[row, at:end] = number
            place[row, at:end] = torch.arange(len(ids))
            at = end
    prefix_length = len(rows[0][0])
    position_ids = _positions(rows[0][0], place, branch_of, pixels["image_grid_thw"][0], processor)
    same = branch_of[:, :, None] == branch_of[:, None, :]  # [S, T, T]
    look = (same | (branch_of[:, None, :] == 0)).tril() | torch.eye(width, dtype=torch.bool)
    assert all(len(prefix) == prefix_length for prefix, _ in rows)
    return PackedBatch(
        pixel_values=pixels["pixel_values"],
        image_grid_thw=pixels["image_grid_thw"],
        input_ids=input_ids,
        labels=labels,
        is_caption=is_caption,
        position_ids=position_ids,
        attention_mask=look[:, None],
        cell_colours=cell_labels(scene_list, "colour", list(scenes.COLOURS)),
        cell_shapes=cell_labels(scene_list, "shape", list(scenes.SHAPES)),
    )


def cell_labels(scene_list: Sequence[scenes.Scene], attribute: str, names: list[str]) -> torch.Tensor:
    """Return [S, cells] int64: the index of the thing in each cell of the captions' grid, `len(names)` if empty."""
    labels = torch.full((len(scene_list), scenes.GRID**2), len(names))
    for row, scene in enumerate(scene_list):
        for thing in scene.things:
            labels[row, thing.cell] = names.index(getattr(thing, attribute))
    return labels


def _positions(
    prefix: list[int], place: torch.Tensor, branch_of: torch.Tensor, grid: torch.Tensor, processor: Qwen2_5_VLProcessor
) -> torch.Tensor:
    """Compute mRoPE positions [3, S, T]: the image spans its grid, and every branch starts right after the prefix."""
    image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    first = prefix.index(image_token)
    height, width = (int(side) // processor.image_processor.merge_size for side in grid[1:])
    after = first + max(height, width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1) + first  # [3, image tokens]
    rest = len(prefix) - first - image.shape[1]
    text_before = torch.arange(first).expand(3, -1)
    text_after = torch.arange(after, after + rest).expand(3, -1)
    in_prefix = torch.cat([text_before, image, text_after], dim=1)  # [3, P]
    positions = (place + after + rest).expand(3, -1, -1).clone()
    positions[:, :, : len(prefix)] = in_prefix[:, None]
    positions[:, branch_of < 0] = 0
    return positions


class GroundingHead(torch.nn.Module):
    """Head that names the thing in an image token's cell. For training only: answers alone do not train the tower."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.colour = torch.nn.Linear(width, len(scenes.COLOURS) + 1)
        self.shape = torch.nn.Linear(width, len(scenes.SHAPES) + 1)

    def loss(self, image_tokens: torch.Tensor, cell_colours: torch.Tensor, cell_shapes: torch.Tensor) -> torch.Tensor:
        """Return the cells' mean cross-entropy; image tokens [S, cells, D], labels [S, cells] of `cell_labels`."""
        cross_entropy = torch.nn.functional.cross_entropy
        colours = cross_entropy(self.colour(image_tokens).flatten(0, 1), cell_colours.flatten())
        shapes = cross_entropy(self.shape(image_tokens).flatten(0, 1), cell_shapes.flatten())
        return colours + shapes


def embed_images(model: Qwen2_5_VLForConditionalGeneration, batch: PackedBatch) -> torch.Tensor:
    """Return the batch's image tokens after the merger, [S, image tokens, D]."""
    features = model.model.get_image_features(batch.pixel_values, batch.image_grid_thw, return_dict=True)
    return torch.stack(list(features.pooler_output))


def packed_loss(
    model: Qwen2_5_VLForConditionalGeneration, image_tokens: torch.Tensor, batch: PackedBatch, caption_weight: float
) -> torch.Tensor:
    """Return the mean cross-entropy of the answers' tokens plus `caption_weight` times that of the captions'."""
    embeddings = model.get_input_embeddings()(batch.input_ids)
    is_image = (batch.input_ids == model.config.image_token_id)[..., None]
    embeddings = embeddings.masked_scatter(is_image, image_tokens.flatten(0, 1))
    hidden = model.model.language_model(
        inputs_embeds=embeddings,
        position_ids=batch.position_ids,
        attention_mask=batch.attention_mask,
        use_cache=False,
    ).last_hidden_state  # [S, T, D]
    has_label = batch.labels != IGNORED
    losses = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[has_label]), batch.labels[has_label], reduction="none"
    )
    caption = batch.is_caption[has_label]
    return losses[~caption].mean() + caption_weight * losses[caption].mean()


class _Batches(Dataset[PackedBatch]):
    """Training batches: batch k depends on k alone, so a resumed run sees the batches of an uninterrupted one."""

    def __init__(self, config: TrainConfig, processor: Qwen2_5_VLProcessor, first_step: int) -> None:
        self.config, self.processor, self.first_step = config, processor, first_step

    def __len__(self) -> int:
        return self.config.steps - self.first_step

    def __getitem__(self, index: int) -> PackedBatch:
        if index >= len(self):
            raise IndexError(index)
        first = FIRST_TRAINING_SEED + (self.first_step + index) * self.config.scenes_a_step
        seeds = range(first, first + self.config.scenes_a_step)
        return pack(self.processor, seeds, self.config.questions_a_scene)


def train(config: TrainConfig, output_dir: Path, *, stop_after: int | None = None, workers: int = 1) -> list[float]:
    """Train, or resume from the checkpoint in `output_dir`; save the model in float16, return this call's losses."""
    set_seed(config.seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    processor = build_processor()
    model = build_model(processor)
    model.train()
    head = GroundingHead(model.config.text_config.hidden_size)
    modules = torch.nn.ModuleDict({"model": model, "head": head})
    decayed = [p for p in modules.parameters() if p.ndim > 1]
    plain = [p for p in modules.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    checkpoint = output_dir / "checkpoint.pt"
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if json.loads(state["config"]) != asdict(config):
            raise ValueError(f"{checkpoint} belongs to another run ({state['config']}); choose a new --output-dir")
        modules.load_state_dict(state["learned"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step = state["step"]
    losses: list[float] = []
    started = time.monotonic()
    loader = DataLoader(_Batches(config, processor, step), batch_size=None, num_workers=workers)
    for batch in loader:
        caption_weight = 1.0 if step < config.caption_steps * config.steps else 0.2
        image_tokens = embed_images(model, batch)
        grounding = head.loss(image_tokens, batch.cell_colours, batch.cell_shapes)
        loss = packed_loss(model, image_tokens, batch, caption_weight) + grounding
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        step += 1
        if step % 50 == 0:
            recent = sum(losses[-50:]) / len(losses[-50:])
            rate = len(losses) / (time.monotonic() - started)
            print(f"step {step}/{config.steps}  loss {recent:.3f}  {rate:.1f} steps/s", flush=True)
        if step % config.checkpoint_every == 0 or step in (config.steps, stop_after):
            _save_checkpoint(checkpoint, config, step, modules, optimizer, schedule)
        if step == stop_after:
            return losses
    model.eval().to(torch.float16).save_pretrained(output_dir / "model")
    processor.save_pretrained(output_dir / "model")
    return losses


def _save_checkpoint(
    path: Path,
    config: TrainConfig,
    step: int,
    modules: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "config": json.dumps(asdict(config)),
            "step": step,
            "learned": modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        },
        partial,
    )
    partial.replace(path)


def main() -> None:
    """Train the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="checkpoint, and the finished model in model/")
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    args = parser.parse_args()
    train(TrainConfig(steps=args.steps, seed=args.seed), args.output_dir)


if __name__ == "__main__":
    main()
