"""labels.csv against a person's labels: scikit-learn's kappa, intervals that cover, and errors that name the remedy."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, cohen_kappa_score
from test_labels_table import fake_shards

from halp_probe.bootstrap import Draws
from halp_probe.cli import main
from halp_probe.labels.agreement import agreement
from halp_probe.labels.comparison import compare, reference, summary
from halp_probe.labels.table import LabelRow, read_labels, write_labels

LABELS = st.sampled_from([0, 1, None])


def names(n: int) -> list[str]:
    return [f"q{k}" for k in range(n)]


@given(st.lists(st.tuples(LABELS, LABELS), max_size=40))
def test_values_are_scikit_learns_on_what_both_sides_know(pairs: list[tuple[int | None, int | None]]) -> None:
    ours = agreement([a for a, _ in pairs], [b for _, b in pairs], names(len(pairs)), Draws(count=20, seed=0))
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert ours.compared == len(known) and sum(map(sum, ours.confusion)) == len(pairs)
    order = (0, 1, None)
    assert ours.confusion == tuple(tuple(pairs.count((a, b)) for b in order) for a in order)
    if not known:
        assert np.isnan(ours.kappa.value) and np.isnan(ours.agreement.value) and "no question" in ours.problem
        return
    first, second = zip(*known, strict=True)
    assert ours.agreement.value == pytest.approx(accuracy_score(first, second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = cohen_kappa_score(first, second)
    assert ours.kappa.value == pytest.approx(theirs, nan_ok=True)
    assert bool(ours.problem) == np.isnan(theirs) == (len(set(first) | set(second)) == 1)


def test_a_case_computed_by_hand() -> None:
    """20 right/right, 5 right/wrong, 10 wrong/right, 15 wrong/wrong: .7 agree, .5 by chance, kappa .4."""
    first = [0] * 25 + [1] * 25
    second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    ours = agreement(first, second, names(50))
    assert ours.agreement.value == pytest.approx(0.7) and ours.kappa.value == pytest.approx(0.4)
    assert ours.confusion == ((20, 5, 0), (10, 15, 0), (0, 0, 0))


def test_one_class_on_one_side_is_no_agreement_beyond_chance() -> None:
    ours = agreement([0, 0, 0, 0], [0, 0, 0, 1], names(4))
    assert ours.agreement.value == 0.75 and ours.kappa.value == 0 and ours.problem == ""


def test_the_interval_is_the_bootstrap_over_units() -> None:
    """Against a plain bootstrap that draws the images one by one, asks scikit-learn, and takes Student's quantile."""
    rng = np.random.default_rng(1)
    image = np.sort(rng.integers(40, size=160))  # about four questions an image
    second = rng.integers(0, 2, 160)
    misread = rng.random(40) < 0.25  # whole images, and a few single questions
    first = np.where(misread[image] ^ (rng.random(160) < 0.05), 1 - second, second)
    ours = agreement(first.tolist(), second.tolist(), [f"i{k}" for k in image], Draws(count=4000, seed=0))
    plain = []
    for _ in range(1500):
        drawn = rng.choice(np.unique(image), len(set(image)))
        rows = np.concatenate([np.flatnonzero(image == each) for each in drawn])
        plain.append(cohen_kappa_score(first[rows], second[rows]))
    rarer = min(len(np.unique(image[(first == label) | (second == label)])) for label in (0, 1))
    middle, deviation = np.arctanh(ours.kappa.value), np.std(plain) / (1 - ours.kappa.value**2)
    reach = student.ppf(0.975, rarer - 1) * deviation
    wanted = np.tanh([middle - reach, middle + reach])  # twice artanh(kappa) is the logit of (1 + kappa) / 2
    assert (ours.kappa.low, ours.kappa.high) == pytest.approx(tuple(wanted), abs=0.02)
    by_row = agreement(first.tolist(), second.tolist(), names(160), Draws(count=4000, seed=0))
    assert by_row.kappa.value == ours.kappa.value and ours.units == len(set(image)) and by_row.units == 160
    assert ours.kappa.high - ours.kappa.low > 1.3 * (by_row.kappa.high - by_row.kappa.low), (
        "rows of an image go together"
    )


@pytest.mark.parametrize(
    ("images", "questions", "share_wrong", "kappa"),
    [
        (150, 1, 0.5, 0.7),
        (30, 1, 0.5, 0.7),
        (60, 1, 0.3, 0.8),
        (20, 4, 0.3, 0.85),
        (40, 4, 0.3, 0.6),
        (60, 1, 0.1, 0.6),
    ],
)
def test_the_interval_covers_the_true_kappa(images: int, questions: int, share_wrong: float, kappa: float) -> None:
    """Two readers who err alike, on an image's questions together in half of the cases. Percentiles: 85 to 94 %."""
    rng = np.random.default_rng(0)
    by_chance = share_wrong**2 + (1 - share_wrong) ** 2
    apart = (1 - by_chance) * (1 - kappa) / 2
    cells = [1 - share_wrong - apart, apart, apart, share_wrong - apart]
    image = np.repeat(np.arange(images), questions)
    inside = {"kappa": 0, "agreement": 0}
    for seed in range(250):
        alike = rng.random(len(image)) < (0.5 if questions > 1 else 0)
        cell = np.where(alike, rng.choice(4, images, p=cells)[image], rng.choice(4, len(image), p=cells))
        first, second = divmod(cell, 2)
        ours = agreement(first.tolist(), second.tolist(), [f"i{k}" for k in image], Draws(count=300, seed=seed))
        for name, truth in (("kappa", kappa), ("agreement", 1 - 2 * apart)):
            found = getattr(ours, name)
            inside[name] += found.low <= truth <= found.high
    # 95 % of 250 are 237.5 ± 3.4; full agreement is rare and has a wide interval of its own
    assert inside["kappa"] >= 228 and inside["agreement"] >= 228, inside


@pytest.mark.parametrize("share_wrong", [0.5, 0.1])
def test_the_interval_at_full_agreement_leaves_out_what_would_have_shown(share_wrong: float) -> None:
    """Had kappa been the lower end, so many questions would all agree in 2.5 % of cases."""
    wrong = round(100 * share_wrong)
    labels = [1] * wrong + [0] * (100 - wrong)
    kappa = agreement(labels, labels, names(100)).kappa
    by_chance = share_wrong**2 + (1 - share_wrong) ** 2
    agreeing = by_chance + kappa.low * (1 - by_chance)
    assert (kappa.value, kappa.high) == (1, 1) and agreeing**100 == pytest.approx(0.025)


# files


def write(path: Path, labels: dict[str, int | None], rule: dict[str, str] | None = None) -> Path:
    rows = [
        LabelRow(
            question_id=q,
            label=label,
            rule=(rule or {}).get(q, "exact"),
            answer="",
            truth="",
            reason="because",
            question=f"What of {q}?",
            model_answer=f"answer {q}",
            ground_truth=f"truth {q}",
        )
        for q, label in labels.items()
    ]
    write_labels(path, rows)
    return path


def reviewed(tmp_path: Path, text: str, name: str = "reviewed.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_matched_by_id_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"a": 0, "b": 1, "c": 1, "d": None, "e": 0, "f": 1}
    path = write(tmp_path / "labels.csv", labels, {"a": "yes_no", "b": "yes_no"})
    table = reviewed(tmp_path, "label,question_id\n1,f\n0,c\n0,d\n,e\n1,b\n0,a\n1,stranger\n")
    assert main(["label", "--labels", str(path), "--compare", str(table)]) == 0
    with (tmp_path / "disagreements.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "question_id": "c",
                "label": "1",
                "reviewed_label": "0",
                "rule": "exact",
                "reason": "because",
                "question": "What of c?",
                "model_answer": "answer c",
                "ground_truth": "truth c",
            }
        ]
    printed = capsys.readouterr().out
    assert "4 answers compared with column 'label' of reviewed.csv: 3 agree, 75.0 [" in printed
    assert "Cohen's kappa 0.500 [" in printed and "a bootstrap over 4 questions" in printed
    assert '1 of 7 ids in reviewed.csv are not in labels.csv (first: "stranger")' in printed
    assert "1 disagreements -> " in printed
    found = compare(path, reference(table, "label"))
    assert {rule: (own.compared, own.agreeing) for rule, own in found.rules.items()} == {
        "exact": (2, 1),
        "yes_no": (2, 2),
    }
    assert found.whole.confusion == ((1, 0, 1), (1, 2, 0), (1, 0, 0))
    assert read_labels(path) == labels, "labels.csv is only read"


def test_questions_nobody_reviewed_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", {"a": 0, "b": 1, "c": 1})
    found = compare(path, reference(reviewed(tmp_path, "question_id,label\nb,1\n"), "label"))
    assert found.notes == ('2 of 3 questions are not in reviewed.csv (first: "a")',)
    shown = summary(found, reference(tmp_path / "reviewed.csv", "label"))
    assert "kappa nan" in shown and "both sides call all of them hallucinated" in shown


def test_full_agreement_is_told_to_leave_doubt(tmp_path: Path) -> None:
    labels = {f"q{k}": k % 2 for k in range(60)}
    path = write(tmp_path / "labels.csv", labels)
    table = write(tmp_path / "reviewed.csv", labels)
    shown = summary(compare(path, reference(table, "label")), reference(table, "label"))
    assert "60 agree, 100.0 [94.0, 100.0] %" in shown and "kappa 1.000 [0.881, 1.000]" in shown  # .940 ** 60 = .025
    assert "every bootstrap draw gives 1; interval of 60 questions without a miss" in shown


def test_an_interval_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    found = agreement([0, 1, 1], [0, 1, 0], ["i", "i", "i"])
    assert np.isnan([found.agreement.low, found.kappa.low]).all() and np.isfinite(found.kappa.value)
    assert "only one image" in found.agreement.note and "only 1 image" in found.kappa.note
    path = write(tmp_path / "labels.csv", {"a": 1, "b": 1})
    table = write(tmp_path / "reviewed.csv", {"a": 1, "b": 0})
    shown = summary(compare(path, reference(table, "label")), reference(table, "label"))
    assert "kappa 0.000\n" in shown and "of the intervals: no interval: " in shown


def test_a_column_of_the_labels_table_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = reviewed(tmp_path, "question_id,label,human\na,0,0\nb,1,\nc,1,1\n", "labels.csv")
    call = ["label", "--labels", str(path), "--compare", str(path)]
    assert main([*call, "--column", "human"]) == 0
    assert "2 answers compared with column 'human'" in capsys.readouterr().out
    assert main(call) == 2
    assert "compared with itself" in capsys.readouterr().err


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"q{k}" for k in range(12)]
    fake = fake_shards(ids, ["Is it?"] * 12, ["Yes", "No"] * 6, ["yes"] * 12)
    fake.texts["image_id"] = [f"i{k // 4}" for k in range(12)]
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: fake)
    monkeypatch.setattr("halp_probe.shards.reader.open_shards", lambda path: fake)


def test_labels_are_made_and_compared_in_one_go(
    shards: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "reviewed.csv", {f"q{k}": k % 2 for k in range(11)})
    out = tmp_path / "out" / "labels.csv"
    assert main(["label", "--shards", "s", "--out", str(out), "--compare", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "12 answers: 6 right, 6 hallucinated" in printed and "11 answers compared" in printed
    assert "a bootstrap over 3 images" in printed
    assert (out.parent / "disagreements.csv").exists()
    assert main(["label", "--labels", str(out), "--shards", "s", "--compare", str(table)]) == 0
    assert "a bootstrap over 3 images" in capsys.readouterr().out


def test_labels_of_other_shards_have_no_images(
    shards: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "labels.csv", {"other": 1})
    table = write(tmp_path / "reviewed.csv", {"other": 1})
    assert main(["label", "--labels", str(path), "--shards", "s", "--compare", str(table)]) == 2
    assert "'other' is not in the shards" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--compare reviewed.csv", "--compare needs labels to compare with"),
        ("--compare reviewed.csv --shards s", "--shards DIR and --out labels.csv are both needed"),
        ("--labels labels.csv", "--labels goes with --compare, --report or --check: pass one"),
        ("", "--shards DIR and --out labels.csv are both needed"),
        ("--shards s", "--shards DIR and --out labels.csv are both needed"),
        ("--labels labels.csv --compare reviewed.csv --out o.csv", "--out does not go with --labels"),
        ("--labels labels.csv --compare reviewed.csv --rule exact", "--rule does not go with --labels"),
        ("--labels labels.csv --compare reviewed.csv --judge all", "--judge does not go with --labels"),
        ("--labels labels.csv --compare reviewed.csv --judge-model m", "--judge-model needs --judge"),
        (
            "--shards s --out o.csv --table t.csv --column c --compare reviewed.csv",
            "--compare does not go with --table",
        ),
        ("--shards s --out reviewed.csv --compare reviewed.csv", "--out would overwrite reviewed.csv"),
        ("--labels labels.csv --compare disagreements.csv", "a table that you passed; rename"),
        ("--labels labels.csv --compare reviewed.csv --column is_correct", "here 1 means hallucinated"),
        ("--labels labels.csv --compare reviewed.csv --column none", "no column 'none'"),
        ("--labels labels.csv --compare empty.csv", "empty.csv has no label in column 'label'"),
        ("--labels labels.csv --compare others.csv", "labels for other ids: none of its 1 question ids"),
        ("--labels nothing.csv --compare reviewed.csv", "nothing.csv does not exist"),
        ("--shards s --out o.csv --compare nothing.csv", "nothing.csv does not exist"),
    ],
)
def test_what_does_not_fit_is_one_clear_line_and_writes_nothing(
    shards: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("labels.csv"), {"q1": 0, "q2": 1})
    reviewed(tmp_path, "question_id,label,is_correct\nq1,0,1\n")
    reviewed(tmp_path, "question_id,label\nq1,\n", "empty.csv")
    reviewed(tmp_path, "question_id,label\nq9,1\n", "others.csv")
    reviewed(tmp_path, "question_id,label\nq1,1\n", "disagreements.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["label", *flags.split()]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
