"""`halp-probe train-vlm` from data sets to a trained model: stage after stage, and what is left behind."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from transformers import set_seed

from halp_probe.finetuning import evaluation, manifest, outputs, stages
from halp_probe.finetuning.checking import check, write_left_out
from halp_probe.finetuning.dataset import Collator, ConversationDataset
from halp_probe.finetuning.gather import SHAPES_FOLDER, Gathered, Parts, gather
from halp_probe.finetuning.mixing import mix
from halp_probe.finetuning.options import TrainOptions
from halp_probe.finetuning.ordering import by_length
from halp_probe.finetuning.plan import Stage
from halp_probe.finetuning.records import Conversation, LeftOut, Source
from halp_probe.finetuning.saving import saved, write_model
from halp_probe.finetuning.start import Start, open_start, resolved
from halp_probe.finetuning.tokens import ConversationTokenizer
from halp_probe.models.loading import load_weights, open_checkpoint

_SECONDS_BETWEEN_LINES = 10.0


def train(options: TrainOptions, stopped: Callable[[], bool]) -> bool:
    """Train, or go on where the folder stands; False when `stopped` said so before the end.

    Raises InputError for data, a model or a folder that cannot be used.
    """
    folder = options.output_dir
    start = open_start(options)
    settings = manifest.settings_of(options, start)
    manifest.refuse_another(folder, settings)  # before hours of checking
    if saved(folder) and (not options.questions or outputs.evaluated(folder)):
        print(f"{folder} is finished; remove {outputs.EVALUATION} to have the held-out questions answered anew")
        return True
    lengths: dict[tuple[str, str], int] = {}
    gathered = _gather(options, start, lengths)
    _tell_data(gathered)
    manifest.guard(folder, settings | manifest.digests(gathered))
    write_left_out(folder / "left_out.csv", gathered.left_out)
    if not saved(folder) and not _run_stages(options, start, gathered, lengths, stopped):
        return False
    if options.questions and not _evaluate(options, gathered, stopped):
        print("stopped; the same command answers the held-out questions", file=sys.stderr)
        return False
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir() if not path.name.startswith('.')))}")
    return True


def _gather(options: TrainOptions, start: Start, lengths: dict[tuple[str, str], int]) -> Gathered:
    tokenizer = ConversationTokenizer(start.checkpoint, options.data.max_tokens)

    def measured(conversations: Sequence[Conversation]) -> tuple[list[Conversation], list[LeftOut]]:
        found = check(conversations, tokenizer, options.schedule.workers)
        lengths.update({(each.conversation.source, each.conversation.key): each.tokens for each in found.usable})
        return list(found.conversations), list(found.left_out)

    numbers = [stage.number for stage in options.stages]
    return gather(options.data, numbers, options.output_dir / SHAPES_FOLDER, options.schedule.seed, measured)


def _tell_data(gathered: Gathered) -> None:
    for number, parts in gathered.stages.items():
        for train_part, held_out in zip(parts.train, parts.held_out, strict=True):
            told = f"stage {number}: {train_part.name}, {len(train_part.conversations)} conversations to learn from"
            print(f"{told}, {len(held_out.conversations)} held out", file=sys.stderr)
    if gathered.left_out:
        first, stages_told = gathered.left_out[0], Counter(each.stage for each in gathered.left_out)
        counts = ", ".join(f"{stage} {count}" for stage, count in stages_told.items())
        print(
            f"{len(gathered.left_out)} conversations are left out ({counts}), see left_out.csv (first: {first.source} "
            f"{first.key}, {first.reason})",
            file=sys.stderr,
        )


def _run_stages(
    options: TrainOptions,
    start: Start,
    gathered: Gathered,
    lengths: dict[tuple[str, str], int],
    stopped: Callable[[], bool],
) -> bool:
    logs = {}
    for stage in options.stages:
        set_seed(options.schedule.seed)
        learned = stages.learning(start.model, stage)
        data = _data(options, stage, start, gathered.stages[stage.number], lengths)
        told = _Told(stage.name)
        log = stages.run(
            learned, stage, options.schedule, data, options.output_dir / stage.name, told=told, stopped=stopped
        )
        if log is None:
            print(f"{stage.name} stopped; the same command goes on from its last checkpoint", file=sys.stderr)
            return False
        if not any(row.get("learning_rate") for row in log.rows):
            print(
                f"{stage.name} has learned nothing: its one step is the warm-up's first, of learning rate 0; lower "
                "`accumulation` or `batch_size`, or pass `warmup=0`",
                file=sys.stderr,
            )
        logs[stage.name] = log
    outputs.write_losses(options.output_dir, logs)
    write_model(options, start, learned)
    return True


def _data(
    options: TrainOptions, stage: Stage, start: Start, parts: Parts, lengths: dict[tuple[str, str], int]
) -> stages.Data:
    """All passes one after the other, each mixed anew."""
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


def _evaluate(options: TrainOptions, gathered: Gathered, stopped: Callable[[], bool]) -> bool:
    """What the saved model answers on pictures that no stage has seen; False when `stopped` said so before the end."""
    last = gathered.stages[max(gathered.stages)]
    asked = [each for source in last.held_out for each in _drawn(source, options.questions, options.schedule.seed)]
    folder, (device, dtype) = options.output_dir, resolved(options.machine)
    if not asked:
        outputs.write_evaluation(folder, [])
        print("no picture is held out, so no question is asked; raise `held_out`", file=sys.stderr)
        return True
    adapters = [str(folder / outputs.ADAPTER)] if (folder / outputs.ADAPTER).is_dir() else []
    loaded = load_weights(open_checkpoint(str(folder / outputs.MODEL), adapters=adapters), device=device, dtype=dtype)
    rows = evaluation.ask(loaded, asked, batch_size=16, max_new_tokens=options.max_new_tokens, stopped=stopped)
    if rows is None:
        return False
    print(outputs.told(outputs.write_evaluation(folder, rows)))
    return True


def _drawn(source: Source, questions: int, seed: int) -> list[Conversation]:
    """So many of them, one a picture, in the source's order."""
    one_a_picture = list({each.image: each for each in source.conversations if each.image is not None}.values())
    chosen = random.Random(seed).sample(range(len(one_a_picture)), min(questions, len(one_a_picture)))
    return [one_a_picture[place] for place in sorted(chosen)]


class _Told:
    """A line now and then on stderr."""

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
        print(
            f"{self._stage}: step {step}/{steps}, loss {loss:.4f}, {rate:.2f} steps/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
