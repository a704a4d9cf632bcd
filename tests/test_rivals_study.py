"""What a run recorded of its rivals stands among the baselines of a study of its shards, by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import halp_probe
from halp_probe.probes.baselines import RIVALS
from halp_probe.probes.study import Study
from halp_probe.rivals.measures import sampled_measures
from halp_probe.rivals.table import write_rivals
from halp_probe.shapes.dataset import write_dataset

pytestmark = pytest.mark.slow

DESIGN = halp_probe.Design(bootstrap=40, fusion=(), representations=("query_token_representation/layer_5",))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> halp_probe.Shards:
    """The bundled model on 50 scenes with four sampled answers a question, and a table of what it said when asked."""
    folder = tmp_path_factory.mktemp("sampled")
    write_dataset(folder, n_scenes=50, questions_a_scene=6, seed=31)
    done = halp_probe.extract(
        folder / "vqa.csv", folder / "images", folder / "out", model="shapes", samples=4, max_new_tokens=6, layers="5"
    )
    shards = done.shards
    p_true = np.random.default_rng(0).random(len(shards.question_ids))
    columns = {"p_true": p_true, "p_true_mass": p_true * 0 + 1, "no_image_kl": p_true * 3}
    write_rivals(folder / "out" / "asked.csv", shards.question_ids, columns)
    return shards


@pytest.fixture(scope="module")
def found(sampled: halp_probe.Shards) -> Study:
    return halp_probe.study(sampled, halp_probe.label(sampled.files[0].parent), DESIGN)


def test_each_measure_is_a_baseline_on_the_same_folds(sampled: halp_probe.Shards, found: Study) -> None:
    results = {result.name: result for result in found.judgement.of_kind("baseline")}
    measures = sampled_measures(sampled)
    for name, values in measures.items():
        score = values[found.rows.index]
        if not np.isfinite(score).all():
            assert "rows have no" in results[name].note
            continue
        by_fold = [
            roc_auc_score(found.rows.y[found.folds.fold == k], score[found.folds.fold == k])
            for k in range(5)
            if k not in found.folds.unjudged
        ]
        assert results[name].auroc.value == pytest.approx(np.mean(by_fold), abs=1e-9)
        assert RIVALS[name] in results[name].note and results[name].is_known_afterwards
    assert set(measures) <= set(results)


def test_what_the_model_said_is_read_from_beside_the_shards(found: Study) -> None:
    results = {result.name: result for result in found.judgement.of_kind("baseline")}
    assert results["p_false"].is_known_afterwards and not results["no_image_kl"].is_known_afterwards
    assert results["p_false"].auroc.value == pytest.approx(results["no_image_kl"].auroc.value)  # both fall with p_true
    everything, early = (set(added.baselines) for added in found.judgement.added[:2])
    assert "p_false" in everything and "inconsistency" in everything
    assert "no_image_kl" in early and not early & {"p_false", "inconsistency"}


def test_a_table_of_ones_own_goes_before_what_was_recorded(sampled: halp_probe.Shards, tmp_path: Path) -> None:
    """As one from `halp-probe rivals --entailment`, with the same names."""
    labels = halp_probe.label(sampled.files[0].parent)
    truth = np.array([np.nan if labels[name] is None else float(labels[name]) for name in sampled.question_ids])
    write_rivals(tmp_path / "rivals.csv", sampled.question_ids, {"semantic_entropy": np.nan_to_num(truth, nan=0.5)})
    found = halp_probe.study(sampled, labels, DESIGN, baselines=tmp_path / "rivals.csv")
    assert [result.name for result in found.judgement.of_kind("baseline")].count("semantic_entropy") == 1
    assert found.judgement.result("semantic_entropy").auroc.value == 1.0
