"""Score a table: the risk of each row before its first token, and the answers that may be given.

It is an extraction with one layer and a gate before the answers: batched, resumable, with failures listed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from halp_probe.errors import InputError
from halp_probe.extraction.extract import extract_with, load
from halp_probe.extraction.options import ExtractOptions
from halp_probe.extraction.outcome import Extraction
from halp_probe.files import atomic_text
from halp_probe.locking import lock_folder
from halp_probe.models.options import ModelOptions
from halp_probe.probes.files import SavedProbe
from halp_probe.progress import Progress, silent
from halp_probe.records import Sample
from halp_probe.scoring.compatibility import (
    check_fits,
    check_shows,
    layers_to_read,
    positions_to_read,
    trained_adapters,
    trained_revision,
)
from halp_probe.scoring.scorer import risk_gate
from halp_probe.shards.reader import open_shards
from halp_probe.state_identity import StateIdentity
from halp_probe.tasks.task import TaskInput

RISKS_FILE = "risks.csv"


@dataclass(frozen=True, kw_only=True)
class Risks:
    """Risks of a table's questions, in the shards' order of N rows."""

    question_ids: tuple[str, ...]  # N
    risk: np.ndarray  # [N] float64, calibrated, of a wrong answer
    abstained: np.ndarray  # [N] bool
    answers: tuple[str, ...]  # N; blank where it abstained, or none was asked for


@dataclass(frozen=True, kw_only=True)
class ScoredTable:
    """Result of scoring a table: its extraction, and the risks once that has finished."""

    extraction: Extraction
    risks: Risks | None


def score(
    options: ExtractOptions,
    task_input: TaskInput[Sample, str],
    probe: SavedProbe,
    *,
    abstain_above: float | None = None,
    allow_other_model: bool = False,
    progress: Progress = silent,
    stopping: AbstractContextManager[Callable[[], bool]] | None = None,
) -> ScoredTable:
    """Score a table's questions into the folder that `options`, made by `probe_options`, name.

    No question with a risk above `abstain_above` is answered. Writes shards, failures.csv and, at the end, risks.csv.
    Raises InputError when the probe was not fitted on such states of this model, and what an extraction raises.
    """
    with lock_folder(options.output_dir):
        loaded, prompter = load(options)
        check_fits(probe, loaded, allow_other_model=allow_other_model)
        calibration = json.dumps(probe.calibration.as_json(), sort_keys=True).encode()
        settings = {
            "probe_sha256": probe.metadata["tensors_sha256"],
            "calibration_sha256": hashlib.sha256(calibration).hexdigest(),
            "abstain_above": abstain_above,
        }
        extraction = extract_with(
            options,
            task_input,
            loaded,
            prompter,
            gate=None if abstain_above is None else risk_gate(probe, abstain_above),
            gate_settings=settings,
            progress=progress,
            stopping=stopping,
        )
        if extraction.stopped or not extraction.captured + extraction.already_done:
            return ScoredTable(extraction=extraction, risks=None)
        risks = read_risks(options.output_dir, probe, abstain_above)
        _write_risks(options.output_dir / RISKS_FILE, risks)
    return ScoredTable(extraction=extraction, risks=risks)


def read_risks(folder: Path, probe: SavedProbe, abstain_above: float | None) -> Risks:
    """Read the risks of a scored folder from its shards."""
    shards = open_shards(folder)
    risk = probe.risk_of(shards)  # [N]
    if shards.attributes["max_new_tokens"] > 0:
        abstained = shards.numbers("answer_tokens") == 0  # [N]
    else:
        abstained = np.zeros(len(risk), dtype=bool) if abstain_above is None else risk > abstain_above
    return Risks(question_ids=shards.question_ids, risk=risk, abstained=abstained, answers=tuple(shards.text("answer")))


def probe_options(probe: SavedProbe, model: ModelOptions, output_dir: Path, **options: Any) -> ExtractOptions:
    """Return options of an extraction that reads the probe's states as they were read for its training.

    `model` as the user names it: without a name it is the card's model, loaded as it was then. Raises InputError for a
    probe of prompts without an image, since a row of the table shows one, and where neither names a model.
    """
    card = probe.metadata
    check_shows(card, images=True)
    return ExtractOptions(
        output_dir=output_dir,
        model=_model_of(card, model),
        layers=layers_to_read(probe),
        positions=positions_to_read(probe.inputs),
        **StateIdentity.of_card(card).prompt_options(),
        question_view=False,
        **options,
    )


def _model_of(card: Mapping[str, Any], wanted: ModelOptions) -> ModelOptions:
    model = wanted.model or card.get("model_name")
    if model is None:
        raise InputError("the probe's card names no model; pass `model`")
    adapters = wanted.adapter or (() if wanted.model else tuple(trained_adapters(card)))
    return replace(
        wanted,
        model=model,
        adapter=adapters,
        revision=wanted.revision or trained_revision(card, model),
        quantization=wanted.quantization or (None if wanted.model else card.get("quantization")),
    )


def _write_risks(path: Path, risks: Risks) -> None:
    """Write risks.csv: question_id, risk, abstained (1 or 0), answer (or blank)."""
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(("question_id", "risk", "abstained", "answer"))
        for question_id, risk, abstained, answer in zip(
            risks.question_ids, risks.risk, risks.abstained, risks.answers, strict=True
        ):
            writer.writerow((question_id, repr(float(risk)), int(abstained), answer))
