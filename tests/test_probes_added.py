"""What a probe adds to baselines is told as it was planted; a baseline is chosen inside the training folds."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from probes_fake import QUERY, FakeShards, labels_of, planted
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from halp_probe.bootstrap import interval, p_value
from halp_probe.probes.added import ALL_BASELINES, EARLY_BASELINES, SELECTED_BASELINE, STATELESS_BASELINES
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.outputs import table
from halp_probe.probes.study import Design, Study, study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth() -> ModuleType:
    """The benchmark whose data have a known truth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        import fusion_truth

        return fusion_truth


def test_a_signal_that_is_the_entropy_adds_nothing(truth: ModuleType):
    held = 0
    for seed in range(12):
        found = truth.planted_study({"entropy": 1.2}, seed)
        gain = truth.gain(found)
        held += gain.low <= 0 <= gain.high
        told = any("not shown to add anything to all baselines" in each.text for each in found.findings)
        assert told == (not gain.low > 0)
    assert held >= 10  # 95 of 100; see benchmarks/fusion_truth.py


def test_a_signal_beside_the_entropy_adds_as_much_as_was_planted(truth: ModuleType):
    weights = {"entropy": 1.0, "state": 1.2}
    size = truth.optimum(weights, ("entropy", "state")) - truth.optimum(weights, ("entropy",))
    found = [truth.planted_study(weights, seed) for seed in range(6)]
    gains = [truth.gain(each) for each in found]
    assert all(gain.low > 0 for gain in gains)
    assert all(each.judgement.added[0].verdict == "adds" for each in found)
    assert all(each.judgement.added[0].p_value < 0.01 for each in found)
    assert sum(gain.low <= size <= gain.high for gain in gains) >= 5
    assert np.mean([gain.value for gain in gains]) == pytest.approx(size, abs=0.03)


def test_a_signal_split_over_two_layers_is_found_by_the_stack_and_the_components_alone(truth: ModuleType):
    found = truth.planted_study({"split": 2.5}, 0).judgement
    assert max(each.auroc.value for each in found.of_kind("representation")) <= 0.60
    assert found.result("fused_stack").auroc.value >= 0.80
    assert found.result("fused_concat").auroc.value >= 0.80


def with_columns(seed: int = 0, **columns: np.ndarray) -> tuple[FakeShards, np.ndarray]:
    shards, y = planted(600, auroc=0.75, seed=seed)
    shards.columns.update(columns)
    return shards, y


@pytest.fixture(scope="module")
def studied() -> Study:
    rng = np.random.default_rng(2)
    shards, y = with_columns(answer_logprob=rng.standard_normal(600), answer_tokens=rng.integers(1, 9, 600))
    shards.columns["first_token_logprob"] = -1.5 * y + rng.standard_normal(600)
    return study(shards, labels_of(shards, y), Design(bootstrap=100), baselines={"mine": y + rng.standard_normal(600)})


def chosen(found: Study) -> list[str]:
    """The baseline of each fold."""
    selected = found.sweep.added.selected
    return [selected.names[candidate] for candidate in selected.candidate]


def test_each_stack_has_the_baselines_that_its_name_says(studied):
    members = {added.stack: set(added.baselines) for added in studied.judgement.added}
    early = {"question_text", "image_alone", "first_token_entropy", "first_token_logprob"}
    assert members[ALL_BASELINES] == early | {"answer_logprob", "answer_length", "mine"}
    assert members[EARLY_BASELINES] == early
    assert members[STATELESS_BASELINES] == early - {"image_alone"}


def test_the_baseline_is_chosen_by_the_training_folds(studied):
    """By hand: the mean AUROC over the other folds; here one baseline stands out."""
    selected = studied.judgement.result(SELECTED_BASELINE)
    own = {each.name: each.score for each in studied.sweep.baselines}
    y, fold = studied.rows.y, studied.folds.fold
    for k, name in enumerate(chosen(studied)):
        others = [j for j in range(5) if j != k]
        ranks = {
            each: np.mean([roc_auc_score(y[fold == j], own[each][fold == j]) for j in others])
            for each in ("first_token_logprob", "first_token_entropy", "answer_logprob")
        }
        assert name in (max(ranks, key=ranks.__getitem__), "mine")
    assert studied.judgement.best_baseline is selected
    assert selected.title == "first token logprob"


def test_labels_of_a_test_fold_do_not_choose_its_baseline():
    """Labels turned round in one fold make another baseline best there: it still gets the one of the other folds."""
    rng = np.random.default_rng(3)
    shards, y = with_columns()
    shards.columns["first_token_entropy"] = 2 * y + rng.standard_normal(600)
    first = study(shards, labels_of(shards, y), Design(bootstrap=50))
    assert set(chosen(first)) == {"first_token_entropy"}
    test = first.folds.fold == 2
    fold_column = [str(k) for k in first.folds.fold]
    shards.texts["fold"] = fold_column
    turned = study(shards, labels_of(shards, np.where(test, 1 - y, y)), Design(bootstrap=50, fold_column="fold"))
    assert chosen(turned)[2] == "first_token_entropy"
    assert turned.sweep.added.stacks[ALL_BASELINES].candidate[2] == first.sweep.added.stacks[ALL_BASELINES].candidate[2]
    np.testing.assert_allclose(
        turned.sweep.added.stacks[ALL_BASELINES].models[2][~test],
        first.sweep.added.stacks[ALL_BASELINES].models[2][~test],
        atol=1e-3,
    )


def test_the_p_value_is_that_of_the_interval():
    draws = np.random.default_rng(0).normal(0.1, 0.05, 500)
    reach = student.ppf(0.975, 29) * draws.std(ddof=1)
    assert p_value(reach, draws, 30) == pytest.approx(0.05)
    assert interval(reach, draws, 30, bounded=False).low == pytest.approx(0, abs=1e-12)
    assert p_value(0.0, np.zeros(9), 30) == 1 and p_value(0.1, np.zeros(9), 30) == 0
    assert np.isnan(p_value(np.nan, draws, 30)) and np.isnan(p_value(0.1, draws, 1))


def test_own_baselines_come_from_a_file_by_question_id(tmp_path: Path, studied):
    shards, y = with_columns()
    lines = [f"{name},{label + 0.25}," for name, label in zip(shards.question_ids, y, strict=True)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["question_id,mine,empty", *reversed(lines)]))
    found = study(shards, labels_of(shards, y), Design(bootstrap=50), baselines=path)
    assert found.judgement.result("mine").auroc.value == 1.0
    assert "600 of 600 rows have no empty" in found.judgement.result("empty").note
    assert found.judgement.added[0].without.value == pytest.approx(1.0)
    assert "adds nothing that shows to all baselines" in table(found.judgement, found.findings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,mine\nq0,1\n", "its header must be question_id"),
        ("question_id\nq0\n", "has no column beside `question_id`"),
        ("question_id,mine\nq0,much\n", "line 2, column mine: 'much' is not a number"),
        ("question_id,mine\nq0,1\nq0,2\n", "'q0' has two rows"),
        ("question_id,mine\nother,1\n", "has no number for any of these questions"),
        ("question_id,question_text\nq0,1\n", "has the name of one that is there already"),
    ],
)
def test_a_file_of_baselines_that_cannot_be_used_is_one_error(tmp_path: Path, text: str, message: str):
    shards, y = with_columns()
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ProbeError, match=message):
        study(shards, labels_of(shards, y), Design(bootstrap=50, representations=(QUERY,)), baselines=path)


def test_an_array_of_another_length_is_refused():
    shards, y = with_columns()
    with pytest.raises(ProbeError, match=r"'mine' is an array of shape \(3,\)"):
        study(shards, labels_of(shards, y), Design(bootstrap=50), baselines={"mine": np.zeros(3)})
