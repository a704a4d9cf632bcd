"""Many MLPs at once learn what torch teaches one alone; the estimator keeps scikit-learn's rules."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from probes_fake import BLOCK_TORCH
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting import mlp_training
from halp_probe.probes.fitting.mlp import MLPOptions, MLPProbe, train_mlps
from halp_probe.probes.fitting.mlp_training import batch_ends
from halp_probe.probes.fitting.splits import inner_splits

pytestmark = pytest.mark.slow

SMALL = {"hidden_sizes": (16, 8), "max_epochs": 30}
OPTIONS = MLPOptions(hidden_sizes=(16, 8), max_epochs=6, patience=None)


@parametrize_with_checks([MLPProbe(**SMALL), MLPProbe(**SMALL, seeds=2, norm_after_relu=True)])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


def data(n: int = 300, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X [n, width] float32 of unequal scales, y [n], groups [n]."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    X = rng.standard_normal((n, width)) * np.exp(rng.standard_normal(width)) + 5
    X[:, 0] += X[:, 0].std() * y
    return X.astype(np.float32), y, np.arange(n) // 3


def training_sets(n: int, sizes: tuple[int, ...]) -> np.ndarray:
    """[R, n] bool, each of so many rows, no two the same."""
    train = np.zeros((len(sizes), n), dtype=bool)
    for r, size in enumerate(sizes):
        train[r, np.random.default_rng(r).permutation(n)[:size]] = True
    return train


class DrawnDropout(torch.nn.Module):
    """Dropout by the masks that are left in `factors`."""

    factors: list[torch.Tensor]

    def forward(self, hidden):
        return hidden * self.factors.pop(0) if self.training else hidden


def taught_by_torch(X: np.ndarray, y: np.ndarray, options: MLPOptions) -> np.ndarray:
    """[n] log-odds of the rows trained on: torch's own layers, autograd and Adam, on this member's random numbers."""
    generator = torch.Generator().manual_seed(options.random_state)
    dropout, layers = DrawnDropout(), []
    for inputs, outputs in zip((X.shape[1], *options.hidden_sizes), options.hidden_sizes, strict=False):
        normed = [torch.nn.BatchNorm1d(outputs), torch.nn.ReLU()]
        layers += [torch.nn.Linear(inputs, outputs), *(normed[::-1] if options.norm_after_relu else normed), dropout]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(options.hidden_sizes[-1], 1))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(options.random_state)
        for layer in network:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
        generator.set_state(torch.get_rng_state())
    adam = torch.optim.Adam(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    standard = X.astype(np.float64)
    if options.standardise:
        standard = (standard - standard.mean(0)) / standard.std(0)
    inputs, target = torch.from_numpy(standard).float(), torch.from_numpy(y).float()
    for _ in range(options.max_epochs):
        order = torch.randperm(len(y), generator=generator)
        for rows in order.split(options.batch_size):
            uniform = torch.rand(sum(options.hidden_sizes), len(rows), generator=generator)
            factors = (uniform >= options.dropout).float().T / (1 - options.dropout)
            dropout.factors = list(factors.split(options.hidden_sizes, dim=1))
            adam.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(network(inputs[rows])[:, 0], target[rows]).backward()
            adam.step()
    network.eval()
    return network(inputs)[:, 0].detach().numpy()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("standardise", [False, True])
def test_each_member_learns_what_torch_teaches_it_alone(after, standardise):
    X, y, _ = data(150)
    train = training_sets(150, (100, 131, 64))
    options = replace(OPTIONS, norm_after_relu=after, standardise=standardise, seeds=2, weight_decay=1e-2)
    trained = train_mlps(X, y, train, None, options)
    assert (trained.n_epochs == 6).all()
    for r, rows in enumerate(train):
        alone = [taught_by_torch(X[rows], y[rows], replace(options, random_state=seed)) for seed in (0, 1)]
        np.testing.assert_allclose(trained.logit[r, rows], np.mean(alone, axis=0), atol=1e-4)
        assert np.abs(alone[0] - alone[1]).max() > 0.01


@pytest.mark.parametrize("memory", [1, 2**28])
def test_the_company_changes_nothing(monkeypatch, memory):
    """Members stop at different epochs and have different numbers of batches; stacks of one and of all."""
    monkeypatch.setitem(mlp_training.MEMORY, "cpu", memory)
    X, y, groups = data(240)
    train = training_sets(240, (200, 90, 150, 70, 199))
    options = replace(OPTIONS, max_epochs=25, patience=2, seeds=2, random_state=3)
    trained = train_mlps(X, y, train, groups, options)
    assert len(np.unique(trained.n_epochs)) > 2
    for r, rows in enumerate(train):
        alone = MLPProbe(hidden_sizes=(16, 8), max_epochs=25, patience=2, seeds=2, random_state=3)
        alone.fit(X[rows], y[rows], groups[rows])
        assert (alone.n_epochs_ == trained.n_epochs[r]).all()
        np.testing.assert_allclose(alone.decision_function(X), trained.logit[r], atol=1e-4)


def test_a_probe_of_many_scores_as_the_table_says_also_from_a_file_and_without_torch(tmp_path):
    X, y, groups = data(120)
    trained = train_mlps(X, y, training_sets(120, (80, 100)), groups, replace(OPTIONS, seeds=3))
    assert trained.logit.shape == (2, 120) and trained.logit.dtype == np.float64
    for r in range(2):
        probe = trained.probe(r)
        assert (probe.decision_function(X) == trained.logit[r]).all()
        assert probe.get_params()["seeds"] == 3 and probe.coefs_[0].shape == (3, 12, 16)
        save_probe(tmp_path / f"{r}", probe, {})
        assert (load_probe(tmp_path / f"{r}").decision_function(X) == trained.logit[r]).all()
    code = (
        f"{BLOCK_TORCH}"
        "import numpy as np; from halp_probe.probes.files import load_probe; import halp_probe.probes.presets\n"
        f"print(load_probe({str(tmp_path / '1')!r}).decision_function(np.ones((1, 12)))[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == trained.probe(1).decision_function(np.ones((1, 12)))[0]


def test_arrays_of_version_0_1_0_score_as_they_did():
    """They have no axis of seeds; the formula is that version's."""
    rng = np.random.default_rng(0)
    probe = MLPProbe((7, 6))
    sizes = (5, 7, 6, 1)
    probe.coefs_ = [rng.standard_normal((a, b)).astype(np.float32) for a, b in pairwise(sizes)]
    probe.intercepts_ = [rng.standard_normal(b).astype(np.float32) for b in sizes[1:]]
    probe.mean_, probe.scale_, probe.n_features_in_ = rng.random(5), rng.random(5) + 1, 5
    X = rng.standard_normal((10, 5)).astype(np.float32)
    hidden = (X - probe.mean_) / probe.scale_
    for weight, bias in zip(probe.coefs_[:-1], probe.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    expected = (hidden @ probe.coefs_[-1] + probe.intercepts_[-1])[:, 0]
    np.testing.assert_allclose(probe.decision_function(X), expected, rtol=1e-12)


def test_seeds_are_averaged_as_log_odds():
    X, y, groups = data(150)
    both = MLPProbe(**SMALL, seeds=2, random_state=4).fit(X, y, groups)
    single = [MLPProbe(**SMALL, random_state=4).fit(X, y, groups)]
    split = inner_splits(y, groups, 8, 4)[0]  # of the first seed; the second network is validated on it too
    assert not np.intersect1d(groups[split.train], groups[split.test]).size
    np.testing.assert_allclose(both.coefs_[0][0], single[0].coefs_[0][0], atol=1e-5)
    X64 = (X - both.mean_) / both.scale_
    logits = []
    for seed in range(2):
        hidden = X64
        for weight, bias in zip(both.coefs_[:-1], both.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weight[seed] + bias[seed], 0)
        logits.append((hidden @ both.coefs_[-1][seed] + both.intercepts_[-1][seed])[:, 0])
    np.testing.assert_allclose(both.decision_function(X), np.mean(logits, axis=0), rtol=1e-9, atol=1e-12)


def test_standardisation_is_by_the_rows_trained_on():
    X, y, groups = data(200)
    train = training_sets(200, (120, 150))
    trained = train_mlps(X, y, train, groups, replace(OPTIONS, patience=5))
    for r, rows in enumerate(train):
        split = inner_splits(y[rows], groups[rows], 8, 0)[0]
        own = X[rows][split.train].astype(np.float64)
        np.testing.assert_allclose(trained.probe(r).mean_, own.mean(0), rtol=1e-6)
        np.testing.assert_allclose(trained.probe(r).scale_, own.std(0), rtol=1e-6)
    as_they_are = train_mlps(X, y, train, groups, replace(OPTIONS, standardise=False)).probe(0)
    assert (as_they_are.mean_ == 0).all() and (as_they_are.scale_ == 1).all()


def test_float64_input_far_from_zero_is_standardised_before_it_is_rounded():
    X, y, groups = data(150)
    centred = X.astype(np.float64) - 5
    near, far = (MLPProbe(**SMALL).fit(shifted, y, groups) for shifted in (centred, centred + 2.0**30))
    np.testing.assert_allclose(far.decision_function(centred + 2.0**30), near.decision_function(centred), atol=1e-2)


def test_constant_and_huge_features_do_no_harm():
    X, y, _ = data()
    X = np.column_stack([X, np.full(len(X), 1e6), X[:, 1] * 1e4]).astype(np.float32)
    probe = MLPProbe(**SMALL).fit(X, y)
    assert probe.scale_[-2] == 1
    assert np.isfinite(probe.decision_function(X)).all()
    assert roc_auc_score(y, probe.decision_function(X)) > 0.65


def test_learns_what_a_line_cannot():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    probe = MLPProbe(hidden_sizes=(32, 16), max_epochs=40).fit(X[:400], y[:400])
    assert roc_auc_score(y[400:], probe.predict_proba(X[400:])[:, 1]) > 0.9
    assert 1 <= probe.n_epochs_[0] <= 40


def test_keeps_the_weights_of_its_best_epoch():
    X, y, groups = data(200)
    stopped = MLPProbe(hidden_sizes=(16, 8), max_epochs=40, patience=3).fit(X, y, groups)
    epoch = int(stopped.n_epochs_[0])
    assert epoch < 37
    best = MLPProbe(hidden_sizes=(16, 8), max_epochs=epoch).fit(X, y, groups)
    assert (best.predict_proba(X) == stopped.predict_proba(X)).all()
    validation = inner_splits(y, groups, 8, 0)[0].test

    def loss(epochs: int) -> float:
        logit = MLPProbe(hidden_sizes=(16, 8), max_epochs=epochs).fit(X, y, groups).decision_function(X)[validation]
        return np.logaddexp(0, np.where(y[validation] == 1, -logit, logit)).mean()

    assert loss(epoch) == min(loss(epochs) for epochs in range(1, epoch + 3))


@pytest.mark.parametrize(
    ("best", "loss", "epoch", "patience", "goes_on"),
    [
        (4, 0.5, 5, 2, True),
        (4, 0.5, 6, 2, False),
        (0, np.nan, 6, 2, True),  # nothing validates it
        (4, 0.5, 6, None, True),
        (10, 0.5, 10, 2, False),  # the last epoch
    ],
)
def test_who_goes_on(best, loss, epoch, patience, goes_on):
    options = MLPOptions(max_epochs=10, patience=patience)
    assert mlp_training._continues(mlp_training._Best(loss=0.4, epoch=best), loss, epoch, options) is goes_on


def test_without_patience_every_row_trains_for_all_epochs():
    X, y, groups = data(90)
    probe = MLPProbe(hidden_sizes=(16, 8), max_epochs=5, patience=None).fit(X, y, groups)
    assert probe.n_epochs_.tolist() == [5]
    np.testing.assert_allclose(probe.mean_, X.astype(np.float64).mean(0), rtol=1e-6)


def test_a_loss_that_is_no_number_ends_with_the_last_weights():
    X, y, groups = data(90)
    probe = MLPProbe(hidden_sizes=(4,), max_epochs=3, learning_rate=1e38).fit(X, y, groups)
    assert 1 <= probe.n_epochs_[0] <= 3


def test_leaves_torch_as_it_was_and_repeats_itself():
    X, y, groups = data(90)
    torch.manual_seed(1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    first = MLPProbe(**SMALL).fit(X, y, groups).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    torch.manual_seed(2)
    assert (MLPProbe(**SMALL).fit(X, y, groups).predict_proba(X) == first).all()
    assert (MLPProbe(**SMALL, random_state=5).fit(X, y, groups).predict_proba(X) != first).any()


@pytest.mark.parametrize(
    ("n", "size", "ends"), [(65, 32, [32, 65]), (66, 32, [32, 64, 66]), (3, 1, [1, 3]), (1, 4, [1]), (64, 32, [32, 64])]
)
def test_no_batch_of_one_row_after_others(n, size, ends):
    assert batch_ends(n, size) == ends


def test_a_training_set_of_one_class_is_named():
    X, y, groups = data(60)
    train = training_sets(60, (40, 50))
    train[1] = y == 1
    with pytest.raises(ValueError, match=r"training set 1: its \d+ rows lack a class"):
        train_mlps(X, y, train, groups, OPTIONS)
    with pytest.raises(ValueError, match="of one N"):
        train_mlps(X, y, train[:, :-1], groups, OPTIONS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_company_changes_nothing_on_a_gpu():
    X, y, groups = data(240)
    train = training_sets(240, (200, 90, 150))
    options = replace(OPTIONS, max_epochs=30, seeds=2)  # long enough that they learn whatever the device draws
    trained = train_mlps(X, y, train, groups, options, device="cuda")
    for r in range(len(train)):
        alone = train_mlps(X, y, train[[r]], groups, options, device="cuda")
        np.testing.assert_allclose(alone.logit[0], trained.logit[r], atol=1e-3)
        assert roc_auc_score(y, trained.logit[r]) > 0.6


def test_validation_keeps_images_apart_and_teaches_nothing():
    X, y, groups = data(240)
    train = np.arange(240) < 180
    one = mlp_training._training_set(X, y, groups, train, replace(OPTIONS, patience=3))
    assert len(one.validation) and not set(groups[one.rows]) & set(groups[one.validation])
    assert sorted([*one.rows, *one.validation]) == list(range(180))
    np.testing.assert_allclose(one.mean, X[one.rows].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(one.scale, X[one.rows].std(axis=0), rtol=1e-5)
