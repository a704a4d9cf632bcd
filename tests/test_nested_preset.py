"""The honest number is .5 where the published design finds what images have in common, and no lower elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from probes_fake import QUERY, VISION, labels_of, planted

from halp_probe.bootstrap import Draws
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.nested_preset import nested_number
from halp_probe.probes.study import Design, study


def test_what_is_remembered_of_an_image_counts_for_nothing():
    """Each image has a vector and a label of its own: split by row it can be looked up, split by image it cannot."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(60), 6)
    y = rng.integers(0, 2, 60)[images]
    X = (rng.standard_normal((60, 40))[images] + 0.05 * rng.standard_normal((360, 40))).astype(np.float32)
    found = nested_number({"x": lambda: X}, linear(), y, images, seed=0, draws=Draws(count=200, seed=0))
    assert found.auroc.low < 0.5 < found.auroc.high and found.chosen == {"x": 3}
    by_row = nested_number({"x": lambda: X}, linear(), y, np.arange(360), seed=0, draws=Draws(count=20, seed=0))
    assert by_row.auroc.value > 0.9


def test_the_representation_is_chosen_inside_the_training_rows():
    rng = np.random.default_rng(0)
    y, images = rng.integers(0, 2, 600), np.arange(600) // 3
    inputs = {f"noise {k}": rng.standard_normal((600, 4)) for k in range(6)}
    noise = nested_number(
        {name: (lambda X=X: X) for name, X in inputs.items()},
        linear(),
        y,
        images,
        seed=0,
        draws=Draws(count=200, seed=0),
    )
    assert noise.auroc.low < 0.5 < noise.auroc.high
    inputs["signal"] = rng.standard_normal((600, 4)) + 1.5 * y[:, None]
    told = {name: (lambda X=X: X) for name, X in inputs.items()}
    found = nested_number(told, linear(), y, images, seed=0, draws=Draws(count=50, seed=0))
    assert found.chosen == {"signal": 3} and found.auroc.low > 0.9


@pytest.mark.slow
def test_a_study_has_it_beside_a_preset_alone():
    shards, y = planted(180, auroc=0.95)
    labels = labels_of(shards, y)
    found = study(shards, labels, Design(preset="halp", bootstrap=20))
    assert found.nested is not None and set(found.nested.chosen) <= {QUERY, VISION}
    assert any("quote the first" in each.text for each in found.findings)
    assert study(shards, labels, Design(bootstrap=20)).nested is None
    few = nested_number(
        {"x": lambda: shards.arrays[QUERY][:4]}, linear(), y[:4], np.zeros(4), seed=0, draws=Draws(count=9, seed=0)
    )
    assert np.isnan(few.auroc.value) and few.auroc.note
