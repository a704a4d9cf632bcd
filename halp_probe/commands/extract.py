"""`extract.py` and `halp-probe extract`: the flags, and one extraction from them."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.commands.arguments import not_negative, positive
from halp_probe.commands.label import label
from halp_probe.commands.prompt_flags import add_prompt_arguments, largest_area, template_options
from halp_probe.commands.task_inputs import (
    INPUTS,
    PLAIN,
    add_task_arguments,
    input_flags,
    read_task_input,
    usual,
)
from halp_probe.engine.positions import parse_layers
from halp_probe.errors import InputError
from halp_probe.labels.table import read_labels
from halp_probe.locking import locked
from halp_probe.models.options import ModelOptions, add_model_arguments, load_opened, open_model
from halp_probe.records import CaptureSpec, Sample
from halp_probe.shards.columns import subject
from halp_probe.shards.failures import FAILURES_FILE, read_failures
from halp_probe.shards.names import model_slug
from halp_probe.shards.writer import STORE_DTYPES, check_store_dtype
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    from halp_probe.engine.engine import Gate
    from halp_probe.engine.preparing import Preparer
    from halp_probe.engine.prompting import Prompter
    from halp_probe.extraction.run import Outcome
    from halp_probe.models.loading import LoadedModel

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
LABELS_FILE = "labels.csv"
TEST_SAMPLES = 3
BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}


@dataclass(frozen=True)
class ExtractOptions:
    """The flags of one extraction; see `add_arguments` for what each means."""

    source: Mapping[str, Any]  # the flags that say which items, for the record; JSON values
    output_dir: Path
    model: ModelOptions
    checkpoint_interval: int
    test: bool
    layers: str | None
    max_new_tokens: int
    no_answers: bool
    batch_tokens: int | None
    workers: int | None
    no_prefix_sharing: bool
    min_pixels: int | None
    max_pixels: int | None
    prompt_date: str | None
    template_options: str | None  # a JSON object
    system_prompt: str | None
    no_question_view: bool
    store_dtype: str
    seed: int
    usual_max_pixels: int | None = None  # as in AnswerOptions

    @classmethod
    def of(cls, args: argparse.Namespace) -> ExtractOptions:
        """From parsed flags, and the task's own values where none is given."""
        limits = usual(args.task)
        told: dict[str, Any] = {
            "source": input_flags(args),
            "model": ModelOptions.of(args),
            "template_options": template_options(args),
            "max_new_tokens": args.max_new_tokens or limits.max_new_tokens,
            "usual_max_pixels": limits.max_pixels,
        }
        values = {field.name: getattr(args, field.name) for field in fields(cls) if field.name not in told}
        return cls(**values, **told)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_task_arguments(parser)
    add("--output-dir", type=Path, default=Path("output"), help="shards, journal, run.json, failures.csv (./output)")
    add_model_arguments(parser, default=DEFAULT_MODEL)
    add("--checkpoint-interval", type=positive, default=1000, help="samples a shard (%(default)s)")
    add("--test", action="store_true", help=f"only the first {TEST_SAMPLES} samples")
    add("--layers", help="decoder blocks to read: 'all', or a list such as 0,7,14 (0, n/4, n/2, 3n/4, n-1)")
    limits = ", ".join(f"{name} {usual(name).max_new_tokens}" for name in INPUTS)
    add("--max-new-tokens", type=positive, help=f"longest answer in tokens (the task's own: {limits})")
    add("--no-answers", action="store_true", help="capture states only")
    add("--batch-tokens", type=positive, help="padded tokens a batch (cpu 4096, cuda 16384)")
    add(
        "--workers",
        type=not_negative,
        help="processes that prepare images ahead; 0: a thread (cuda up to 8, cpu 0)",
    )
    add("--no-prefix-sharing", action="store_true", help="read the image anew for every question")
    add_prompt_arguments(parser, largest="the task's own, or the processor's")
    add("--no-question-view", action="store_true", help="columns only, without the groups by question")
    add("--store-dtype", default="float32", choices=STORE_DTYPES, help="of the vectors on disk (%(default)s)")
    add("--seed", type=int, default=0, help="torch's seed, and of the options' order in --task qa (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Extract; the exit status is 0, 1 when nothing could be captured, 130 or 143 when stopped by a signal."""
    options = ExtractOptions.of(args)
    check_store_dtype(options.store_dtype, not options.no_question_view)
    given = read_task_input(args)
    if options.system_prompt is None:
        options = replace(options, system_prompt=given.task.system)
    with locked(options.output_dir):
        loaded, prompter = load(options)
        status = extract(options, given, loaded, prompter)
        if status == 0 and args.task != PLAIN and not options.no_answers:
            _label(options.output_dir)
        return status


def _label(folder: Path) -> None:
    """Write the task's verdicts; a table of all the shards' questions stays: somebody may have edited it."""
    from halp_probe.shards.reader import open_shards

    path = folder / LABELS_FILE
    if path.exists() and set(read_labels(path)) == set(open_shards(folder).question_ids):
        print(f"{path} is there already; `halp-probe label` makes it anew")
    else:
        label(folder, path)


def load(options: ExtractOptions) -> tuple[LoadedModel, Prompter]:
    """The model on its device, and what makes prompts for it."""
    import torch

    from halp_probe.engine.prompting import Prompter
    from halp_probe.extraction.manifest import read_prompt_date

    torch.manual_seed(options.seed)
    checkpoint = open_model(options.model)
    date = options.prompt_date or read_prompt_date(options.output_dir)
    prompter = Prompter(
        checkpoint,
        options.min_pixels,
        largest_area(options.max_pixels, options.usual_max_pixels, adjustable=checkpoint.family.qwen_vl_utils),
        _answer_tokens(options),
        date,
        options.template_options,
        options.system_prompt,
    )
    return load_opened(options.model, checkpoint), prompter


def extract(
    options: ExtractOptions,
    given: TaskInput[Any, Any],
    loaded: LoadedModel,
    prompter: Prompter,
    gate: Gate | None = None,
    gate_settings: Mapping[str, Any] | None = None,
) -> int:
    """One run into `options.output_dir`, which is locked; the exit status.

    A `gate` says which questions are answered; `gate_settings` tell of it in the folder's record, which refuses others.
    """
    from halp_probe.engine.batched import Batched, samples_by_image, text_only
    from halp_probe.engine.engine import Engine
    from halp_probe.engine.preparing import Preparer, default_workers
    from halp_probe.engine.proving import prove_looked_up
    from halp_probe.engine.stopping import StopSignals
    from halp_probe.extraction.manifest import check_settings, run_settings, shard_attributes, write_manifest
    from halp_probe.extraction.run import Extraction, check_against_table, with_files_told
    from halp_probe.shards.run_folder import RunFolder

    spec = CaptureSpec(parse_layers(options.layers, loaded.num_layers), _answer_tokens(options))
    samples = with_files_told([given.task.sample(item) for item in given.items])
    prompter.check(samples)
    settings = {
        **run_settings(loaded, prompter, spec, text_only=text_only(samples)),
        **given.settings,
        **(gate_settings or {}),
    }
    check_settings(options.output_dir, settings)
    names = ("checkpoint_interval", "store_dtype", "seed")
    about = {**options.source, "images_dir": str(given.images_dir), **{name: getattr(options, name) for name in names}}
    adapters = [adapter.name for adapter in loaded.checkpoint.adapters]
    write_manifest(options.output_dir, settings, {**about, "adapter_names": adapters} if adapters else about)
    preparer = Preparer(prompter, given.images_dir)
    images = samples_by_image(samples, given.images_dir)
    if loaded.checkpoint.family.looked_up:
        prove_looked_up(loaded, spec.layers, preparer, images)
        print(f"Family {loaded.checkpoint.model_type} was looked up, and checked on these images.", file=sys.stderr)
    engine = Engine(loaded, spec, share_prefix=_shares_prefix(options, loaded, spec, preparer, images), gate=gate)
    ids = [sample.question_id for image in images for sample in image]
    folder = RunFolder(
        options.output_dir,
        model_slug(loaded.checkpoint.name),
        ids,
        interval=options.checkpoint_interval,
        attributes=shard_attributes(loaded, settings, prefix_shared=engine.share_prefix),
        question_view=not options.no_question_view,
        store_dtype=options.store_dtype,
    )
    check_against_table(folder, samples)
    known = set(ids)
    failed_before = [failure for failure in read_failures(options.output_dir) if failure.question_id in known]
    on_cuda = loaded.device.type == "cuda"
    batched = Batched(
        engine,
        preparer,
        folder.done,
        token_budget=options.batch_tokens or BATCH_TOKENS["cuda" if on_cuda else "cpu"],
        workers=default_workers(on_cuda) if options.workers is None else options.workers,
        contents={subject(stored.texts): stored.image_sha256 for stored in folder.done.values()},
    )
    with contextlib.closing(folder), StopSignals() as stop:
        outcome = Extraction(batched, folder, should_stop=stop).run(
            _first(images, TEST_SAMPLES) if options.test else images, given.failures, failed_before
        )
    _report(outcome, options.output_dir, len(folder.shards()))
    if outcome.stopped:
        return stop.exit_status
    return 0 if outcome.captured + outcome.already_done else 1


def _shares_prefix(
    options: ExtractOptions, loaded: LoadedModel, spec: CaptureSpec, preparer: Preparer, images: list[list[Sample]]
) -> bool:
    """As the folder's record says; a new run tries it, and says why when questions on one image cannot."""
    from halp_probe.engine.sharing import NO_IMAGES, SWITCHED_OFF, try_sharing
    from halp_probe.extraction.manifest import read_sharing, record_sharing

    sharing = read_sharing(options.output_dir)
    if sharing is not None:
        if options.no_prefix_sharing != (sharing == SWITCHED_OFF):
            off = options.no_prefix_sharing
            how = "without --no-prefix-sharing; leave it out" if off else "with --no-prefix-sharing; pass it again"
            raise InputError(f"{options.output_dir} was captured {how}, or choose another --output-dir")
        return sharing.shared
    sharing = SWITCHED_OFF if options.no_prefix_sharing else try_sharing(loaded, spec.layers, preparer, images)
    if sharing.decided:
        record_sharing(options.output_dir, sharing)
    if not sharing.shared and sharing not in (SWITCHED_OFF, NO_IMAGES) and any(len(image) > 1 for image in images):
        print(f"Questions on one image run one by one: {sharing.reason}.", file=sys.stderr)
    return sharing.shared


def _first(images: list[list[Sample]], count: int) -> list[list[Sample]]:
    """The first samples, still by image."""
    taken: list[list[Sample]] = []
    for image in images:
        left = count - sum(map(len, taken))
        if left:
            taken.append(image[:left])
    return taken


def _report(outcome: Outcome, output_dir: Path, shards: int) -> None:
    failed = f", {len(outcome.failures)} failed (see {output_dir / FAILURES_FILE})" if outcome.failures else ""
    print(f"{outcome.captured} questions captured, {outcome.already_done} were there already{failed}")
    if outcome.stopped:
        print("Stopped as asked. Nothing finished is lost: run the same command again to go on.")
    else:
        print(f"{output_dir} holds {shards} {'shard' if shards == 1 else 'shards'}")


def _answer_tokens(options: ExtractOptions) -> int:
    return 0 if options.no_answers else options.max_new_tokens
