"""Stage of training: what is learned, and the run over its data, resumed from the last complete checkpoint."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from halp_probe.finetuning.checkpoints import LEARNED, last_whole, load_learned, save_learned
from halp_probe.finetuning.plan import Lora, Schedule, Stage
from halp_probe.finetuning.trainer import VlmTrainer, Watch, arguments
from halp_probe.fused.model import connector, lora_targets
from halp_probe.json_files import read_json, write_json
from halp_probe.models.adapters import peft_library
from halp_probe.models.compat import checkpoint_activations

_FINISHED = "finished.json"  # written last


@dataclass(frozen=True)
class Learning:
    """Model ready for a stage."""

    model: Any  # the model to train: the fused model, or PEFT's around it
    fused: Any  # the fused model itself


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data of a stage."""

    train: Dataset[Any]  # in the order of training
    held_out: Dataset[Any] | None
    collate: Callable[[Sequence[Any]], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class StageLog:
    """Rows of losses.csv: `step`, `loss`, `learning_rate`, `grad_norm`, or `step`, `held_out_loss`.

    A step's loss is the mean over all its answer tokens, the held-out loss the mean of its batches' losses; in nats.
    """

    rows: tuple[Mapping[str, float], ...]


def connector_weights(fused: Any) -> list[torch.nn.Parameter]:
    """Return the connector's weights and, where pictures are tiled, the embedding that ends a row of tiles."""
    newline = getattr(fused.model, "image_newline", None)
    return [*connector(fused).parameters(), *([] if newline is None else [newline])]


def make_trainable(fused: Any, stage: Stage) -> Learning:
    """Freeze all but what the stage learns: the connector, in float32, and new LoRA weights on the language model.

    The LoRA weights are drawn from torch's global random state.
    """
    fused.requires_grad_(False)
    for weight in connector_weights(fused):
        weight.requires_grad_(True)
        weight.data = weight.data.float()
    if stage.lora is None:
        return Learning(fused, fused)
    adapted = _with_lora(fused, stage.lora)
    for weight in connector_weights(fused):  # PEFT freezes what it is put on
        weight.requires_grad_(True)
    return Learning(adapted, fused)


def run(
    learned: Learning,
    stage: Stage,
    schedule: Schedule,
    data: Data,
    folder: Path,
    *,
    on_step: Callable[[int, int, float], None],
    should_stop: Callable[[], bool],
) -> StageLog | None:
    """Train, or resume from the folder's last complete checkpoint; None when `should_stop` ended it early.

    `on_step` is called with the step, the number of steps and the loss. A finished stage is read from the folder.
    Raises InputError for a loss that is not finite.
    """
    checkpoints = folder / "checkpoints"
    if (folder / _FINISHED).is_file():
        shutil.rmtree(checkpoints, ignore_errors=True)  # left by a run that was killed while removing them
        load_learned(learned.model, folder / LEARNED)
        return StageLog(tuple(read_json(folder / _FINISHED)))
    trainer = VlmTrainer(
        model=learned.model,
        args=arguments(stage, schedule, checkpoints, learned.fused, evaluates=data.held_out is not None),
        train_dataset=data.train,
        eval_dataset=data.held_out,
        data_collator=data.collate,
        callbacks=[Watch(on_step, should_stop)],
    )
    trainer.remove_callback(PrinterCallback)  # prints a dictionary a step
    if schedule.gradient_checkpointing:
        checkpoint_activations(learned.fused)
    _train(trainer, last_whole(checkpoints))
    if trainer.state.global_step < trainer.state.max_steps:
        return None
    if data.held_out is not None and not _has_evaluation(trainer.state):
        trainer.evaluate()
    log = StageLog(tuple(filter(None, map(_row, trainer.state.log_history))))
    save_learned(learned.model, folder / LEARNED)
    write_json(folder / _FINISHED, log.rows, allow_nan=True)
    shutil.rmtree(checkpoints)
    return log


def _train(trainer: VlmTrainer, before: Path | None) -> None:
    """Train from the beginning, or from a checkpoint; a checkpoint of the last step is taken as it is.

    The Trainer would make one more step from there where `max_steps` ended the run within an epoch.
    """
    if before is not None:
        state = TrainerState.load_from_json(str(before / TRAINER_STATE_NAME))
        if state.global_step >= state.max_steps:
            load_learned(trainer.model, before / LEARNED)
            trainer.state = state
            return
    trainer.train(resume_from_checkpoint=None if before is None else str(before))


def _has_evaluation(state: TrainerState) -> bool:
    """Return whether the held-out loss of the last step is there; some releases of transformers compute it."""
    return any("eval_loss" in logged and logged["step"] == state.global_step for logged in state.log_history)


def _with_lora(fused: Any, lora: Lora) -> Any:
    peft = peft_library()
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora_targets(lora.mlp),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses a name that transformers will drop
        return peft.get_peft_model(fused, config)


def _row(logged: Mapping[str, Any]) -> dict[str, float] | None:
    if "loss" in logged:
        return {name: logged[name] for name in ("step", "loss", "learning_rate", "grad_norm") if name in logged}
    if "eval_loss" in logged:
        return {"step": logged["step"], "held_out_loss": logged["eval_loss"]}
    return None
