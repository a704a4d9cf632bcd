"""Trainer of transformers with checkpoints of the learned weights alone; it stops where a loss is not finite."""

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
    """Trainer that takes the samples in the data set's order, which is already shuffled."""

    def train(self, *args: Any, **how: Any) -> Any:
        """Train, and report the death of a process that reads pictures."""
        with report_worker_death("reads pictures", "with fewer `workers`"):
            return super().train(*args, **how)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training data."""
        return self._loader(self.train_dataset, self.args.per_device_train_batch_size)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return the loader of the held-out data."""
        return self._loader(eval_dataset or self.eval_dataset, self.args.per_device_eval_batch_size)

    def _loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        """Return a loader in order; its workers ignore signals to the group: the next checkpoint needs them."""
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
    """Callback that marks complete checkpoints, reports every step, and ends the stage on a signal or a bad loss."""

    def __init__(self, on_step: Callable[[int, int, float], None], should_stop: Callable[[], bool]) -> None:
        self._on_step, self._should_stop = on_step, should_stop

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Report the step's loss. Raises InputError for a loss that is not finite."""
        if "loss" not in (logs or {}):
            return
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"the loss of step {state.global_step} is {logs['loss']}; lower the learning rate, or use bfloat16 or "
                "float32 as `dtype`, in another `output_dir`"
            )
        self._on_step(state.global_step, state.max_steps, logs["loss"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Save and stop when asked to."""
        if self._should_stop():
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint as complete."""
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


def arguments(stage: Stage, schedule: Schedule, folder: Path, fused: Any, *, evaluates: bool) -> Any:
    """Return the Trainer's own arguments for a stage of the model `fused`, with checkpoints in `folder`.

    The computation has the precision of the frozen weights; learned weights are always float32.
    """
    settings = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=schedule.warmup,
        weight_decay=schedule.weight_decay,
        num_train_epochs=1,  # the data set holds all epochs, each in its own order
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
        save_total_limit=2,  # while one is being written, the previous one is complete
        eval_strategy="steps" if evaluates else "no",
        eval_steps=schedule.checkpoint_steps,
        disable_tqdm=True,
        report_to="none",
    )
    settings._n_gpu = min(settings.n_gpu, 1)  # with several, DataParallel would split each batch
    return settings
