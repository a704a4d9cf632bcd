"""Baselines know what they may know, and nothing of the fold that judges them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probes_fake import VISION, labels_of, planted
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from halp_probe.probes.baselines import TEXT_STRENGTHS, baselines, fit_lookup, fit_text
from halp_probe.probes.controls import random_per_image, shuffle_labels
from halp_probe.probes.features import join
from halp_probe.probes.fitting.kinds import linear
from halp_probe.probes.fitting.splits import outer_folds
from halp_probe.probes.nested import cross_fit
from halp_probe.probes.training_sets import training_sets


def found_in(shards, y, columns=()):
    """Baseline by name, and the folds."""
    rows = join(shards, labels_of(shards, y), shards.representations, columns)
    folds = outer_folds(rows.y, rows.image_codes, 3, 0)
    sets = training_sets(rows.y, folds)
    fits = {
        name: cross_fit(linear()(rows.vectors(shards, name), rows.y, sets.train), rows.y, folds, sets)
        for name in shards.representations
    }
    return {baseline.name: baseline for baseline in baselines(rows, folds, sets, fits)}, folds, fits


def test_a_lookup_gives_the_rate_of_the_training_folds():
    shards, y = planted(240, auroc=0.7)
    source = np.array(["a", "b", "c"])[np.random.default_rng(0).integers(0, 3, 240)]
    source[5] = "rare"
    shards.texts["source"] = list(source)
    found, folds, _ = found_in(shards, y, ["source"])
    for k in range(3):
        train, test = folds.fold != k, folds.fold == k
        for name in np.unique(source[test]):
            inside = y[train & (source == name)]
            rate = (inside.sum() + y[train].mean()) / (len(inside) + 1)
            scores = found["lookup_of_source"].score[test & (source == name)]
            np.testing.assert_allclose(1 / (1 + np.exp(-scores)), rate)


def test_a_group_that_training_lacks_gets_the_overall_rate_and_a_pure_one_stays_finite():
    y, codes = np.array([1, 1, 0, 0, 1]), np.array([0, 0, 1, 1, 2])
    logit = fit_lookup(codes, y, np.array([[True, True, True, True, False]])).logit[0, 0]
    assert logit[4] == pytest.approx(0.0)
    assert np.isfinite(logit).all() and logit[0] > 0 > logit[2]


def test_text_knows_the_words_of_its_training_rows_alone():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    texts = np.array([f"how many {'cats' if label ^ (rng.random() < 0.2) else 'dogs'}" for label in y], dtype=object)
    texts[:10], texts[10:12], texts[290] = "", "??", "zebra zebra"
    train = np.arange(300) < 200
    fitted = fit_text(texts, y, train[None])
    assert roc_auc_score(y[~train], fitted.logit[0, 2, ~train]) > 0.7
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]+")
    named = np.array([text or "blank" for text in texts], dtype=object)
    features = vectorizer.fit(named[train]).transform(named)
    for s, C in enumerate(TEXT_STRENGTHS[:3]):
        by_hand = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(features[train], y[train])
        found = fitted.logit[0, s]
        np.testing.assert_allclose(found[12:290], by_hand.decision_function(features)[12:290], atol=0.05)
    assert "zebra" not in vectorizer.vocabulary_
    others = np.where(train, texts, "how many cats")  # other frequencies of words in the rows that do not train
    assert (fit_text(others, y, train[None]).logit[0][:, train] == fitted.logit[0][:, train]).all()


def test_the_image_alone_is_the_vision_probe():
    shards, y = planted(240, auroc=0.7)
    found, _, fits = found_in(shards, y)
    assert (found["image_alone"].score == fits[VISION].score).all()
    shards.arrays.pop(VISION)
    missing = found_in(shards, y)[0]["image_alone"]
    assert np.isnan(missing.score).all() and "is among the representations" in missing.note


@pytest.mark.parametrize("gap", ["all", "one"])
def test_missing_numbers_are_nan_with_the_reason(gap):
    shards, y = planted(120, auroc=0.75)
    if gap == "all":
        shards = replace(shards, columns={}, texts={**shards.texts})
        del shards.texts["question"]
    else:
        shards.columns["first_token_entropy"][5] = np.nan
    found = found_in(shards, y)[0]
    assert np.isnan(found["first_token_entropy"].score).all()
    reason = "the shards have no first_token_entropy" if gap == "all" else "1 of 120 rows have no first_token_entropy"
    assert found["first_token_entropy"].note == reason
    assert np.isnan(found["question_text"].score).all() == (gap == "all")


def test_made_up_labels():
    y, images = (np.random.default_rng(0).random(900) < 0.3).astype(int), np.arange(900) // 3
    assert shuffle_labels(y, 1).sum() == y.sum() and (shuffle_labels(y, 1) != y).any()
    labels = random_per_image(y, images, 1)
    assert all(len(set(labels[images == image])) == 1 for image in range(300))
    assert labels.mean() == pytest.approx(y.mean(), abs=0.01)
    assert abs(np.corrcoef(labels, y)[0, 1]) < 0.1
    assert random_per_image(np.array([0, 0, 1]), np.array([0, 0, 1]), 0).sum() in (1, 2)
