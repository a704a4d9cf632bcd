"""Summary of what a shard holds, and whether it is valid, for `inspect_h5.py FILE|FOLDER`. Without torch.

Legend: N samples, D width.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from halp_probe.errors import InputError
from halp_probe.shards.failures import read_failures
from halp_probe.shards.names import layer_of
from halp_probe.shards.reader import Shards
from halp_probe.shards.validation import problems


def inspect(shards: Shards) -> dict[str, Any]:
    """Return attributes, samples, layers, statistics of each representation, failures and problems, as plain values."""
    wrong = [f"{path.name}: {problem}" for path in shards.files for problem in problems(path)]
    layers = {layer for name in shards.representations if (layer := layer_of(name)) is not None}
    names = () if wrong else shards.representations
    return {
        "files": [str(path) for path in shards.files],
        "samples": len(shards.question_ids),
        "samples_by_file": list(shards.counts),
        "layers": sorted(layers),
        "attributes": shards.attributes,
        "representations": {name: _statistics(shards.vectors(name)) for name in names},
        "columns": [*shards.text_columns, *shards.number_columns],
        **({"sampled_answers": shards.samples().answer.shape[1]} if shards.has_samples and not wrong else {}),
        "failures": [asdict(failure) for failure in read_failures(shards.files[0].parent)],
        "notes": list(shards.notes),
        "valid": not wrong,
        "problems": wrong,
    }


def sample_report(shards: Shards, question_id: str) -> dict[str, Any]:
    """Return one sample's texts, positions and confidence; None for NaN. Raises InputError for an unknown id."""
    if question_id not in shards.question_ids:
        raise InputError(f"no question {question_id!r} in these shards; the first is {shards.question_ids[0]!r}")
    row = shards.question_ids.index(question_id)
    texts = {name: shards.text(name)[row] for name in shards.text_columns}
    numbers = {name: shards.numbers(name)[row].item() for name in shards.number_columns}
    report = {**texts, **{name: None if math.isnan(value) else value for name, value in numbers.items()}}
    return {**report, **({"sampled_answers": _sampled(shards, row)} if shards.has_samples else {})}


def _sampled(shards: Shards, row: int) -> list[dict[str, Any]]:
    """Return one question's sampled answers, each with its facts; None for NaN."""
    samples = shards.samples()
    logprobs = [None if math.isnan(value) else value for value in samples.logprob[row].tolist()]
    facts = zip(
        samples.answer[row], logprobs, samples.tokens[row].tolist(), samples.finished[row].tolist(), strict=True
    )
    return [dict(zip(("answer", "logprob", "tokens", "finished"), each, strict=True)) for each in facts]


def _statistics(vectors: np.ndarray) -> dict[str, Any]:
    """Compute the statistics of the values that are not NaN, and the number of NaN."""
    values = vectors[~np.isnan(vectors)].astype(np.float64)
    return {
        "shape": list(vectors.shape),
        "dtype": str(vectors.dtype),
        "mean": float(values.mean()) if len(values) else None,
        "std": float(values.std()) if len(values) else None,
        "min": float(values.min()) if len(values) else None,
        "max": float(values.max()) if len(values) else None,
        "nan": int(np.isnan(vectors).sum()),
    }
