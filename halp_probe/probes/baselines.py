"""Baselines that a probe must beat: lookups of a row's group, the question's text, the image alone, the model's doubt.

Each is scored out of fold, on the same folds as the probes. Legend: N rows, R training sets, S candidates, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import ANSWER_LOGPROB, ANSWER_TOKENS, ENTROPY, LOGPROB, LabelledRows
from halp_probe.probes.fitting.kinds import FittedCandidates, Fitter, linear
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.nested import CrossFit, cross_fit
from halp_probe.probes.training_sets import TrainingSets
from halp_probe.records import VISION_ENCODER, VISION_ONLY
from halp_probe.rivals import asked, measures

QUESTION_TEXT = "question_text"
IMAGE_ALONE = "image_alone"
ANSWER_LENGTH = "answer_length"
LOOKUP = "lookup_of_"  # of a group column: lookup_of_source
TEXT_STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0)  # rows of TF-IDF have length 1, far shorter than standardised vectors
RIVALS = measures.DESCRIPTIONS | asked.DESCRIPTIONS  # name -> what it is
BEFORE_THE_ANSWER = ("no_image_kl", "no_image_tv", "other_image_kl", "other_image_tv")  # among the rivals
_AFTER = "known only when the answer is written"
_BLANK = "(blank)"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Score [N] of a baseline, out of fold, higher = riskier.

    It is nan throughout where it cannot be had, and `note` says why.
    """

    name: str
    score: np.ndarray
    note: str = ""
    fit: CrossFit | None = None  # None for a score that is not fitted
    early: bool = True  # known before the first token of the answer

    @property
    def models(self) -> np.ndarray | None:
        """Scores [K, N] of all rows by the model of each fold; None for a score that is not fitted."""
        return None if self.fit is None else self.fit.models

    @property
    def known(self) -> bool:
        """True if every row that a fold could be judged by has a score."""
        return bool(np.isfinite(self.score).any())


@dataclass(frozen=True, kw_only=True)
class _BaselineFitter:
    """Inputs that every fitted baseline is fitted with."""

    y: np.ndarray
    folds: Folds
    sets: TrainingSets

    def baseline(self, name: str, fit: Fitter, X: np.ndarray, note: str = "", *, early: bool = True) -> Baseline:
        found = cross_fit(fit(X, self.y, self.sets.train), self.y, self.folds, self.sets)
        return Baseline(name=name, score=found.score, note=note, fit=found, early=early)


def baselines(rows: LabelledRows, folds: Folds, sets: TrainingSets, fits: dict[str, CrossFit]) -> list[Baseline]:
    """Score all baselines, in reading order; `fits` are the probes of the representations."""
    fitter = _BaselineFitter(y=rows.y, folds=folds, sets=sets)
    found = [fitter.baseline(LOOKUP + name, fit_lookup, _codes(values)) for name, values in rows.groups.items()]
    if rows.questions is None:
        found.append(_missing(QUESTION_TEXT, rows, "the shards have no question texts"))
    else:
        found.append(fitter.baseline(QUESTION_TEXT, fit_text, np.array(rows.questions, dtype=object)))
    found.append(_image_alone(rows, fits))
    found.append(_confidence(ENTROPY, rows, 1))
    found.append(_confidence(LOGPROB, rows, -1))
    found.append(_confidence(ANSWER_LOGPROB, rows, -1, _AFTER))
    found.append(_answer_length(rows, fitter))
    found += [_rival(name, values, rows) for name, values in rows.rivals.items()]
    names = {baseline.name for baseline in found}
    for name, values in rows.own_baselines.items():
        if name in names:
            raise ProbeError(f"the baseline {name!r} has the name of one that is there already; give it another name")
        found.append(_own(name, values, rows, fitter))
    return found


def _rival(name: str, values: np.ndarray, rows: LabelledRows) -> Baseline:
    """Return a measure of sampled answers, or of what the model says when it is asked."""
    early = name in BEFORE_THE_ANSWER
    if missing := int((~np.isfinite(values)).sum()):
        return replace(_missing(name, rows, f"{missing} of {len(rows.y)} rows have no {name}"), early=early)
    return Baseline(name=name, score=values, note=RIVALS[name], early=early)


def _own(name: str, values: np.ndarray, rows: LabelledRows, fitter: _BaselineFitter) -> Baseline:
    if missing := int((~np.isfinite(values)).sum()):
        return _missing(name, rows, f"{missing} of {len(rows.y)} rows have no {name}")
    note = "a baseline of your own; whether high or low is riskier is learnt on the training folds"
    return fitter.baseline(name, linear((1.0,)), values[:, None], note, early=False)


def _image_alone(rows: LabelledRows, fits: dict[str, CrossFit]) -> Baseline:
    """Return the probe of a vision mean, which has not seen the question."""
    name = next((name for name in (VISION_ONLY, VISION_ENCODER) if name in fits), None)
    if name is None:
        return _missing(IMAGE_ALONE, rows, f"neither {VISION_ONLY} nor {VISION_ENCODER} is among the representations")
    note = f"the probe of {name}, which has not seen the question"
    return Baseline(name=IMAGE_ALONE, score=fits[name].score, note=note, fit=fits[name])


def _confidence(column: str, rows: LabelledRows, sign: int, note: str = "") -> Baseline:
    """Return a number that the model gave itself, with the sign that makes higher riskier."""
    gap = _gap(column, rows)
    if gap:
        return _missing(column, rows, gap)
    return Baseline(name=column, score=sign * rows.numbers[column], note=note, early=note != _AFTER)


def _answer_length(rows: LabelledRows, fitter: _BaselineFitter) -> Baseline:
    gap = _gap(ANSWER_TOKENS, rows)
    if gap:
        return _missing(ANSWER_LENGTH, rows, gap)
    note = f"{_AFTER}; whether long or short answers are riskier is learnt on the training folds"
    length = np.log1p(rows.numbers[ANSWER_TOKENS])[:, None]
    return fitter.baseline(ANSWER_LENGTH, linear((1.0,)), length, note, early=False)


def _gap(column: str, rows: LabelledRows) -> str:
    """Say why the column cannot be used; "" when it can."""
    if column not in rows.numbers:
        return f"the shards have no {column}"
    missing = int((~np.isfinite(rows.numbers[column])).sum())
    return f"{missing} of {len(rows.y)} rows have no {column}" if missing else ""


def _missing(name: str, rows: LabelledRows, why: str) -> Baseline:
    return Baseline(name=name, score=np.full(len(rows.y), np.nan), note=why)


def fit_lookup(codes: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
    """Fit the rate of label 1 in each group of the training rows, one row of the overall rate added; `codes` [N] int.

    So a group that the training rows do not have gets the overall rate.
    """
    n_groups = int(codes.max()) + 1
    logit = np.empty((len(train), 1, len(y)))
    for r, rows in enumerate(train):
        overall = y[rows].mean()
        total = np.bincount(codes[rows], minlength=n_groups) + 1
        rate = (np.bincount(codes[rows], weights=y[rows], minlength=n_groups) + overall) / total  # strictly in (0, 1)
        logit[r, 0] = np.log(rate / (1 - rate))[codes]
    return FittedCandidates(candidates=(np.nan,), logit=logit, probe=lambda r, s: None)


def fit_text(texts: np.ndarray, y: np.ndarray, train: np.ndarray) -> FittedCandidates:
    """Fit logistic regression on TF-IDF of words and pairs of words; `texts` [N].

    The vocabulary is that of the training rows.
    """
    logit = np.empty((len(train), len(TEXT_STRENGTHS), len(y)))
    for r, rows in enumerate(train):
        vectorizer = _vectorizer().fit(texts[rows])
        features = vectorizer.transform(texts)  # [N, F] sparse
        model = LogisticRegression(max_iter=1000, warm_start=True)
        for s, C in enumerate(TEXT_STRENGTHS):  # from strong to weak: each solution is a good start for the next
            model.set_params(C=C).fit(features[rows], y[rows])
            logit[r, s] = model.decision_function(features)
    return FittedCandidates(candidates=TEXT_STRENGTHS, logit=logit, probe=lambda r, s: None)


def _vectorizer() -> TfidfVectorizer:
    """Return a vectorizer that finds a token in every text, so that there always is a vocabulary.

    Marks count as words, and a blank text is one word.
    """
    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]+", preprocessor=_lower)


def _lower(text: str) -> str:
    return text.lower() if text.strip() else _BLANK


def _codes(values: Sequence[Any]) -> np.ndarray:
    """Return [N] int, equal for equal values."""
    return np.unique(np.asarray(values), return_inverse=True)[1]
