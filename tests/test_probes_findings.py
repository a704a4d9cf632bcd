"""Each thing that a reader must know is told when it is so, and not when it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import QUERY, labels_of, planted

from halp_probe.bootstrap import Estimate
from halp_probe.probes.findings import findings
from halp_probe.probes.fitting.splits import folds_of
from halp_probe.probes.judging.groups import Group, GroupResults
from halp_probe.probes.study import Design, study
from halp_probe.probes.transfer import Cell, Transfer


@pytest.fixture(scope="module")
def clean():
    shards, y = planted(900, auroc=0.85)
    return study(shards, labels_of(shards, y), Design(bootstrap=100))


def told(found, **changes) -> list[str]:
    parts = {"judgement": found.judgement, "sweep": found.sweep, "rows": found.rows, "folds": found.folds}
    return [f"{each.level}: {each.text}" for each in findings(**{**parts, "groups": found.groups, **changes})]


def any_with(texts: list[str], *parts: str) -> bool:
    return any(all(part in text for part in parts) for text in texts)


def with_auroc(judgement, name: str, value: float, low: float, high: float):
    results = tuple(
        replace(result, auroc=Estimate(value=value, low=low, high=high)) if result.name == name else result
        for result in judgement.results
    )
    return replace(judgement, results=results)


def test_nothing_serious_is_told_of_a_clean_study(clean):
    assert not any_with(told(clean), "serious")
    assert not any_with(told(clean), "caution")


def test_images_on_both_sides(clean):
    rng = np.random.default_rng(0)
    by_row = folds_of(rng.integers(0, 5, 900), clean.rows.y)
    assert any_with(told(clean, folds=by_row), "serious", "of 300 images are on both sides")
    assert any_with(
        told(clean, rows=replace(clean.rows, images_identified_by="image_id")), "caution", "told apart by image_id"
    )


def test_few_rows_of_a_class_in_a_fold(clean):
    y = clean.rows.y.copy()
    fold = clean.folds.fold
    y[np.flatnonzero((fold == 3) & (y == 1))[12:]] = 0
    assert any_with(told(clean, rows=replace(clean.rows, y=y)), "caution", "Only 12 positives in fold 3")
    y[fold == 3] = 1
    assert any_with(told(clean, rows=replace(clean.rows, y=y)), "Only 0 negatives in fold 3")


def test_many_left_out(clean):
    rows = replace(clean.rows, left_out=("x",) * 200)
    assert any_with(told(clean, rows=rows), "caution", "200 of 1100 samples are left out")
    assert not any_with(told(clean, rows=replace(clean.rows, left_out=("x",) * 50)), "are left out")


def test_a_control_away_from_chance(clean):
    judgement = with_auroc(clean.judgement, "shuffled_labels", 0.58, 0.53, 0.63)
    assert any_with(told(clean, judgement=judgement), "caution", "shuffled labels gives 0.580 (0.530 to 0.630)")
    judgement = with_auroc(clean.judgement, "random_label_per_image_split_by_row", 0.9, 0.85, 0.95)
    assert any_with(told(clean, judgement=judgement), "note", "would reach 0.900")


def test_less_within_groups(clean):
    group = Group(value="a", n=450, n_positive=100, n_images=100, auroc=Estimate(value=0.7, low=0.6, high=0.8))
    texts = told(clean, groups={"source": GroupResults((group,), Estimate(value=0.7, low=0.65, high=0.75))})
    assert any_with(texts, "caution", "Within the groups of `source`", ".70")
    assert not any_with(
        told(clean, groups={"source": GroupResults((group,), Estimate(value=0.84, low=0.8, high=0.9))}),
        "Within the groups",
    )


def test_no_choice_stands_out_and_a_choice_at_the_edge(clean):
    selected = clean.sweep.selected
    other = next(name for name in clean.sweep.fits if name != QUERY)
    torn = replace(selected, representation=(QUERY, other, other, QUERY, ""))
    assert any_with(told(clean, sweep=replace(clean.sweep, selected=torn)), "caution", "2 different ones in 4 folds")
    fit = clean.sweep.fits[QUERY]
    edge = replace(clean.sweep, fits={**clean.sweep.fits, QUERY: replace(fit, candidate=np.zeros(5, dtype=int))})
    results = tuple(replace(r, chosen=(1e-4,) * 5) if r.name == QUERY else r for r in clean.judgement.results)
    texts = told(clean, sweep=edge, judgement=replace(clean.judgement, results=results))
    assert any_with(texts, "note", "at the end of what was tried", "0.0001")


def test_a_choice_on_the_rows_that_judge_it(clean):
    swept = replace(clean.sweep, selected=None)
    judgement = replace(clean.judgement, results=clean.judgement.results[1:])
    texts = told(clean, sweep=swept, judgement=judgement)
    assert any_with(texts, "serious", "query token, layer 3 is the best of 2, picked on the very rows that judge it")


def test_a_group_ranked_the_wrong_way_round(clean):
    def cell(value: float) -> Cell:
        return Cell(
            auroc=Estimate(value=value, low=value - 0.05, high=value + 0.05),
            n_train=100,
            n_test=100,
            n_test_positive=30,
        )

    moved = Transfer(
        column="kind", values=("a", "b"), cells=((cell(0.4), cell(0.3)), (cell(0.48), cell(0.8))), chosen=()
    )
    texts = told(clean, transfers=[moved])
    assert any_with(texts, "caution", "`kind`", "(from `a` to `b`)")
    harmless = replace(moved, cells=((cell(0.3), cell(0.6)), (cell(0.6), cell(0.3))))
    assert not any_with(told(clean, transfers=[harmless]), "wrong way round")
    many = replace(clean.rows, groups={"source": tuple(str(row % 13) for row in range(900))})
    assert any_with(told(clean, rows=many), "note", "`source` has 13 groups")
