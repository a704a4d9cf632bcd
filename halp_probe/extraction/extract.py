"""Extract hidden states: a table's questions, or a task's items, through a model into a folder of shards."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from halp_probe.datasets import Rows
from halp_probe.engine import batching
from halp_probe.engine.batched import BatchRunner, samples_by_image, text_only
from halp_probe.engine.engine import Engine, Gate
from halp_probe.engine.images import ImageFolder
from halp_probe.engine.positions import parse_layers, parse_positions
from halp_probe.engine.prefill import check_positions
from halp_probe.engine.preparing import Preparer, default_workers
from halp_probe.engine.prompting import Prompter, largest_area
from halp_probe.engine.provenance import run_settings
from halp_probe.engine.proving import prove_looked_up
from halp_probe.engine.sampling import Sampling
from halp_probe.engine.sharing import NO_IMAGES, SWITCHED_OFF, try_sharing
from halp_probe.errors import InputError
from halp_probe.extraction.asked import ask_rivals
from halp_probe.extraction.asked_passes import Passes
from halp_probe.extraction.costs import estimate
from halp_probe.extraction.manifest import (
    check_settings,
    read_prompt_date,
    read_sharing,
    record_sharing,
    shard_attributes,
    write_manifest,
)
from halp_probe.extraction.options import ExtractOptions
from halp_probe.extraction.outcome import Extraction
from halp_probe.extraction.run import check_against_table, name_all_images, run
from halp_probe.locking import lock_folder
from halp_probe.models.loading import LoadedModel
from halp_probe.models.options import DEFAULT_MODEL, ModelOptions, load_model_weights, open_model
from halp_probe.progress import Progress, ProgressChoice, display, silent
from halp_probe.records import USUAL_POSITIONS, CaptureSpec, Sample
from halp_probe.settings import options_json
from halp_probe.shards.columns import subject
from halp_probe.shards.failures import read_failures
from halp_probe.shards.names import model_slug
from halp_probe.shards.run_folder import RunFolder
from halp_probe.shards.sampled import SAMPLES
from halp_probe.shards.writer import check_store_dtype
from halp_probe.task_files.table import PICTURES, TableOptions, read_vqa
from halp_probe.tasks.task import TaskInput

if TYPE_CHECKING:
    import pandas as pd

_BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
_log = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]


def extract(
    table: str | os.PathLike[str] | pd.DataFrame | Rows,
    images_dir: str | os.PathLike[str] | None,
    output_dir: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    pictures_dir: str | os.PathLike[str] | None = None,
    allow_urls: bool = False,
    allow_links: bool = False,
    model: str | LoadedModel | None = None,
    adapter: str | Sequence[str] = (),
    revision: str | None = None,
    cache_dir: str = ModelOptions.cache_dir,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | None = None,
    attn_implementation: str | None = None,
    quantization: str | None = None,
    trust_remote_code: str | None = None,
    trust_lookup: bool = False,
    verify_weights: bool = False,
    layers: str | Sequence[int] | None = None,
    positions: str | Sequence[str] = USUAL_POSITIONS,
    answers: bool = True,
    max_new_tokens: int = 64,
    limit: int | None = None,
    checkpoint_interval: int = 1000,
    batch_tokens: int | None = None,
    workers: int | None = None,
    prefix_sharing: bool = True,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    prompt_date: str | None = None,
    template_options: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
    samples: int = 0,
    sample_temperature: float = 1.0,
    rivals: Sequence[str] = (),
    question_view: bool = True,
    store_dtype: str = "float32",
    seed: int = 0,
    progress: ProgressChoice = None,
    should_stop: ShouldStop | None = None,
) -> Extraction:
    """Capture the hidden states and the answers of a model on a table of questions about images.

    One prefill a batch gives, for each question, the states [D] of the probed decoder layers at the image boundary and
    at the last prompt token, the image's mean before [V] and after [D] the projector, the first token's log-probability
    and entropy (nats), and the greedy answer. All goes to shards in `output_dir`. Call it again with the same
    arguments to resume an interrupted run: nothing finished is lost or computed twice.

    Parameters
    ----------
    table
        A file (CSV, TSV, JSON, JSON lines, Parquet, Arrow, .xlsx), a DataFrame or a list of dicts with `question_id`,
        `image_id`, `question` and `answer` (the ground truth); `image_name` or `image`, and `gt_answer`, are accepted
        for the second and the last, further columns are kept.
    images_dir
        Folder in which each `image_id` is a file; None where the table holds its images, as bytes or base64.
    output_dir
        Folder for the shards, `run.json` and `failures.csv`.
    columns
        Other names of the table's columns: {"question": "text"}, or a dotted path, {"image_id": "images.0"}.
    pictures_dir
        Folder for images that the table holds or has URLs of; None: `pictures` in `output_dir`.
    allow_urls
        Whether images of which the table has URLs are fetched, from the public internet alone.
    allow_links
        Whether links in `images_dir` that lead out of it are followed.
    model
        Hub name, folder, 'shapes' (bundled) or a loaded model; None: the first adapter's base, or the 7B Qwen2.5-VL.
    adapter, revision, cache_dir, dtype, device, device_map
        As in `load_model`, for a model that is not loaded yet.
    attn_implementation, quantization, trust_remote_code, trust_lookup, verify_weights
        As in `load_model`.
    layers
        Decoder blocks to read, counted from 0, or 'all'; None: 0, n/4, n/2, 3n/4 and n-1 of n.
    positions
        Where they are read: "vision" (image boundary), "query" (last prompt token), "question-end" (last token of the
        question's own text), "image-mean" (mean over the image's tokens).
    answers
        Whether to generate answers; False captures states only.
    max_new_tokens
        Longest answer, in tokens.
    limit
        Take at most this many samples, in the run's order.
    checkpoint_interval
        Samples a shard.
    batch_tokens
        Padded tokens a batch; None: 4096 on a CPU, 16384 on CUDA.
    workers
        Processes that prepare images ahead; None: up to 8 on CUDA, on a CPU a thread.
    prefix_sharing
        Compute the common prefix of the questions on an image once, if a trial shows that this is exact.
    min_pixels, max_pixels
        Area of an image after resizing, in pixels; None: the processor's.
    prompt_date
        YYYY-MM-DD that a dated chat template writes; None: today, or the date of the run that is resumed.
    template_options
        Variables of the chat template, such as {"enable_thinking": False}.
    system_prompt
        System message; None: none.
    samples
        Answers to sample beside the greedy one, from the same prefill; 0: none.
    sample_temperature
        Temperature of the sampled answers: the plain softmax, without top-p and without any repetition penalty.
    rivals
        What else to ask about each question when its answer is there, into `asked.csv`: of 'p-true', 'verbalised',
        'no-image' and 'other-image'.
    question_view
        Also write a group for each question, in the layout that the HALP authors' scripts read.
    store_dtype
        Dtype of the vectors on disk: float32, float16 or bfloat16.
    seed
        Seed of torch and of the sampled answers.
    progress
        "tqdm" for a bar, "log" for lines of `logging`, a function that receives each `Step`, or None.
    should_stop
        Called after each batch; True ends the run early, with `stopped` in the result.

    Returns
    -------
    The counts and failures of this run; `.shards` opens its shards.

    Raises
    ------
    InputError
        When the table, a folder, the model or a setting cannot be used, or the folder holds a run with other
        settings. A single row that fails raises nothing: it is in `failures`.

    Examples
    --------
    >>> import halp_probe
    >>> about = {"image_id": "scene_000000.png", "question": "Is there a red shape?", "answer": "yes"}
    >>> table = [{"question_id": "a", **about}]
    >>> extraction = halp_probe.extract(table, "images", "one", model="shapes", max_new_tokens=8)
    >>> extraction.failures, extraction.stopped
    ((), False)
    >>> extraction.shards.text("answer")[0] in ("yes", "no")
    True
    """
    options = ExtractOptions(
        output_dir=Path(output_dir),
        model=ModelOptions(
            model=_model_name(model, adapter),
            adapter=(adapter,) if isinstance(adapter, str) else tuple(adapter),
            revision=revision,
            cache_dir=cache_dir,
            dtype=dtype,
            device=device,
            device_map=device_map,
            attn_implementation=attn_implementation,
            quantization=quantization,
            trust_remote_code=trust_remote_code,
            trust_lookup=trust_lookup,
            verify_weights=verify_weights,
        ),
        source={
            "vqa_dataset": str(table) if isinstance(table, str | os.PathLike) else "a table in memory",
            "columns": dict(columns) if columns else None,
            "allow_urls": allow_urls,
        },
        checkpoint_interval=checkpoint_interval,
        limit=limit,
        positions=parse_positions(positions),
        layers=layers if isinstance(layers, str | None) else tuple(layers),
        max_new_tokens=max_new_tokens if answers else 0,
        batch_tokens=batch_tokens,
        workers=workers,
        prefix_sharing=prefix_sharing,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        prompt_date=prompt_date,
        template_options=options_json(template_options),
        system_prompt=system_prompt,
        samples=samples,
        sample_temperature=sample_temperature,
        rivals=tuple(rivals),
        question_view=question_view,
        store_dtype=store_dtype,
        seed=seed,
    )
    reading = TableOptions(
        columns=columns or {},
        pictures_dir=Path(output_dir) / PICTURES if pictures_dir is None else Path(pictures_dir),
        allow_urls=allow_urls,
    )
    folder = None if images_dir is None else ImageFolder(Path(images_dir), allow_links)
    task_input = read_vqa(table, folder, reading)
    loaded = model if isinstance(model, LoadedModel) else None
    with display(progress) as report:
        return extract_items(options, task_input, loaded, progress=report, stopping=nullcontext(should_stop or _never))


def extract_items(
    options: ExtractOptions,
    task_input: TaskInput[Any, Any],
    loaded: LoadedModel | None = None,
    *,
    progress: Progress = silent,
    stopping: AbstractContextManager[ShouldStop] | None = None,
) -> Extraction:
    """Extract a task's items into the folder that the options name; see `extract`.

    `stopping` is entered around the batches, and yields the function that is called after each of them.
    """
    check_store_dtype(options.store_dtype, options.question_view)
    with lock_folder(options.output_dir):
        loaded, prompter = load(options, task_input.task.system, loaded)
        return extract_with(options, task_input, loaded, prompter, progress=progress, stopping=stopping)


def load(
    options: ExtractOptions, task_system: str | None = None, loaded: LoadedModel | None = None
) -> tuple[LoadedModel, Prompter]:
    """Return the model, loaded on its device unless `loaded` is given, and its prompter.

    `task_system` is the system message if the options have none.
    """
    torch.manual_seed(options.seed)
    checkpoint = open_model(options.model) if loaded is None else loaded.checkpoint
    prompter = Prompter(
        checkpoint=checkpoint,
        min_pixels=options.min_pixels,
        max_pixels=largest_area(
            options.max_pixels, options.usual_max_pixels, adjustable=checkpoint.family.qwen_vl_utils
        ),
        answer_tokens=options.max_new_tokens,
        date=options.prompt_date or read_prompt_date(options.output_dir),
        template_options=options.template_options,
        system=task_system if options.system_prompt is None else options.system_prompt,
        question_end="question-end" in parse_positions(options.positions),
    )
    return loaded or load_model_weights(options.model, checkpoint), prompter


def extract_with(
    options: ExtractOptions,
    task_input: TaskInput[Any, Any],
    loaded: LoadedModel,
    prompter: Prompter,
    *,
    gate: Gate | None = None,
    gate_settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    stopping: AbstractContextManager[ShouldStop] | None = None,
) -> Extraction:
    """Extract into `options.output_dir`, which is locked, with a model that is loaded.

    A `gate` decides which questions are answered; `gate_settings` describe it in the folder's record, which refuses
    others.
    """
    layers, positions = parse_layers(options.layers, loaded.num_layers), parse_positions(options.positions)
    spec = CaptureSpec(layers, options.max_new_tokens, positions=positions)
    samples = name_all_images([task_input.task.sample(item) for item in task_input.items])
    if text_only(samples) and not {"query", "question-end"} & {*positions}:
        raise InputError("`positions` are of images alone, but the prompts show none: add query or question-end")
    check_positions(spec, loaded)
    prompter.check(samples)
    sampling = _sampling(options, samples)
    settings = {
        **run_settings(loaded, prompter, spec, text_only=text_only(samples)),
        **task_input.settings,
        **(gate_settings or {}),
        **(sampling.settings() if sampling is not None else {}),
    }
    check_settings(options.output_dir, settings)
    _write_record(options, task_input, loaded, settings)
    preparer = Preparer(prompter, task_input.images_dir)
    images = samples_by_image(samples, task_input.images_dir)
    if loaded.checkpoint.family.looked_up:
        prove_looked_up(loaded, spec.layers, preparer, images)
        _log.info("Family %s was looked up, and checked on these images.", loaded.checkpoint.model_type)
    engine = Engine(
        loaded,
        spec,
        share_prefix=_shares_prefix(options, loaded, spec, preparer, images),
        gate=gate,
        sampling=sampling,
        sampled_tokens=batching.CACHED * _token_budget(options, loaded),
    )
    ids = [sample.question_id for image in images for sample in image]
    folder = RunFolder(
        options.output_dir,
        model_slug(loaded.checkpoint.name),
        ids,
        interval=options.checkpoint_interval,
        attributes=shard_attributes(loaded, settings, prefix_shared=engine.share_prefix),
        question_view=options.question_view,
        store_dtype=options.store_dtype,
    )
    check_against_table(folder, samples)
    run_ids = set(ids)
    failed_before = [failure for failure in read_failures(options.output_dir) if failure.question_id in run_ids]
    runner = _make_runner(options, engine, preparer, folder)
    selected = images if options.limit is None else _take_first(images, options.limit)
    _tell_cost(options, runner, spec, folder, selected)
    with closing(folder), stopping or nullcontext(_never) as should_stop:
        extraction = run(
            runner, folder, selected, task_input.failures, failed_before, progress=progress, should_stop=should_stop
        )
        if options.rivals and not extraction.stopped and folder.done:
            passes = Passes(loaded, preparer, share_prefix=engine.share_prefix, token_budget=runner.token_budget)
            ask_rivals(passes, options.output_dir, selected, options.rivals, options.seed, should_stop=should_stop)
        return extraction


def _never() -> bool:
    return False


def _model_name(model: str | LoadedModel | None, adapter: str | Sequence[str]) -> str | None:
    if isinstance(model, LoadedModel):
        return model.checkpoint.name
    return model or (None if adapter else DEFAULT_MODEL)


def _write_record(
    options: ExtractOptions, task_input: TaskInput[Any, Any], loaded: LoadedModel, settings: dict[str, Any]
) -> None:
    names = ("checkpoint_interval", "store_dtype", "seed")
    details = {
        **options.source,
        **task_input.origin,
        "images_dir": str(task_input.images_dir),
        **{name: getattr(options, name) for name in names},
    }
    adapters = [adapter.name for adapter in loaded.checkpoint.adapters]
    write_manifest(options.output_dir, settings, {**details, "adapter_names": adapters} if adapters else details)


def _sampling(options: ExtractOptions, samples: Sequence[Sample]) -> Sampling | None:
    """Return how answers are sampled beside the greedy ones; None without any."""
    if not options.samples:
        return None
    if any(SAMPLES in sample.extra for sample in samples):
        raise InputError(f"the table has a column {SAMPLES!r}, where sampled answers go: give it another name")
    return Sampling(count=options.samples, temperature=options.sample_temperature, seed=options.seed)


def _token_budget(options: ExtractOptions, loaded: LoadedModel) -> int:
    return options.batch_tokens or _BATCH_TOKENS["cuda" if loaded.device.type == "cuda" else "cpu"]


def _make_runner(options: ExtractOptions, engine: Engine, preparer: Preparer, folder: RunFolder) -> BatchRunner:
    on_cuda = engine.loaded.device.type == "cuda"
    return BatchRunner(
        engine,
        preparer,
        folder.done,
        token_budget=_token_budget(options, engine.loaded),
        workers=default_workers(on_cuda) if options.workers is None else options.workers,
        contents={subject(stored.texts): stored.image_sha256 for stored in folder.done.values()},
    )


def _shares_prefix(
    options: ExtractOptions, loaded: LoadedModel, spec: CaptureSpec, preparer: Preparer, images: list[list[Sample]]
) -> bool:
    """Return whether prompts share prefixes, from the folder's record; a new run tries it, and warns if it cannot."""
    sharing = read_sharing(options.output_dir)
    if sharing is not None:
        if options.prefix_sharing == (sharing == SWITCHED_OFF):
            how = (
                "with prefix sharing: leave `prefix_sharing=False` out"
                if sharing != SWITCHED_OFF
                else "without prefix sharing: pass `prefix_sharing=False` again"
            )
            raise InputError(f"{options.output_dir} was captured {how}, or choose another `output_dir`")
        return sharing.shared
    sharing = (
        try_sharing(loaded, spec.layers, preparer, images, spec.positions) if options.prefix_sharing else SWITCHED_OFF
    )
    if sharing.decided:
        record_sharing(options.output_dir, sharing)
    if not sharing.shared and sharing not in (SWITCHED_OFF, NO_IMAGES) and any(len(image) > 1 for image in images):
        _log.warning("Questions on one image run one by one: %s.", sharing.reason)
    return sharing.shared


def _tell_cost(
    options: ExtractOptions, runner: BatchRunner, spec: CaptureSpec, folder: RunFolder, images: list[list[Sample]]
) -> None:
    """Log what the samples that are missing will cost, a line each."""
    missing = [[sample for sample in image if sample.question_id not in folder.done] for image in images]
    config = runner.engine.loaded.checkpoint.config
    width = config.get_text_config().hidden_size
    vision_width = getattr(getattr(config, "vision_config", None), "hidden_size", None) or width
    if any(missing):
        cost = estimate(
            runner.preparer,
            [image for image in missing if image],
            vectors=(len(spec.positions) * len(spec.layers) + 1) * width + vision_width,
            token_budget=runner.token_budget,
            store_dtype=options.store_dtype,
            question_view=options.question_view,
            sampled=options.samples,
            answer_tokens=spec.max_new_tokens,
        )
        for line in str(cost).splitlines():
            _log.info("%s", line)


def _take_first(images: list[list[Sample]], count: int) -> list[list[Sample]]:
    """Return the first `count` samples, still by image."""
    taken: list[list[Sample]] = []
    for image in images:
        left = count - sum(map(len, taken))
        if left:
            taken.append(image[:left])
    return taken
