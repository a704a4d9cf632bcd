"""`halp-probe score`: the risk of every row of a table before its first token, and the answers that may be given.

It is an extraction with one layer and a gate before the answers: batched, resumable, with failures listed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from halp_probe.commands.arguments import not_negative, positive
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.errors import InputError
from halp_probe.models.options import ModelOptions
from halp_probe.state_identity import StateIdentity

RISKS_FILE = "risks.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--vqa-dataset", type=Path, required=True, help="CSV with question_id, image_id, question")
    add("--images-dir", type=Path, required=True, help="folder of the images: {images_dir}/{image_id}")
    add("--probe", type=Path, required=True, help="a probe that train_probes.py saved")
    add("--output-dir", type=Path, required=True, help="risks.csv, failures.csv, shards with the states that were read")
    add_model_arguments(parser, default=None, otherwise="that of the probe's card, with the adapters named there")
    add("--abstain-above", help="no answer above this risk; 'threshold': the one in the probe's card (always answer)")
    add("--no-answers", action="store_true", help="risks only")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that runs a probe's model over a table; see `extract_options`."""
    add = parser.add_argument
    add("--max-new-tokens", type=positive, default=64, help="longest answer in tokens (%(default)s)")
    add("--batch-tokens", type=positive, help="padded tokens a batch (cpu 4096, cuda 16384)")
    add("--workers", type=not_negative, help="processes that prepare images ahead (cuda up to 8, cpu 0)")
    add("--allow-other-model", action="store_true", help="let a probe of another model, revision or template pass")


def run(args: argparse.Namespace) -> int:
    """Score; the exit status is that of an extraction. Raises InputError for input that cannot be used."""
    from halp_probe.commands import extract as extraction
    from halp_probe.locking import locked
    from halp_probe.probes.files import load_probe
    from halp_probe.scoring.compatibility import check_fits
    from halp_probe.scoring.scorer import abstention_level, risk_gate
    from halp_probe.task_files.table import read_vqa

    probe = load_probe(args.probe)
    highest = abstention_level(probe, args.abstain_above)
    options = extract_options(args, probe.metadata)
    given = read_vqa(args.vqa_dataset, args.images_dir, answers=False)
    with locked(args.output_dir):
        loaded, prompter = extraction.load(options)
        check_fits(probe, loaded, allow_other_model=args.allow_other_model)
        calibration = json.dumps(probe.calibration.as_json(), sort_keys=True).encode()
        settings = {
            "probe_sha256": probe.metadata["tensors_sha256"],
            "calibration_sha256": hashlib.sha256(calibration).hexdigest(),
            "abstain_above": highest,
        }
        gate = None if highest is None else risk_gate(probe, highest)
        status = extraction.extract(options, given, loaded, prompter, gate, settings)
        if status == 0:
            write_risks(args.output_dir, probe, highest)
    return status


def write_risks(folder: Path, probe: Any, abstain_above: float | None) -> None:
    """`risks.csv` from the folder's shards: question_id, risk, abstained (1 or 0), answer (or blank)."""
    from halp_probe.files import atomic_text
    from halp_probe.shards.reader import open_shards

    shards = open_shards(folder)
    risks = probe.risk(shards.vectors(probe.metadata["representation"]))  # [N]
    answers, lengths = shards.text("answer"), shards.numbers("answer_tokens")
    asked = shards.attributes["max_new_tokens"] > 0
    abstained = 0
    with atomic_text(folder / RISKS_FILE) as file:
        writer = csv.writer(file)
        writer.writerow(("question_id", "risk", "abstained", "answer"))
        for question_id, risk, answer, length in zip(shards.question_ids, risks, answers, lengths, strict=True):
            silent = length == 0 if asked else abstain_above is not None and risk > abstain_above
            abstained += silent
            writer.writerow((question_id, repr(float(risk)), int(silent), answer))
    print(f"{folder / RISKS_FILE}: {len(risks)} risks, mean {risks.mean():.3f}; {abstained} questions abstained from")


def extract_options(args: argparse.Namespace, card: dict[str, Any]) -> Any:
    """Those of an extraction that reads the probe's states as they were read for its training.

    Raises InputError for a probe of prompts without an image: a row of the table shows one.
    """
    from halp_probe.commands.extract import ExtractOptions
    from halp_probe.scoring.compatibility import check_shows, layer_to_read

    check_shows(card, images=True)
    return ExtractOptions(
        source={"vqa_dataset": str(args.vqa_dataset), "images_dir": str(args.images_dir)},
        output_dir=args.output_dir,
        model=_model_options(args, card),
        checkpoint_interval=1000,
        test=False,
        layers=str(layer_to_read(str(card.get("representation")))),
        max_new_tokens=args.max_new_tokens,
        no_answers=args.no_answers,
        batch_tokens=args.batch_tokens,
        workers=args.workers,
        no_prefix_sharing=False,
        **StateIdentity.of_card(card).prompt_options(),
        no_question_view=True,
        store_dtype="float32",
        seed=0,
    )


def _model_options(args: argparse.Namespace, card: dict[str, Any]) -> ModelOptions:
    """What the flags say; the card's model and, where no model is named, how it was loaded."""
    from halp_probe.scoring.compatibility import trained_adapters, trained_revision

    model = args.model or card.get("model_name")
    if model is None:
        raise InputError(f"{args.probe} names no model; pass --model")
    adapters = args.adapter or ([] if args.model else trained_adapters(card))
    options = model_options(args)
    quantization = options.quantization or (None if args.model else card.get("quantization"))
    revision = options.revision or trained_revision(card, model)
    return replace(options, model=model, adapter=tuple(adapters), revision=revision, quantization=quantization)
