"""The report on labels counts what is there; the sheet's error rates are those of the whole table."""

from __future__ import annotations

import csv
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from test_labels_table import FakeShards

from halp_probe.cli import main
from halp_probe.labels.by_absence import rests_on_absence
from halp_probe.labels.check_sheet import COLUMNS, draw, write_sheet
from halp_probe.labels.checking import error_rates
from halp_probe.labels.report import report, strata
from halp_probe.labels.report_text import lines, page
from halp_probe.labels.rules import judge
from halp_probe.labels.table import LabelError, LabelRow, read_labels, write_labels


def row(n: int, label: int | None, rule: str = "contains", reason: str = "r") -> LabelRow:
    texts = {"question": f"What is {n}?", "model_answer": f"answer {n}", "ground_truth": f"truth {n}"}
    return LabelRow(question_id=f"q{n}", label=label, rule=rule, answer="a", truth="t", reason=reason, **texts)


ROWS = [
    *(row(n, 0, "yes_no") for n in range(6)),
    *(row(n, 1, "yes_no", "says something else") for n in range(6, 8)),
    *(row(n, 0) for n in range(8, 11)),
    *(row(n, 1, reason="does not say it") for n in range(11, 15)),
    row(15, 1, reason="denies it"),
    *(row(n, None, reason="refusal") for n in range(16, 20)),
]

LABELLED = st.lists(
    st.tuples(st.sampled_from([0, 1, None]), st.sampled_from(["yes_no", "contains", "judge", ""])),
    min_size=1,
    max_size=300,
)


# the report


def test_numbers_by_hand() -> None:
    whole = report(ROWS).whole
    assert (whole.right, whole.wrong, whole.unknown, whole.by_absence, whole.total) == (9, 7, 4, 4, 20)
    assert whole.decided == 7 / 16
    assert (whole.if_unknown_right, whole.if_unknown_wrong) == (7 / 20, 11 / 20)
    assert whole.if_absence_right == 3 / 16
    contains = report(ROWS).rules["contains"]
    assert (contains.right, contains.wrong, contains.unknown, contains.by_absence) == (3, 5, 4, 4)


def test_columns_and_reasons() -> None:
    sources = {f"q{n}": "pope" if n < 8 else "vqa" for n in range(19)}  # q19 has none
    found = report(ROWS, {"source": sources})
    assert {value: tally.total for value, tally in found.columns["source"].items()} == {"": 1, "pope": 8, "vqa": 11}
    assert found.unknown_reasons == {"refusal": 4}
    told = page(found, "labels.csv", "labels.check.csv")
    assert "| (none) | 1 |" in told and "## By source" in told


@given(LABELLED)
def test_rules_and_samples_add_up(labelled: list[tuple[int | None, str]]) -> None:
    rows = [row(n, label, rule) for n, (label, rule) in enumerate(labelled)]
    found = report(rows)
    assert sum(tally.total for tally in found.rules.values()) == found.whole.total == len(rows)
    for (rule, label), samples in found.samples.items():
        own = [each for each in rows if (each.rule, each.label) == (rule, label)]
        assert len(samples) == min(3, len(own)) and set(samples) <= set(own)
    assert found == report(rows), "drawn with a fixed seed"
    assert page(found, "l.csv", "l.check.csv").startswith("# What l.csv rests on")


def test_the_page_shows_texts_as_they_are() -> None:
    odd = replace(row(0, 1), model_answer="a | b\n<b>*red*</b> [x](y) " + "long " * 200)
    told = page(report([odd]), "labels.csv", "labels.check.csv")
    line = next(line for line in told.split("\n") if "answer: " in line)
    assert r"a \| b \<b\>\*red\*\</b\> \[x\](y)" in line and len(line) < 400
    assert "because: r" in told and "truth 0" in told and "What is 0?" in told


def test_nothing_decided_is_undefined() -> None:
    assert "undefined" in lines(report([row(0, None)]))


@pytest.mark.parametrize(
    ("rule", "label", "reason", "absent"),
    [
        ("contains", 1, "does not say it", True),
        ("contains", 1, "names another colour: blue", True),
        ("contains", 1, "reads another text", True),
        ("exact", 1, "says something else", True),
        ("vqa", 1, "says something else", True),
        ("yes_no", 1, "says something else", False),
        ("contains", 1, "denies it", False),
        ("contains", None, "does not say it", False),
        ("exact", 0, "says the ground truth", False),
    ],
)
def test_what_rests_on_absence(rule: str, label: int | None, reason: str, absent: bool) -> None:
    assert rests_on_absence(rule, label, reason) == absent


def test_the_rule_exact_rests_on_absence_where_texts_differ() -> None:
    """With the verdicts as the rules give them."""
    for rule, absent in {"exact": True, "vqa": True}.items():
        verdict = judge("a couch", "sofa", rule=rule)
        assert rests_on_absence(verdict.rule, verdict.label, verdict.reason) == absent


# the sheet


@given(LABELLED, st.integers(1, 120))
def test_a_sample_has_some_of_each_and_stands_for_all(labelled: list[tuple[int | None, str]], size: int) -> None:
    rows = [row(n, label, rule) for n, (label, rule) in enumerate(labelled)]
    drawn, groups = draw(rows, size), strata(rows)
    ids = [each.row.question_id for each in drawn]
    assert len(set(ids)) == len(ids)
    least = sum(min(2, len(group)) for group in groups.values())
    assert len(ids) == max(min(size, len(rows)), least)
    for place, group in enumerate(groups.values(), start=1):
        own = [each for each in drawn if each.stratum == place]
        assert len(own) >= min(2, len(group)) and {each.row for each in own} <= set(group)
        assert sum(each.weight for each in own) == pytest.approx(len(group))
    assert drawn == draw(rows, size)


def test_large_strata_are_drawn_in_proportion() -> None:
    rows = [row(n, 0) for n in range(6000)] + [row(n, 1) for n in range(6000, 10_000)]
    counts = [sum(each.row.label == label for each in draw(rows)) for label in (0, 1)]
    assert counts == [60, 40]


def fill(path: Path, truth: dict[str, object]) -> None:
    with path.open(newline="") as file:
        records = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**record, "your_label": truth.get(record["question_id"], "")} for record in records)


def population(chance: random.Random, count: int = 2000) -> tuple[list[LabelRow], dict[str, object]]:
    """Rules that err to different degrees; the labels and the truth."""
    rows, truth = [], {}
    for n in range(count):
        rule, error = chance.choice([("yes_no", 0.02), ("yes_no", 0.02), ("contains", 0.3), ("number", 0.1)])
        label = chance.choice([0, 0, 1, None]) if rule == "contains" else chance.choice([0, 1])
        rows.append(row(n, label, rule))
        truth[f"q{n}"] = int(chance.random() < 0.7) if label is None else label ^ (chance.random() < error)
    return rows, truth


def test_error_rates_are_those_of_the_whole_table(tmp_path: Path) -> None:
    """On average over many sheets; and the intervals hold them as often as they say."""
    rows, truth = population(random.Random(1))
    decided = [each for each in rows if each.label is not None]
    wrong = np.mean([truth[each.question_id] != each.label for each in decided])
    called = [each for each in rows if each.label == 1]
    right_of_wrong = np.mean([truth[each.question_id] == 0 for each in called])
    found, held = [], []
    for seed in range(150):
        sheet = tmp_path / f"{seed}.csv"
        with sheet.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for each in draw(rows, seed=seed):
                own = truth[each.row.question_id]
                writer.writerow((each.row.question_id, own, "", "", "", each.weight, each.stratum))
        rates = error_rates(rows, sheet)
        found.append((rates.error.value, rates.right_of_wrong.value, rates.hallucinated.value))
        held.append(rates.error.low <= wrong <= rates.error.high)
    means = np.mean(found, axis=0)
    assert means == pytest.approx([wrong, right_of_wrong, np.mean(list(truth.values()))], abs=0.015)
    assert np.mean(held) >= 0.9


def test_a_sheet_of_everything_gives_the_table_s_own_numbers(tmp_path: Path) -> None:
    rows, truth = population(random.Random(2), 90)
    sheet = tmp_path / "c.csv"
    write_sheet(sheet, rows)
    fill(sheet, truth)
    rates = error_rates(rows, sheet)
    decided = [each for each in rows if each.label is not None]
    assert rates.checked == 90
    assert rates.error.value == pytest.approx(np.mean([truth[each.question_id] != each.label for each in decided]))
    kappa = cohen_kappa_score([each.label for each in decided], [truth[each.question_id] for each in decided])
    assert rates.kappa == pytest.approx(kappa)
    unknown = [truth[each.question_id] for each in rows if each.label is None]
    assert rates.hallucinated_of_unknown.value == pytest.approx(np.mean(unknown))
    assert rates.error.low < rates.error.value < rates.error.high


def test_a_half_filled_sheet_is_weighted_by_what_was_filled_in(tmp_path: Path) -> None:
    """Half of one stratum filled in stands for all of it."""
    rows = [row(n, 0) for n in range(10)] + [row(n, 1) for n in range(10, 20)]
    sheet = tmp_path / "c.csv"
    write_sheet(sheet, rows)
    fill(sheet, {**{f"q{n}": 0 for n in range(2)}, **{f"q{n}": 0 for n in range(10, 20)}})
    rates = error_rates(rows, sheet)
    assert rates.error.value == pytest.approx(0.5) and rates.checked == 12 and rates.note == ""
    fill(sheet, {f"q{n}": 0 for n in range(10, 20)})
    only = error_rates(rows, sheet)
    assert only.note == "1 of 2 strata have no checked row and are left out" and math.isnan(only.wrong_of_right.value)


# the command


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    write_labels(tmp_path / "labels.csv", ROWS)
    return tmp_path / "labels.csv"


def test_report_fill_in_check(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--labels", str(labels), "--report"]) == 0
    told = capsys.readouterr().out
    assert "43.8 %: of the answers with a label" in told and "labels.report.md" in told
    sheet = labels.with_name("labels.check.csv")
    header, *cells = list(csv.reader(sheet.open(newline="")))
    assert header == list(COLUMNS) and len(cells) == 20 and {cell[1] for cell in cells} == {""}
    assert not {"rule", "label", "reason"} & set(header), "the verdict must not sway the person"
    assert [cell[-1] for cell in cells] != sorted(cell[-1] for cell in cells), "shuffled"
    fill(sheet, {f"q{n}": int(n in (6, 7, 15)) for n in range(16)})
    before = sheet.read_bytes()
    assert main(["label", "--labels", str(labels), "--report", "--check", str(sheet)]) == 0
    told = capsys.readouterr().out
    assert sheet.read_bytes() == before and "kept as it is" in told
    assert "16 answers checked by hand" in told and "25.0 [" in told and "of the labels are wrong" in told
    assert "57.1 [" in told and "of those called hallucinated are right" in told
    assert read_labels(labels).rows == tuple(ROWS)


def test_report_of_shards_with_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "question": ["Is it red?"] * 4,
        "answer": ["Yes", "No", "Yes.", "hm"],
        "ground_truth_answer": ["yes"] * 4,
        "dataset": ["a", "a", "b", "b"],
        "kind": ["x", "y", "x", "y"],
    }
    shards = FakeShards(("1", "2", "3", "4"), texts)
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: shards)
    monkeypatch.setattr("halp_probe.shards.reader.open_shards", lambda path: shards)
    out = tmp_path / "labels.csv"
    assert main(["label", "--shards", "s", "--out", str(out), "--report"]) == 0
    told = out.with_name("labels.report.md").read_text()
    assert "## By dataset" in told and "## By kind" not in told
    assert main(["label", "--shards", "s", "--out", str(out), "--report", "--report-columns", "kind"]) == 0
    assert "## By kind" in out.with_name("labels.report.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--report-columns", "x"], "--report-columns needs --report, and --shards"),
        (["--check", "other.csv"], "other.csv is no sheet of labels to check (no column 'your_label')"),
        (["--check", "labels.csv"], "your_label"),
        (["--check", "none.csv"], "none.csv"),
    ],
)
def test_what_cannot_be_used(
    labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    monkeypatch.chdir(labels.parent)
    (labels.parent / "other.csv").write_text("question_id,label\nq1,1\n")
    assert main(["label", "--labels", "labels.csv", *flags]) == 2
    assert message.split(" (")[0].split(" is no")[0] in capsys.readouterr().err


def test_a_file_that_is_no_sheet_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "labels.check.csv"
    path.write_text("my,notes\n1,2\n")
    with pytest.raises(LabelError, match="is no sheet of labels to check"):
        write_sheet(path, ROWS)
    assert path.read_text() == "my,notes\n1,2\n"


def test_a_sheet_of_other_questions_or_with_other_weights_is_refused(tmp_path: Path) -> None:
    sheet = tmp_path / "c.csv"
    write_sheet(sheet, ROWS)
    fill(sheet, {"q1": 0})
    with pytest.raises(LabelError, match="none of the questions that were checked is in the labels"):
        error_rates([row(99, 0)], sheet)
    sheet.write_text(sheet.read_text().replace(",1.0,", ",heavy,"))
    with pytest.raises(LabelError, match="has 'heavy' in column 'weight'"):
        error_rates(ROWS, sheet)
