"""Designs of published studies, to compare with their numbers. Legend: N rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.mlp_training import MLPOptions


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Probe and the one split that its number comes from."""

    mlp: MLPOptions
    test_share: float  # of the rows, which are split without regard to their image
    seed: int  # of the split
    stratified: bool  # both sides have the same share of label 1


HALP = Preset(
    mlp=MLPOptions(
        hidden_sizes=(512, 256, 128),
        dropout=0.3,
        norm_after_relu=True,
        learning_rate=1e-3,
        weight_decay=0.0,
        batch_size=32,
        max_epochs=50,
        patience=None,
        standardise=False,
        seeds=1,
    ),
    test_share=0.2,
    seed=42,
    stratified=True,
)
"""HALP (arXiv 2603.05465) as published in the repository alliedbrother/HALP_EACL.

Its training scripts (`<n>_<representation>_probe.py` of each model's `*_model_probe`) agree on the split (stratified
by label, 80/20, seed 42), the layers, dropout, unweighted cross-entropy, Adam, batches of 32, 50 epochs without
validation, inputs as they are, and on reporting the last epoch's AUROC of the test rows.

They differ in where BatchNorm stands. After the ReLU, as here: LLaVA-NeXT's scripts, and, because their saved weights
load into the class of `analyze_probe_by_category.py`, those of Gemma 3, FastVLM, Molmo, Qwen2.5-VL and SmolVLM2.
Before the ReLU: Llama 3.2 and Phi-4 (`replace(HALP.mlp, norm_after_relu=False)`). No script that we read seeds torch,
so first weights, dropout and order cannot be repeated; `random_state` is ours.
"""


def row_split(y: np.ndarray, test_share: float, seed: int, stratified: bool) -> np.ndarray:
    """Return [N] int: 0 for a row that is tested, -1 for one that only trains; rows as in sklearn's `train_test_split`.

    `y` [N] of 0 and 1. The split is of row numbers, so it depends on the order of the rows.

    Raises ProbeError when there are too few rows, or too few of a class for a stratified split.
    """
    try:
        _, test = train_test_split(
            np.arange(len(y)), test_size=test_share, random_state=seed, stratify=y if stratified else None
        )
    except ValueError as error:
        raise ProbeError(
            f"{len(y)} rows, {int(np.sum(y))} of them with label 1, cannot be split ({error}); label more samples"
        ) from error
    fold = np.full(len(y), -1)
    fold[test] = 0
    return fold
