"""A probe's direction is the one that its log-odds follow, and the only one; a control's they do not follow at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halp_probe.errors import InputError
from halp_probe.interventions.directions import control_direction, direction_of, layer_read
from halp_probe.probes.files import SavedProbe, load_probe, save_probe
from halp_probe.probes.fitting.comparators import DifferenceOfMeansProbe, RidgeProbe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fitting.mlp import MLPProbe

PROBES = (LinearProbe(Cs=(1e-2,)), RidgeProbe(), DifferenceOfMeansProbe())
WIDTH = 12


def data() -> tuple[np.ndarray, np.ndarray]:
    """Rows whose scales and means differ by much from one feature to the next, as those of a residual stream do."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 300)
    x = rng.standard_normal((300, WIDTH)) + y[:, None] * rng.standard_normal(WIDTH)
    return x * np.geomspace(0.01, 100, WIDTH) + np.linspace(-50, 50, WIDTH), y


def saved(probe: Any, folder: Path, representation: str) -> SavedProbe:
    save_probe(folder / "probe", probe, {"representation": representation})
    return load_probe(folder / "probe")


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_the_log_odds_follow_the_direction(probe: Any, tmp_path: Path) -> None:
    x, y = data()
    probe.fit(x, y)
    direction = direction_of(probe)
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-12)
    before = probe.decision_function(x)
    step = 1e-3 * np.eye(WIDTH)
    slopes = [(probe.decision_function(x[:1] + e) - before[0])[0] / 1e-3 for e in step]  # found by trying
    for t in (-3.0, 0.5, 7.0):
        moved = probe.decision_function(x + t * direction)
        assert moved - before == pytest.approx(np.full(len(x), t * np.linalg.norm(slopes)), rel=1e-6)
    assert probe.decision_function(x + 2 * direction).mean() > before.mean()  # towards a wrong answer
    without = x - np.outer(x @ direction, direction)
    at_zero = probe.decision_function(np.zeros((1, WIDTH)))
    assert probe.decision_function(without) == pytest.approx(np.full(len(x), at_zero[0]), abs=1e-8)
    assert before.std() > 0.1
    loaded = saved(probe, tmp_path, "query_token_representation/layer_3")
    assert direction_of(loaded) == pytest.approx(direction, abs=1e-12) and layer_read(loaded) == 3


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_the_log_odds_do_not_follow_the_control(probe: Any) -> None:
    x, y = data()
    probe.fit(x, y)
    control = control_direction(probe, 0)
    assert np.linalg.norm(control) == pytest.approx(1, abs=1e-12)
    assert abs(control @ direction_of(probe)) < 1e-12
    removed = x - np.outer(x @ control, control)
    assert probe.decision_function(removed) == pytest.approx(probe.decision_function(x), abs=1e-6)
    assert np.array_equal(control, control_direction(probe, 0))
    assert not np.allclose(control, control_direction(probe, 1), atol=0.1)


def test_a_control_is_drawn_among_probes_not_among_features() -> None:
    """Random weights on standardised inputs: where a feature's scale is large, its share of the direction is small."""
    x, y = data()
    probe = DifferenceOfMeansProbe().fit(x, y)
    drawn = np.abs([control_direction(probe, seed) for seed in range(200)]).mean(axis=0) * probe.scale_
    assert drawn[1:].max() < 2 * drawn[1:].min()  # the first, of the smallest scale, is most of the probe's own


def test_what_has_no_direction_is_refused(tmp_path: Path) -> None:
    x, y = data()
    mlp = MLPProbe(hidden_sizes=(4,), max_epochs=1).fit(x, y)
    with pytest.raises(InputError, match="MLPProbe has no single direction"):
        direction_of(saved(mlp, tmp_path, "query_token_representation/layer_3"))
    linear = LinearProbe(Cs=(1e-2,)).fit(x, y)
    for name in ("vision_only_representation", "vision_encoder_representation"):
        probe = saved(linear, tmp_path, name)
        for ask in (layer_read, direction_of):
            with pytest.raises(InputError, match=f"reads {name}, a mean over the vision tower"):
                ask(probe)
    linear.coef_ = np.zeros_like(linear.coef_)
    with pytest.raises(InputError, match="the same for every state"):
        direction_of(linear)
