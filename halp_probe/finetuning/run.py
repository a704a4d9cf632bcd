"""Training run from data sets to a trained model: stage after stage, then the model, losses and evaluation on disk."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import set_seed

from halp_probe.finetuning import evaluation, manifest, outputs, stages
from halp_probe.finetuning.checking import check, write_left_out
from halp_probe.finetuning.dataset import Collator, ConversationDataset
from halp_probe.finetuning.gather import SHAPES_FOLDER, GatheredData, Parts, gather
from halp_probe.finetuning.mixing import mix
from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.ordering import by_length
from halp_probe.finetuning.plan import Stage
from halp_probe.finetuning.records import Conversation, LeftOut, Source
from halp_probe.finetuning.saving import has_model, write_model
from halp_probe.finetuning.start import Start, open_start, resolve_device
from halp_probe.finetuning.tokens import ConversationTokenizer
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.progress import Progress, silent

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class TrainingResult:
    """End of a run: whether it finished, and its results, one line each."""

    finished: bool
    lines: tuple[str, ...] = ()


def train(options: TrainOptions, should_stop: Callable[[], bool], progress: Progress = silent) -> TrainingResult:
    """Train, or resume the folder's run, until the end or until `should_stop` returns True.

    Raises InputError for data, a model or a folder that cannot be used.
    """
    folder = options.output_dir
    start = open_start(options)
    settings = manifest.settings_of(options, start)
    manifest.refuse_another(folder, settings)  # fail before hours of checking
    if has_model(folder) and (not options.questions or outputs.has_evaluation(folder)):
        done = f"{folder} is finished; remove {outputs.EVALUATION} to answer the held-out questions again"
        return TrainingResult(True, (done,))
    lengths: dict[tuple[str, str], int] = {}
    gathered = _gather(options, start, lengths, progress)
    _log_data(gathered)
    manifest.guard(folder, settings | manifest.digests(gathered))
    write_left_out(folder / "left_out.csv", gathered.left_out)
    if not has_model(folder) and not _run_stages(options, start, gathered, lengths, should_stop):
        return TrainingResult(False)
    evaluation: tuple[str, ...] = ()
    if options.questions:
        found = _evaluate(options, gathered, should_stop)
        if found is None:
            _log.info("stopped; run the same command again to answer the held-out questions")
            return TrainingResult(False)
        evaluation = (found,) if found else ()
    names = ", ".join(sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")))
    return TrainingResult(True, (*evaluation, f"{folder}: {names}"))


def _gather(
    options: TrainOptions, start: Start, lengths: dict[tuple[str, str], int], progress: Progress
) -> GatheredData:
    tokenizer = ConversationTokenizer(start.checkpoint, options.data.max_tokens)

    def check_and_measure(conversations: Sequence[Conversation]) -> tuple[list[Conversation], list[LeftOut]]:
        found = check(conversations, tokenizer, options.schedule.workers, progress)
        lengths.update({(each.conversation.source, each.conversation.key): each.tokens for each in found.usable})
        return list(found.conversations), list(found.left_out)

    numbers = [stage.number for stage in options.stages]
    folder, seed = options.output_dir / SHAPES_FOLDER, options.schedule.seed
    return gather(options.data, numbers, folder, seed, check_and_measure, progress)


def _log_data(gathered: GatheredData) -> None:
    for number, parts in gathered.stages.items():
        for train_part, held_out in zip(parts.train, parts.held_out, strict=True):
            learned, kept = len(train_part.conversations), len(held_out.conversations)
            _log.info(
                "stage %d: %s, %d conversations to learn from, %d held out", number, train_part.name, learned, kept
            )
    if gathered.left_out:
        first, by_stage = gathered.left_out[0], Counter(each.stage for each in gathered.left_out)
        counts = ", ".join(f"{stage} {count}" for stage, count in by_stage.items())
        _log.warning(
            "%d conversations are left out (%s), see left_out.csv (first: %s %s, %s)",
            len(gathered.left_out),
            counts,
            first.source,
            first.key,
            first.reason,
        )


def _run_stages(
    options: TrainOptions,
    start: Start,
    gathered: GatheredData,
    lengths: dict[tuple[str, str], int],
    should_stop: Callable[[], bool],
) -> bool:
    logs = {}
    for stage in options.stages:
        set_seed(options.schedule.seed)
        learned = stages.make_trainable(start.model, stage)
        data = _data(options, stage, start, gathered.stages[stage.number], lengths)
        report = _StepLines(stage.name)
        log = stages.run(
            learned,
            stage,
            options.schedule,
            data,
            options.output_dir / stage.name,
            on_step=report,
            should_stop=should_stop,
        )
        if log is None:
            _log.info("%s stopped; run the same command again to resume from its last checkpoint", stage.name)
            return False
        if not any(row.get("learning_rate") for row in log.rows):
            _log.warning(
                "%s has learned nothing: its one step is the warm-up's first, of learning rate 0; lower accumulation "
                "or batch size, or leave the warm-up out",
                stage.name,
            )
        logs[stage.name] = log
    outputs.write_losses(options.output_dir, logs)
    write_model(options, start, learned)
    return True


def _data(
    options: TrainOptions, stage: Stage, start: Start, parts: Parts, lengths: dict[tuple[str, str], int]
) -> stages.Data:
    """Return the data of all epochs, one after the other, each mixed anew."""
    schedule = options.schedule
    names = {source.name for source in parts.train}
    weights = {name: weight for name, weight in options.data.weights.items() if name in names} or None
    order: list[Conversation] = []
    for number in range(stage.epochs):
        mixed = mix(parts.train, weights, schedule.seed + number)
        places = by_length([lengths[each.source, each.key] for each in mixed], schedule.batch_size, schedule.seed)
        order += [mixed[place] for place in places]
    tokenizer = ConversationTokenizer(start.checkpoint, options.data.max_tokens)
    held_out = [each for source in parts.held_out for each in source.conversations]
    return stages.Data(
        train=ConversationDataset(order, tokenizer),
        held_out=ConversationDataset(held_out, tokenizer) if held_out else None,
        collate=Collator(start.checkpoint),
    )


def _evaluate(options: TrainOptions, gathered: GatheredData, should_stop: Callable[[], bool]) -> str | None:
    """Return a summary of the saved model's answers on held-out pictures; None when stopped before the end."""
    last = gathered.stages[max(gathered.stages)]
    questions = [
        each for source in last.held_out for each in _draw_questions(source, options.questions, options.schedule.seed)
    ]
    folder, (device, dtype) = options.output_dir, resolve_device(options.machine)
    if not questions:
        outputs.write_evaluation(folder, [])
        _log.warning("no picture is held out, so no question is asked; hold out a larger share")
        return ""
    adapters = [str(folder / outputs.ADAPTER)] if (folder / outputs.ADAPTER).is_dir() else []
    loaded = load_weights(open_checkpoint(str(folder / outputs.MODEL), adapters=adapters), device=device, dtype=dtype)
    rows = evaluation.ask(
        loaded, questions, batch_size=16, max_new_tokens=options.max_new_tokens, should_stop=should_stop
    )
    return None if rows is None else outputs.evaluation_text(outputs.write_evaluation(folder, rows))


def _draw_questions(source: Source, questions: int, seed: int) -> list[Conversation]:
    """Draw so many conversations, one a picture, in the source's order."""
    one_a_picture = list({each.image: each for each in source.conversations if each.image is not None}.values())
    chosen = random.Random(seed).sample(range(len(one_a_picture)), min(questions, len(one_a_picture)))
    return [one_a_picture[place] for place in sorted(chosen)]


class _StepLines:
    """Log of steps: a line now and then."""

    def __init__(self, stage: str) -> None:
        self._stage, self._first, self._started, self._last = stage, 0, time.monotonic(), 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        self._first = self._first or step
        if step < steps and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = (step - self._first + 1) / max(now - self._started, 1e-9)
        left = (steps - step) / max(rate, 1e-9)
        _log.info("%s: step %d/%d, loss %.4f, %.2f steps/s, %.0f s left", self._stage, step, steps, loss, rate, left)
