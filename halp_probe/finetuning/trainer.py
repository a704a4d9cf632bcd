"""transformers' Trainer, whose checkpoints hold the learned weights alone and which stops where a loss is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from halp_probe.engine.preparing import begin_worker, report_worker_death
from halp_probe.errors import InputError
from halp_probe.finetuning.checkpoints import LEARNED, load_learned, mark_whole, save_learned
from halp_probe.finetuning.plan import Schedule, Stage


class VlmTrainer(Trainer):
    """Takes the samples in the data set's order, which is shuffled already."""

    def train(self, *args: Any, **how: Any) -> Any:
        with report_worker_death("reads pictures", "with fewer `workers`"):
            return super().train(*args, **how)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.train_dataset, self.args.per_device_train_batch_size)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        return self._loader(eval_dataset or self.eval_dataset, self.args.per_device_eval_batch_size)

    def _loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        """In order. A signal to the whole group ends none of its workers, which the next checkpoint still needs."""
        loader: DataLoader[Any] = self.accelerator.prepare(
            DataLoader(
                data,
                batch_size,
                collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.dataloader_pin_memory,
                worker_init_fn=begin_worker,
            )
        )
        return loader

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_learned(self.model, folder / LEARNED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_learned(self.model, Path(resume_from_checkpoint) / LEARNED)


class Watch(TrainerCallback):
    """Marks whole checkpoints, tells of every step, and ends the stage on a signal or a loss that is no number."""

    def __init__(self, told: Callable[[int, int, float], None], stopped: Callable[[], bool]) -> None:
        self._told, self._stopped = told, stopped

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" not in (logs or {}):
            return
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"the loss of step {state.global_step} is {logs['loss']}; lower the learning rate, or take bfloat16 or "
                "float32 as `dtype`, in another `output_dir`"
            )
        self._told(state.global_step, state.max_steps, logs["loss"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self._stopped():
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


def arguments(stage: Stage, schedule: Schedule, folder: Path, fused: Any, *, evaluates: bool) -> Any:
    """The Trainer's own arguments for a stage of the model `fused`, whose checkpoints go to `folder`.

    Where the frozen weights are in half precision so is the computation; learned weights are float32 in any case.
    """
    made = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=schedule.warmup,
        weight_decay=schedule.weight_decay,
        num_train_epochs=1,  # the data set holds all passes, each in an order of its own
        max_steps=schedule.max_steps or -1,
        optim="adamw_torch",
        bf16=fused.dtype == torch.bfloat16,
        fp16=fused.dtype == torch.float16,
        use_cpu=fused.device.type == "cpu",
        seed=schedule.seed,
        dataloader_num_workers=schedule.workers,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=schedule.checkpoint_steps,
        save_total_limit=2,  # while one is being written, the one before is whole
        eval_strategy="steps" if evaluates else "no",
        eval_steps=schedule.checkpoint_steps,
        disable_tqdm=True,
        report_to="none",
    )
    made._n_gpu = min(made.n_gpu, 1)  # several would become replicas of a DataParallel, each with part of a batch
    return made
