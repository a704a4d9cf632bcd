"""Fused probes are those of a loop by hand, choose nothing by the test fold, and are saved as they were fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from probes_fake import FakeShards
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halp_probe.errors import InputError
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import join
from halp_probe.probes.files import load_probe, load_probes
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.fitting.splits import Folds, outer_folds
from halp_probe.probes.fusion.components import fit_components
from halp_probe.probes.fusion.differences import differences
from halp_probe.probes.fusion.fusing import Fusing, choose, fuse
from halp_probe.probes.fusion.stacking import STACK_STRENGTHS, ScoreColumn, stack
from halp_probe.probes.names import FUSIONS
from halp_probe.probes.nested import CrossFit, cross_fit
from halp_probe.probes.saving import save_probes
from halp_probe.probes.study import Design, study
from halp_probe.probes.training_sets import training_sets

N, WIDTH, FOLDS = 300, 6, 4
NAMES = (
    "vision_only_representation",
    "vision_token_representation/layer_2",
    "query_token_representation/layer_0",
    "query_token_representation/layer_2",
)
ALL_FUSED = [f"fused_{way}{twin}" for way in FUSIONS for twin in ("", "_and_confidence")]


def make_shards(seed: int = 0) -> tuple[FakeShards, np.ndarray]:
    """Three questions an image; half of a signal in one representation, half in another, and some in the entropy."""
    rng = np.random.default_rng(seed)
    halves = rng.standard_normal((3, N))
    y = (halves.sum(axis=0) + rng.standard_normal(N) > 0.3).astype(int)
    arrays = {name: rng.standard_normal((N, WIDTH)).astype(np.float32) for name in NAMES}
    arrays[NAMES[1]][:, 0] += halves[0]
    arrays[NAMES[3]][:, 1] += halves[1]
    images = [str(row // 3) for row in range(N)]
    shards = FakeShards(
        question_ids=tuple(f"q{row}" for row in range(N)),
        arrays=arrays,
        texts={"image_id": images, "image_sha256": [f"{image:0>64}" for image in images]},
        columns={"first_token_entropy": halves[2], "first_token_logprob": -np.abs(halves[2])},
    )
    return shards, y


def labels_of(y: np.ndarray) -> dict[str, int | None]:
    return {f"q{row}": int(label) for row, label in enumerate(y)}


def fitted(shards: FakeShards, y: np.ndarray, folds: Folds) -> Fusing:
    rows, sets = join(shards, labels_of(y), shards.representations), training_sets(y, folds)
    fits = {name: cross_fit(linear()(X, y, sets.train), y, folds, sets) for name, X in shards.arrays.items()}
    return Fusing(shards=shards, rows=rows, folds=folds, sets=sets, fit=linear(), fits=fits)


@pytest.fixture(scope="module")
def data() -> tuple[Fusing, dict[str, CrossFit], np.ndarray]:
    shards, y = make_shards()
    fusing = fitted(shards, y, outer_folds(y, np.arange(N) // 3, FOLDS, 0))
    return fusing, fuse(fusing, FUSIONS, lambda way: None), y


def regression(X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=5000)).fit(X, y)


def by_hand(columns: Sequence[ScoreColumn], y: np.ndarray, fold: np.ndarray, k: int) -> np.ndarray:
    """Log-odds of test fold k: scikit-learn on the inner scores, its strength the best over the inner folds."""
    inner = np.stack([column.inner[k] for column in columns], axis=1)
    outer = np.stack([column.models[k] for column in columns], axis=1)
    ranks = {}
    for C in STACK_STRENGTHS:
        found = []
        for j in set(range(FOLDS)) - {k}:
            train, test = ~np.isin(fold, (j, k)), fold == j
            found.append(roc_auc_score(y[test], regression(inner[train], y[train], C).decision_function(inner[test])))
        ranks[C] = np.mean(found)
    best = max(ranks, key=ranks.__getitem__)
    return regression(inner[fold != k], y[fold != k], best).decision_function(outer[fold == k])


def test_a_stack_is_that_of_a_loop_by_hand(data):
    fusing, fused, y = data
    fold = fusing.folds.fold
    columns = [ScoreColumn.of_fit(fit) for fit in fusing.fits.values()]
    for k in range(FOLDS):
        np.testing.assert_allclose(fused["fused_stack"].score[fold == k], by_hand(columns, y, fold, k), atol=1e-4)
    numbers = [ScoreColumn.of_number(fusing.rows.numbers[name], FOLDS) for name in fusing.shards.columns]
    for way in FUSIONS:
        columns = [ScoreColumn.of_fit(fused[f"fused_{way}"]), *numbers]
        for k in range(FOLDS):
            score = fused[f"fused_{way}_and_confidence"].score[fold == k]
            np.testing.assert_allclose(score, by_hand(columns, y, fold, k), atol=1e-4)


def test_a_mean_is_that_of_the_log_odds(data):
    fusing, fused, _ = data
    expected = np.mean([fit.score for fit in fusing.fits.values()], axis=0)
    np.testing.assert_allclose(fused["fused_mean"].score, expected, atol=1e-12)


def test_components_are_those_of_scikit_learn(data):
    """Standardised inputs, side by side; their leading components; a regression on these, standardised."""
    fusing, _, y = data
    check_components({name: fusing.shards.arrays[name] for name in NAMES}, fusing, y, atol=1e-3)


def test_components_of_many_inputs_are_those_of_scikit_learn(data):
    """So many that they are found by iteration; their spectrum decays, as that of hidden states does."""
    fusing, _, y = data
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((N, 40)) * 0.8 ** np.arange(40) @ rng.standard_normal((40, 300))
    X = (mixed + 0.05 * rng.standard_normal((N, 300)) + 5).astype(np.float32)
    check_components({NAMES[0]: X[:, :100], NAMES[1]: X[:, 100:]}, fusing, y, atol=0.02)


def check_components(arrays: dict[str, np.ndarray], fusing: Fusing, y: np.ndarray, atol: float) -> None:
    found = fit_components(list(arrays), arrays.__getitem__, y, fusing.sets.train, ranks=(2, 5))
    X = np.concatenate(list(arrays.values()), axis=1).astype(np.float64)
    shards = FakeShards(fusing.shards.question_ids, arrays, {})
    for r, train in enumerate(fusing.sets.train):
        for c, rank in enumerate((2, 5)):
            steps = [StandardScaler(), PCA(rank, svd_solver="full"), StandardScaler()]
            model = make_pipeline(*steps, LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)).fit(X[train], y[train])
            np.testing.assert_allclose(found.logit[r, c], model.decision_function(X), atol=atol, err_msg=f"{r} {rank}")
            np.testing.assert_allclose(found.probe(r, c).log_odds(shards), found.logit[r, c], atol=1e-3)


def test_a_difference_is_chosen_among_those_of_the_design(data):
    fusing, fused, y = data
    names = [each.name for each in differences(NAMES)]
    assert names == [
        "query_token_representation/layer_2 - vision_token_representation/layer_2",
        "query_token_representation/layer_2 - query_token_representation/layer_0",
    ]
    fits = []
    for each in differences(NAMES):
        X = fusing.shards.arrays[each.first] - fusing.shards.arrays[each.second]
        fits.append(cross_fit(linear()(X, y, fusing.sets.train), y, fusing.folds, fusing.sets))
    for k, test in enumerate(fusing.folds.fold == k for k in range(FOLDS)):
        best = max(fits, key=lambda fit: fit.inner_auroc[k])
        np.testing.assert_array_equal(fused["fused_difference"].score[test], best.score[test])


def test_the_test_fold_changes_nothing_that_is_chosen_for_it(data):
    """Other vectors, numbers and labels of a test fold: the same model of that fold, to the last bit that counts."""
    fusing, fused, y = data
    shards, _ = make_shards()
    rng = np.random.default_rng(5)
    test = fusing.folds.fold == 1
    other_y = np.where(test, 1 - y, y)
    for values in (*shards.arrays.values(), *shards.columns.values()):
        values[test] = rng.standard_normal(values[test].shape)
    changed = fuse(fitted(shards, other_y, fusing.folds), FUSIONS, lambda way: None)
    for name in ALL_FUSED:
        assert changed[name].candidate[1] == fused[name].candidate[1], name
        np.testing.assert_allclose(
            changed[name].models[1][~test], fused[name].models[1][~test], atol=2e-3, err_msg=name
        )
        assert np.abs(changed[name].models[1][test] - fused[name].models[1][test]).max() > 0.1, name


def test_a_fold_without_scores_has_none_in_a_stack_either(data):
    fusing, _, y = data
    columns = [ScoreColumn.of_fit(fit) for fit in fusing.fits.values()]
    broken = np.array(columns[0].models)
    broken[2] = np.nan
    columns[0] = ScoreColumn(inner=columns[0].inner, models=broken, final=columns[0].final)
    found, _ = stack(columns, y, fusing.folds)
    assert np.isnan(found.score[fusing.folds.fold == 2]).all() and found.candidate[2] == -1
    assert np.isfinite(found.score[fusing.folds.fold != 2]).all()


def test_a_stack_of_numbers_alone_is_not_fitted_on_its_test_fold(data):
    """Numbers have a value in the test fold too, which a fitted score does not: its rows must still be left out."""
    fusing, _, y = data
    numbers = [ScoreColumn.of_number(values, FOLDS) for values in fusing.rows.numbers.values()]
    test = fusing.folds.fold == 1
    found, turned = (stack(numbers, labels, fusing.folds)[0] for labels in (y, np.where(test, 1 - y, y)))
    np.testing.assert_allclose(turned.models[1], found.models[1], atol=1e-6)
    assert np.abs(turned.models[2] - found.models[2]).max() > 0.01


def test_each_fold_takes_what_its_inner_folds_favour(data):
    """The fit that is best over all folds is not the one that each fold chooses."""
    fusing, _, y = data
    one, other = (fusing.fits[name] for name in (NAMES[1], NAMES[3]))
    one = replace(one, inner_auroc=np.array([0.9, 0.2, 0.9, np.nan]), final_auroc=0.5)
    other = replace(other, inner_auroc=np.array([0.8, 0.3, 0.8, np.nan]), final_auroc=0.7)
    found = choose({"one": one, "other": other}, y, fusing.folds)
    assert found.candidate.tolist() == [0, 1, 0, -1] and found.final is other.final
    for k, fit in enumerate((one, other, one)):
        np.testing.assert_array_equal(found.models[k], fit.models[k])
        np.testing.assert_array_equal(found.score[fusing.folds.fold == k], fit.score[fusing.folds.fold == k])
    assert np.isnan(found.score[fusing.folds.fold == 3]).all()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    shards, y = make_shards()
    found = study(shards, labels_of(y), Design(bootstrap=50, folds=FOLDS))
    folder = tmp_path_factory.mktemp("fused")
    save_probes(folder, found, shards.attributes, "labels.csv", max_error=0.4)
    return found, folder, shards


@pytest.mark.parametrize("name", ALL_FUSED)
def test_a_saved_fused_probe_gives_the_risks_of_the_one_that_was_fitted(saved, name):
    found, folder, shards = saved
    fit, probe = found.sweep.fused[name], load_probe(folder / name)
    expected = probe.calibration(fit.final.log_odds(shards))
    np.testing.assert_array_equal(probe.risk_of(shards), expected)
    assert probe.title == name and probe.threshold is not None
    assert probe.metadata["representation"] is None and probe.metadata["inputs"] == list(fit.final.inputs)
    assert probe.metadata["training"]["auroc"] == found.judgement.result(name).auroc.value
    with pytest.raises(ProbeError, match=f"the probe {name} reads . inputs"):
        probe.risk(np.zeros((1, WIDTH)))


def test_the_refitted_stack_is_the_weighted_sum_of_the_refitted_probes(data):
    fusing, fused, y = data
    columns = [ScoreColumn.of_fit(fit) for fit in fusing.fits.values()]
    _, weights = stack(columns, y, fusing.folds)
    each = [fit.final.decision_function(fusing.shards.arrays[name]) for name, fit in fusing.fits.items()]
    expected = np.stack(each, axis=1) @ weights.weights + weights.intercept
    np.testing.assert_allclose(fused["fused_stack"].final.log_odds(fusing.shards), expected, atol=1e-9)
    out_of_fold = fused["fused_stack"].final_score
    assert roc_auc_score(y, out_of_fold) > 0.7 and np.corrcoef(out_of_fold, expected)[0, 1] > 0.9


def test_a_row_without_one_of_the_states_has_no_risk(saved):
    _, folder, shards = saved
    vectors = dict(shards.arrays)
    vectors[NAMES[2]] = vectors[NAMES[2]].copy()
    vectors[NAMES[2]][7] = np.nan
    risk = load_probe(folder / "fused_stack").risk_of(
        FakeShards(shards.question_ids, vectors, shards.texts, shards.columns)
    )
    assert np.isnan(risk[7]) and np.isfinite(np.delete(risk, 7)).all()


def test_plain_probes_are_asked_in_the_same_way_and_keep_their_version(saved):
    _, folder, shards = saved
    for probe in load_probes(folder).values():
        assert probe.metadata["format_version"] == (3 if probe.metadata["kind"] == "fused" else 2)
        if probe.metadata["representation"]:
            np.testing.assert_array_equal(probe.risk_of(shards), probe.risk(shards.vectors(probe.title)))


def test_another_version_of_numpy_or_a_lost_part_is_an_error_that_names_the_files(saved, tmp_path):
    _, folder, _ = saved
    card = (folder / "fused_mean.json").read_text().replace('"query_token_representation/layer_0"', "1")
    (tmp_path / "fused_mean.json").write_text(card.replace('"weight"', '"mass"'))
    (tmp_path / "fused_mean.safetensors").write_bytes((folder / "fused_mean.safetensors").read_bytes())
    with pytest.raises(InputError, match="do not hold a fused probe"):
        load_probe(tmp_path / "fused_mean")


def test_one_representation_is_not_fused():
    shards, y = make_shards()
    found = study(shards, labels_of(y), Design(bootstrap=50, representations=NAMES[:1]))
    assert not found.sweep.fused and not found.judgement.of_kind("fused")
