"""Training on folds that a column names, with what is known of benchmarks told beside the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import FakeShards, labels_of, planted

from halp_probe.catalog.folds import split_hash
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fitting.splits import fixed_folds, images_on_both_sides
from halp_probe.probes.study import Design, Study, study


def with_columns(shards: FakeShards, **columns: list[str]) -> FakeShards:
    return replace(shards, texts={**shards.texts, **columns})


def by_image(n: int, count: int = 5) -> list[str]:
    """A fold for each image of three rows."""
    return [str((row // 3) % count) for row in range(n)]


@pytest.fixture(scope="module")
def fixed() -> Study:
    shards, y = planted(600, auroc=0.85)
    shards = with_columns(shards, fold=by_image(600), dataset=["pope"] * 600)
    return study(shards, labels_of(shards, y), Design(bootstrap=50, fold_column="fold"))


def test_each_row_is_tested_in_its_own_fold(fixed):
    assert fixed.folds.fold.tolist() == [int(each) for each in by_image(600)]
    assert images_on_both_sides(fixed.folds, fixed.rows.image_codes) == 0


def test_the_split_is_that_of_all_rows_of_the_shards(fixed):
    ids = [f"q{row}" for row in range(600)]
    assert fixed.rows.fixed.split == split_hash(ids, by_image(600)) and fixed.rows.fixed.questions == 600


def test_the_split_does_not_depend_on_what_is_labelled():
    shards, y = planted(300, auroc=0.9)
    shards = with_columns(shards, fold=by_image(300))
    labels = labels_of(shards, y)
    fewer = {key: None if place % 4 == 0 else label for place, (key, label) in enumerate(labels.items())}
    splits = {
        study(shards, some, Design(bootstrap=50, fold_column="fold")).rows.fixed.split for some in (labels, fewer)
    }
    assert len(splits) == 1


def test_the_report_and_the_cards_have_it(fixed, tmp_path):
    from halp_probe.json_files import read_json
    from halp_probe.report.writing import write_report

    write_report(fixed, tmp_path)
    made = read_json(tmp_path / "report.json")["made"]
    assert made["fixed_split"] == {"column": "fold", "sha256": fixed.rows.fixed.split, "questions": 600}
    page = (tmp_path / "report.html").read_text()
    assert fixed.rows.fixed.split in page and "about 9 % of its" in page
    card = read_json(tmp_path / "probes/selected_probe.json")
    assert card["training"]["split"] == fixed.rows.fixed.split and card["training"]["datasets"] == ["pope"]
    assert card["training"]["fold_column"] == "fold"


def test_an_image_in_two_folds_is_refused():
    shards, y = planted(300, auroc=0.9)
    folds = by_image(300)
    folds[1] = "4" if folds[0] != "4" else "3"  # the second row of the first image
    with pytest.raises(ProbeError, match="1 images are in several folds of the column 'fold'"):
        study(with_columns(shards, fold=folds), labels_of(shards, y), Design(fold_column="fold"))


def test_equal_content_under_two_names_is_one_image():
    shards, y = planted(300, auroc=0.9)
    hashes = list(shards.texts["image_sha256"])
    hashes[3:6] = hashes[0:3]  # image 1 is a copy of image 0, in another fold
    shards = with_columns(shards, fold=by_image(300), image_sha256=hashes)
    with pytest.raises(ProbeError, match="equal files count as one image"):
        study(shards, labels_of(shards, y), Design(fold_column="fold"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0", "1"] * 30, "has 2 folds here"),
        (["0", "1", ""] * 20, "20 rows have no fold"),
        ([str(n) for n in range(60)], "has 60 values, more than 20 folds"),
    ],
)
def test_columns_that_name_no_folds(names, said):
    y = np.array([0, 1] * 30)
    with pytest.raises(ProbeError, match=said):
        fixed_folds(names, y, np.arange(60), "fold")


def test_folds_are_numbered_in_the_order_of_their_names():
    folds = fixed_folds(["10", "2", "1"] * 4, np.array([0, 1] * 6), np.arange(12), "fold")
    assert folds.fold.tolist() == [2, 1, 0] * 4


def test_no_such_column_names_those_there_are():
    shards, y = planted(300, auroc=0.9)
    with pytest.raises(ProbeError, match="no column 'fold'; their further columns: source"):
        study(with_columns(shards, source=["a"] * 300), labels_of(shards, y), Design(fold_column="fold"))


def test_a_preset_has_its_own_split():
    shards, y = planted(300, auroc=0.9)
    with pytest.raises(ProbeError, match="`preset` halp"):
        study(with_columns(shards, fold=by_image(300)), labels_of(shards, y), Design(fold_column="fold", preset="halp"))


def told(shards: FakeShards, y: np.ndarray, *groups: str) -> list[str]:
    found = study(shards, labels_of(shards, y), Design(bootstrap=50, group_columns=groups))
    return [f"{each.level}: {each.text}" for each in found.findings]


def amber(n: int = 400) -> tuple[FakeShards, np.ndarray]:
    """Rows with AMBER's columns: a kind that has both truths but for existence, a type that gives them away."""
    shards, y = planted(n, auroc=0.85)
    kinds = [("existence", "attribute", "relation", "attribute")[row % 4] for row in range(n)]
    truths = ["no" if kind == "existence" or row % 8 < 4 else "yes" for row, kind in enumerate(kinds)]
    types = [f"{kind}-{truth}" for kind, truth in zip(kinds, truths, strict=True)]
    columns = {"dataset": ["amber"] * n, "kind": kinds, "published_type": types, "type": types}
    return with_columns(shards, ground_truth_answer=truths, **columns), y


@pytest.mark.parametrize("column", ["published_type", "type"])
def test_ambers_leak_is_serious_where_its_type_is_a_group(column):
    shards, y = amber()
    found = told(shards, y, column)
    assert any(each.startswith(f"serious: `{column}` gives the ground truth of AMBER away") for each in found)


def test_ambers_leak_is_named_whatever_the_groups():
    shards, y = amber()
    found = told(shards, y, "kind")
    assert any(each.startswith("caution: AMBER: its `type` gives the ground truth away") for each in found)
    assert not any(each.startswith("serious: `kind`") for each in found)


def test_a_group_with_one_truth_is_told_of_any_table():
    shards, y = amber()
    shards = with_columns(shards, dataset=["of my own"] * 400)
    found = told(shards, y, "kind", "type")
    assert any(
        "`kind` tells the ground truth of 25% of the rows" in each and "`existence` (no)" in each for each in found
    )
    assert any("`type` tells the ground truth of 100% of the rows" in each for each in found)
    assert not any("AMBER" in each for each in found)


def test_groups_with_both_truths_are_not_accused():
    shards, y = amber()
    mixed = ["a" if row % 3 else "b" for row in range(400)]
    assert not any("tells the ground truth" in each for each in told(with_columns(shards, mixed=mixed), y, "mixed"))
