"""`extract.py` and `halp-probe extract`: the flags, and one extraction from them."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe import __version__
from halp_probe.datasets import read_table
from halp_probe.errors import InputError
from halp_probe.extraction.positions import parse_layers
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.shards.names import model_slug
from halp_probe.shards.writer import STORE_DTYPES

if TYPE_CHECKING:
    from halp_probe.extraction.prompting import Prompter
    from halp_probe.models.loading import LoadedModel

TEST_SAMPLES = 3
_BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
LAYER_MEANING = "layer k is the output of decoder block k, before the final norm and before any DeepStack addition"


@dataclass(frozen=True)
class ExtractOptions:
    """The flags of one extraction; see `add_arguments` for what each means."""

    vqa_dataset: Path
    images_dir: Path
    output_dir: Path
    model: str
    cache_dir: str
    checkpoint_interval: int
    test: bool
    layers: str | None
    max_new_tokens: int
    no_answers: bool
    dtype: str
    device: str
    attn_implementation: str | None
    batch_tokens: int | None
    min_pixels: int | None
    max_pixels: int | None
    no_question_view: bool
    store_dtype: str
    revision: str | None
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vqa-dataset", type=Path, required=True, help="CSV with question_id, image_id, question, answer")
    add("--images-dir", type=Path, required=True, help="folder of the images: {images_dir}/{image_id}")
    add("--output-dir", type=Path, default=Path("output"), help="shards, journal, run.json, failures.csv (./output)")
    add("--model", default="Qwen/Qwen2.5-VL-7B-Instruct", help="hub name or folder; 'shapes' is bundled (%(default)s)")
    add("--revision", help="branch, tag or commit of a hub model (its default branch)")
    add("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")
    add("--checkpoint-interval", type=_positive, default=1000, help="samples a shard (%(default)s)")
    add("--test", action="store_true", help=f"only the first {TEST_SAMPLES} samples")
    add("--layers", help="decoder blocks to read: 'all', or a list such as 0,7,14 (0, n/4, n/2, 3n/4, n-1)")
    add("--max-new-tokens", type=_positive, default=64, help="longest answer in tokens (%(default)s)")
    add("--no-answers", action="store_true", help="capture states only")
    add("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"), help="auto: bfloat16 on CUDA")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    add("--attn-implementation", help="sdpa, eager or flash_attention_2 (the model's default)")
    add("--batch-tokens", type=_positive, help="padded tokens a batch (cpu 4096, cuda 16384)")
    add("--min-pixels", type=_positive, help="smallest image area after resizing (the processor's)")
    add("--max-pixels", type=_positive, help="largest image area after resizing (the processor's)")
    add("--no-question-view", action="store_true", help="columns only, without the groups by question")
    add("--store-dtype", default="float32", choices=STORE_DTYPES, help="of the vectors on disk (%(default)s)")
    add("--seed", type=int, default=0, help="torch's seed (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Extract; the exit status is 0, 1 when nothing could be captured, 130 or 143 when stopped by a signal."""
    fields = ExtractOptions.__dataclass_fields__
    return extract(ExtractOptions(**{name: getattr(args, name) for name in fields}))


def extract(options: ExtractOptions) -> int:
    """Run one extraction. Raises InputError for a table, folder, model or setting that cannot be used."""
    table = read_table(options.vqa_dataset, RESERVED_COLUMNS)
    if not options.images_dir.is_dir():
        raise InputError(f"--images-dir {options.images_dir} is not a folder")
    with _locked(options.output_dir):
        import torch
        import transformers

        from halp_probe.extraction.engine import CaptureSpec, Engine
        from halp_probe.extraction.failures import read_failures
        from halp_probe.extraction.manifest import check_settings, write_manifest
        from halp_probe.extraction.prompting import Prompter
        from halp_probe.extraction.run import Extraction, check_against_table, ordered_samples
        from halp_probe.extraction.stopping import StopSignals
        from halp_probe.models.loading import load_model
        from halp_probe.shards.run_folder import RunFolder

        if not sys.stderr.isatty():
            transformers.utils.logging.disable_progress_bar()
        torch.manual_seed(options.seed)
        loaded = load_model(
            options.model,
            cache_dir=options.cache_dir,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            attn_implementation=options.attn_implementation,
        )
        prompter = Prompter(loaded, options.min_pixels, options.max_pixels)
        layers = parse_layers(options.layers, loaded.num_layers)
        max_new_tokens = 0 if options.no_answers else options.max_new_tokens
        engine = Engine(loaded, CaptureSpec(layers, max_new_tokens))
        settings = _settings(loaded, prompter, layers, max_new_tokens)
        check_settings(options.output_dir, settings)
        samples = ordered_samples(table.samples)
        folder = RunFolder(
            options.output_dir,
            model_slug(options.model),
            [sample.question_id for sample in samples],
            interval=options.checkpoint_interval,
            attributes=_attributes(loaded, settings),
            question_view=not options.no_question_view,
            store_dtype=options.store_dtype,
        )
        check_against_table(folder, samples)
        write_manifest(options.output_dir, settings, _about(options))
        chosen = samples[:TEST_SAMPLES] if options.test else samples
        failed_before = read_failures(options.output_dir)
        ids = {sample.question_id for sample in samples}
        chosen_ids = {sample.question_id for sample in chosen}
        elsewhere = [f for f in failed_before if f.question_id in ids - chosen_ids - set(folder.done)]
        budget = options.batch_tokens or _BATCH_TOKENS["cuda" if loaded.device.type == "cuda" else "cpu"]
        with StopSignals() as stop:
            extraction = Extraction(engine, prompter, folder, options.images_dir, token_budget=budget, should_stop=stop)
            outcome = extraction.run(
                chosen, [*table.failures, *elsewhere], {failure.question_id for failure in failed_before}
            )
        failed = (
            f", {len(outcome.failures)} failed (see {options.output_dir / 'failures.csv'})" if outcome.failures else ""
        )
        print(f"{outcome.captured} questions captured, {outcome.already_done} were there already{failed}")
        if outcome.stopped:
            print("Stopped as asked. Nothing finished is lost: run the same command again to go on.")
            return stop.exit_status
        print(f"{len(folder.shards())} shards in {options.output_dir}")
        return 0 if outcome.captured + outcome.already_done else 1


def _settings(loaded: LoadedModel, prompter: Prompter, layers: tuple[int, ...], max_new_tokens: int) -> dict[str, Any]:
    """What must not change inside one run folder: each of these shows in the captured numbers."""
    import hashlib

    from halp_probe.extraction.prompting import PROMPT

    bounds = prompter.pixel_bounds()
    return {
        "model_name": loaded.name,
        "revision": loaded.revision,
        "layers": list(layers),
        "max_new_tokens": max_new_tokens,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "attn_implementation": loaded.model.config._attn_implementation,
        "prompt": PROMPT,
        "chat_template_sha256": hashlib.sha256(str(loaded.processor.chat_template).encode()).hexdigest(),
        "min_pixels": bounds[0] if bounds else None,
        "max_pixels": bounds[1] if bounds else None,
    }


def _attributes(loaded: LoadedModel, settings: dict[str, Any]) -> dict[str, Any]:
    """A shard's attributes beside those of the format itself."""
    import torch
    import transformers

    named = {name: value for name, value in settings.items() if value is not None}
    return {
        **named,
        "model_type": loaded.name.rstrip("/").split("/")[-1].lower(),
        "config_model_type": loaded.model_type,
        "device": str(loaded.device),
        "num_layers": loaded.num_layers,
        "layer_meaning": LAYER_MEANING,
        "image_token_id": loaded.image_token_id,
        "halp_probe_version": __version__,
        "torch_version": str(torch.__version__),
        "transformers_version": transformers.__version__,
    }


def _about(options: ExtractOptions) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "vqa_dataset": str(options.vqa_dataset),
        "images_dir": str(options.images_dir),
        "checkpoint_interval": options.checkpoint_interval,
        "store_dtype": options.store_dtype,
        "seed": options.seed,
        "versions": {
            "halp_probe": __version__,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder and keep other runs out of it. The lock goes with the process, even a killed one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"--output-dir {folder} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is writing to {folder}; wait for it or choose another --output-dir"
            ) from None
        yield


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value
