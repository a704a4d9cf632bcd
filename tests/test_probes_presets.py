"""HALP's split has the rows of scikit-learn's, and its probe sees the inputs as they are."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.mlp import MLPProbe
from halp_probe.probes.presets import HALP, row_split


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("n", [10, 101, 1000])
def test_the_rows_of_train_test_split(n, stratified):
    """Vectors that hold their row number are split together with the labels, as HALP does it."""
    y = (np.random.default_rng(n).random(n) < 0.3).astype(int)
    y[:2] = 1
    X_train, X_test, y_train, y_test = train_test_split(
        np.arange(n)[:, None], y, test_size=0.2, random_state=42, stratify=y if stratified else None
    )
    fold = row_split(y, test_share=0.2, seed=42, stratified=stratified)
    assert np.flatnonzero(fold == 0).tolist() == sorted(X_test[:, 0])
    assert np.flatnonzero(fold == -1).tolist() == sorted(X_train[:, 0])
    assert y[fold == 0].sum() == y_test.sum() and y[fold == -1].sum() == y_train.sum()


def test_too_few_rows_are_refused():
    with pytest.raises(ProbeError, match="6 rows, 1 of them with label 1, cannot be split"):
        row_split(np.array([1, 0, 0, 0, 0, 0]), 0.2, 42, stratified=True)


def test_the_preset_is_a_probe():
    probe = MLPProbe(**asdict(HALP.mlp) | {"max_epochs": 1, "hidden_sizes": (4,)})
    X = np.random.default_rng(0).standard_normal((40, 3)) * 100 + 7
    assert (probe.fit(X, np.arange(40) % 2).scale_ == 1).all()
