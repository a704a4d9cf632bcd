"""Studies of two models on the same questions: paired by question id, on the same draws of images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from probes_fake import QUERY, VISION, FakeShards, labels_of, planted

from halp_probe.bootstrap import Draws
from halp_probe.cli import main
from halp_probe.probes.compared import compare_studies, read_study
from halp_probe.probes.design import Design
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.outputs import write_out_of_fold, write_results
from halp_probe.probes.study import Study, study

DRAWS = Draws(count=200, seed=0)


def written(folder: Path, shards: FakeShards, y: np.ndarray, **design: object) -> tuple[Path, Study]:
    found = study(shards, labels_of(shards, y), Design(**{"bootstrap": 200, "fusion": (), **design}))
    folder.mkdir(parents=True)
    write_out_of_fold(folder / "oof.csv", found)
    write_results(folder / "results.csv", found.judgement, found.layers, found.noise)
    return folder, found


def other_order(shards: FakeShards, y: np.ndarray, keep: int) -> tuple[FakeShards, np.ndarray]:
    """The same questions backwards, the first `keep` of them."""
    rows = np.arange(len(y))[::-1][:keep]
    return FakeShards(
        tuple(shards.question_ids[row] for row in rows),
        {name: values[rows] for name, values in shards.arrays.items()},
        {name: [values[row] for row in rows] for name, values in shards.texts.items()},
        {name: values[rows] for name, values in shards.columns.items()},
    ), y[rows]


def test_a_study_compared_with_itself_in_another_order_differs_by_nothing(tmp_path: Path):
    shards, y = planted(450, auroc=0.8)
    shards.texts["fold"] = [str(row // 3 % 4) for row in range(450)]
    one, _ = written(tmp_path / "a", shards, y, fold_column="fold")
    other, _ = written(tmp_path / "b", *other_order(shards, y, 450), fold_column="fold")
    auroc, prevalence = compare_studies([read_study(one, "a"), read_study(other, "b")], DRAWS)
    assert (auroc.questions, auroc.images, auroc.measure, prevalence.measure) == (450, 150, "auroc", "prevalence")
    assert auroc.difference.value == pytest.approx(0, abs=1e-3) and abs(auroc.difference.high) < 5e-3
    assert (prevalence.difference.value, prevalence.p_value) == (0, 1)


def test_a_difference_is_that_of_the_two_studies_and_narrower_when_paired(tmp_path: Path):
    """Two models with the same labels, one with better states: the pairs share their images' luck."""
    shards, y = planted(600, auroc=0.72)
    better = {VISION: shards.arrays[VISION], QUERY: shards.arrays[QUERY].copy()}
    better[QUERY][:, 0] += 0.8 * y
    one, found_a = written(tmp_path / "a", shards, y)
    other, found_b = written(tmp_path / "b", FakeShards(shards.question_ids, better, shards.texts, shards.columns), y)
    auroc = compare_studies([read_study(one, "a"), read_study(other, "b")], Draws(count=200, seed=0))[0]
    a, b = (each.judgement.headline.auroc for each in (found_a, found_b))
    assert (auroc.value_a, auroc.value_b) == pytest.approx((a.value, b.value), abs=1e-12)
    assert auroc.difference.value == pytest.approx(b.value - a.value, abs=1e-12)
    assert auroc.difference.low > 0 and auroc.p_value < 0.01
    apart = np.hypot(a.high - a.low, b.high - b.low)
    assert auroc.difference.high - auroc.difference.low < apart


def test_only_common_questions_count(tmp_path: Path):
    shards, y = planted(450, auroc=0.8)
    one, _ = written(tmp_path / "a", shards, y)
    other, _ = written(tmp_path / "b", *other_order(shards, y, 300))
    assert compare_studies([read_study(one, "a"), read_study(other, "b")], DRAWS)[0].questions == 300


def test_the_command_prints_and_writes_each_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shards, y = planted(300, auroc=0.8)
    one, _ = written(tmp_path / "a", shards, y)
    other, _ = written(tmp_path / "b" / "report", shards, np.where(np.arange(300) % 7 == 0, 1 - y, y))
    call = ["study", "--output-dir", str(tmp_path / "out"), "--bootstrap", "100", "--compare", str(one)]
    assert main([*call, str(other.parent)]) == 0
    assert "share of wrong answers" in capsys.readouterr().out
    with (tmp_path / "out" / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["measure"] for line in lines] == ["auroc", "prevalence"]
    assert float(lines[1]["b_minus_a"]) == pytest.approx(float(lines[1]["value_b"]) - float(lines[1]["value_a"]))
    assert main(call) == 2 and "two or more studies" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    shards, y = planted(300, auroc=0.8)
    one = read_study(written(tmp_path / "a", shards, y)[0], "a")
    moved = FakeShards(
        shards.question_ids,
        shards.arrays,
        {**shards.texts, "image_sha256": [f"{row // 3 + 1000:0>64}" for row in range(300)]},
        shards.columns,
    )
    with pytest.raises(ProbeError, match="300 of 300 questions show another image in b"):
        compare_studies([one, read_study(written(tmp_path / "b", moved, y)[0], "b")], DRAWS)
    renamed = FakeShards(tuple(f"x{k}" for k in range(300)), shards.arrays, shards.texts, shards.columns)
    with pytest.raises(ProbeError, match="have no question in common"):
        compare_studies([one, read_study(written(tmp_path / "c", renamed, y)[0], "c")], DRAWS)
    with pytest.raises(ProbeError, match=r"holds no oof\.csv"):
        read_study(tmp_path, "nothing")
