"""What a reviewer would ask of a study of six sources is told, and nothing of it where it is not so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import labels_of, planted
from realistic_study import QUERY, VISION, realistic
from sklearn.metrics import roc_auc_score

from halp_probe.bootstrap import Draws
from halp_probe.probes.features import join
from halp_probe.probes.left_out import contrasts
from halp_probe.probes.outputs import table
from halp_probe.probes.results import SAME_SCORES
from halp_probe.probes.shortcuts import shortcuts
from halp_probe.probes.study import Design, study
from halp_probe.report.content import report_content
from halp_probe.report.html import render_report
from halp_probe.report.wording import against_baseline, percent

DRAWS = Draws(count=150, seed=0)


@pytest.fixture(scope="module")
def made():
    shards, y = realistic()
    return shards, y, study(shards, labels_of(shards, y), Design(group_columns=("source",), bootstrap=150))


def texts(found, *parts: str) -> list[str]:
    told = [f"{each.level}: {each.text}" for each in found.findings]
    return [text for text in told if all(part in text for part in parts)]


def test_groups_of_one_label_are_serious_and_the_headline_stands_without_them(made):
    shards, y, found = made
    source = np.array(shards.texts["source"])
    alone = np.isin(source, ["chartqa", "synthetic"])
    assert y[alone].sum() == 0
    (text,) = texts(found, "serious", "`source`: 2 of 6 groups have one label only")
    assert f"{alone.mean():.0%} of the rows" in text and "`chartqa`" in text and "`synthetic`" in text
    score, fold, kept = found.judgement.scores["selected_probe"], found.folds.fold, ~alone
    by_hand = [roc_auc_score(y[kept & (fold == k)], score[kept & (fold == k)]) for k in range(5)]
    grouped = found.groups["source"]
    assert grouped.one_label.auroc_without.value == pytest.approx(np.mean(by_hand))
    assert f"{np.mean(by_hand):.3f}" in text
    assert grouped.one_label.auroc_without.low < np.mean(by_hand) < grouped.one_label.auroc_without.high
    assert grouped.macro.note == "not in the mean: 2 with one label only, of 6 groups"


def test_a_small_group_of_one_label_is_no_finding():
    shards, y = planted(300, auroc=0.8)
    few = np.flatnonzero(y == 0)[:4]
    shards.texts["source"] = ["a"] * 300
    for row in few:
        shards.texts["source"][row] = "b"
    found = study(shards, labels_of(shards, y), Design(group_columns=("source",), bootstrap=20))
    assert found.groups["source"].one_label.groups[0].value == "b"
    assert not texts(found, "one label only")


def test_a_column_that_nobody_named_is_found_and_one_that_says_nothing_is_not():
    shards, y = realistic()
    rows = join(shards, labels_of(shards, y), shards.representations)
    found = study(shards, labels_of(shards, y), Design(bootstrap=150))
    (text,) = texts(found, "no group column predicts the label")
    assert "`source`" in text and "`template`" in text and "`group_columns`" in text
    assert "`batch`" not in text and "`annotator`" not in text and "ground_truth" not in text
    tried = {each.column: each.auroc for each in shortcuts(shards, rows, found.folds, DRAWS)}
    assert set(tried) == {"source", "template"}
    named = study(shards, labels_of(shards, y), Design(group_columns=("source",), bootstrap=150))
    lookup = named.judgement.result("lookup_of_source").auroc
    assert tried["source"].value == pytest.approx(lookup.value)  # the same lookup on the same folds
    (text,) = texts(named, "no group column predicts the label")
    assert "`template`" in text and "`source`" not in text


def test_a_known_leak_is_called_one_and_not_recommended():
    shards, y = realistic()
    shards.texts["dataset"] = ["amber"] * len(y)
    shards.texts["type"] = shards.texts.pop("source")
    found = study(shards, labels_of(shards, y), Design(bootstrap=60, representations=(QUERY,)))
    (text,) = texts(found, "no group column predicts the label")
    advice = text.partition(" Name ")[2]
    assert "`type`" in text and "gives the ground truth away" in text
    assert "`template`" in advice and "`type`" not in advice


@pytest.mark.parametrize("by_chance", [False, True])
def test_rows_that_are_left_out_are_compared_with_those_that_count(by_chance):
    """All rows whose answer was long and wrong have no vector; or as many by chance."""
    shards, y = realistic()
    rng = np.random.default_rng(5)
    out = rng.permutation(len(y))[:70] if by_chance else np.flatnonzero(y == 1)[::2]
    shards.arrays[QUERY] = shards.arrays[QUERY].copy()
    shards.arrays[QUERY][out] = np.nan
    design = Design(bootstrap=150, group_columns=("source",), representations=(QUERY,))
    found = study(shards, labels_of(shards, y), design)
    about = texts(found, f"left out (no {QUERY})", "have label 1")
    if by_chance:
        assert not about and not texts(found, "are not like")
        return
    (text,) = about
    kept = np.delete(y, out).mean()
    assert text.startswith("serious") and f"{len(out)} of the {len(out)} with a label have label 1 (100%)" in text
    assert f"of those kept {kept:.0%}. With them it would be {y.mean():.0%}" in text
    (text,) = texts(found, f"left out (no {QUERY})", "first token entropy")  # the model doubted wrong answers


def test_unlabelled_rows_of_one_source_are_told():
    shards, y = realistic()
    source = np.array(shards.texts["source"])
    unknown = np.flatnonzero(source == "textvqa")[:120]
    labels = {**labels_of(shards, y), **{shards.question_ids[row]: None for row in unknown}}
    rows = join(shards, labels, (QUERY,), ("source",))
    (contrast,) = contrasts(shards, rows, labels, DRAWS)
    (share,) = contrast.shares
    kept = np.delete(source, unknown)
    assert (share.column, share.value, share.out) == ("source", "textvqa", 1.0)
    assert share.kept == pytest.approx((kept == "textvqa").mean())
    assert contrast.labels is None and (contrast.labelled, contrast.count) == (0, 120)
    few = replace(rows, left_out=rows.left_out[:4])
    assert contrasts(shards, few, labels, DRAWS) == ()


def test_a_probe_that_is_a_baseline_is_called_so():
    shards, y = realistic()
    found = study(shards, labels_of(shards, y), Design(bootstrap=60, representations=(VISION,)))
    bare, labels = replace(shards, columns={}), labels_of(shards, y)
    alone = study(bare, labels, Design(bootstrap=60))
    assert not texts(alone, "is the baseline")
    (text,) = [t for t in texts(found, "selected probe") if "image alone" in t or "first token entropy" in t]
    assert "is worse than first token entropy" in text
    only = study(bare, labels, Design(bootstrap=60, representations=(VISION,)))
    (text,) = texts(only, "serious: The selected probe is the baseline image alone")
    difference = only.judgement.difference("selected_probe", "image_alone")
    assert (difference.value, difference.low, difference.high, difference.note) == (0, 0, 0, SAME_SCORES)
    assert "0.000" not in text
    assert "is that baseline" in against_baseline(vars(difference))


def test_what_is_known_afterwards_is_no_rival_without_the_word():
    shards, y = realistic()
    rng = np.random.default_rng(0)
    shards.columns["answer_tokens"] = (1 + 9 * y + rng.integers(0, 3, len(y))).astype(np.int32)  # long = wrong
    found = study(shards, labels_of(shards, y), Design(bootstrap=60))
    best = found.judgement.best_baseline
    assert found.judgement.result("answer_length").auroc.value > 0.95 > best.auroc.value
    assert best.title == "first token entropy"
    assert texts(found, "note: answer length (known afterwards) reaches", "Whoever can wait")
    assert "answer length (known afterwards)" in table(found.judgement, found.findings)
    columns = {name: shards.columns[name] for name in ("answer_tokens", "answer_logprob")}
    bare = replace(shards, columns=columns, texts={k: v for k, v in shards.texts.items() if k != "question"})
    only = study(bare, labels_of(bare, y), Design(bootstrap=60, representations=(QUERY,)))
    assert only.judgement.best_baseline.title == "answer length (known afterwards)"
    assert texts(only, "worse than answer length (known afterwards)")


def test_abstaining_credits_the_probe_with_no_more_than_it_adds():
    """Nearly all that abstaining brings, the entropy brings too: the card says so."""
    shards, y = realistic()
    noisy = shards.columns["first_token_entropy"][:, None] + 0.3 * np.random.default_rng(0).standard_normal((len(y), 1))
    told = replace(shards, arrays={VISION: shards.arrays[VISION], QUERY: noisy.astype(np.float32)})
    found = study(told, labels_of(told, y), Design(bootstrap=100))
    about = dict.fromkeys(("model_name", "revision", "shards", "labels"), "x") | {"seconds": 1.0}
    content = report_content(found, {}, about)
    abstain = content["headline"]["abstain"]
    assert abstain["reduction"]["low"] > 0 and abstain["baseline"]["reduction"]["low"] > 0
    assert abstain["baseline"]["gain"]["low"] < 0
    page = render_report(content, {})
    assert "first token entropy</bdi> alone it would change by" in page
    assert "none is shown" in page or "the baseline does it better" in page
    assert "minus <bdi>first token entropy</bdi>" in page


def test_an_isotonic_map_of_few_rows_is_warned_of():
    shards, y = realistic()
    isotonic = Design(bootstrap=40, calibration="isotonic", representations=(QUERY,))
    (text,) = texts(study(shards, labels_of(shards, y), isotonic), "Isotonic calibration")
    assert text.startswith("caution") and f"has {y.sum()} rows of label 1" in text
    assert not texts(study(shards, labels_of(shards, y), replace(isotonic, calibration="platt")), "Isotonic")
    many, labels = planted(1300, auroc=0.8)
    assert not texts(study(many, labels_of(many, labels), isotonic), "Isotonic")


def test_the_page_says_what_risks_are_worth_at_another_prevalence():
    shards, y = realistic()
    found = study(shards, labels_of(shards, y), Design(bootstrap=40, representations=(QUERY,)))
    about = dict.fromkeys(("model_name", "revision", "shards", "labels"), "x") | {"seconds": 1.0}
    content = report_content(found, {}, about)
    half, twice = content["prevalence_shift"]
    assert (half["prevalence"], twice["prevalence"]) == pytest.approx((y.mean() / 2, 2 * y.mean()))
    assert twice["as_they_are"]["mean_risk"] < twice["corrected"]["mean_risk"]
    page = render_report(content, {})
    assert f"at {percent(twice['prevalence'])} of wrong answers the mean risk would be" in page
