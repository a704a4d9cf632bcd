"""What a probe must beat, and what it must not: question text, the model's own doubt, shuffled labels.

Legend: N rows, F text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from halp_probe.probes.estimators import probabilities, two_classes
from halp_probe.probes.regularisation import Prepared, choose_C
from halp_probe.probes.splits import inner_splits

QUESTION_TEXT = "question_text"
FIRST_TOKEN_ENTROPY = "first_token_entropy"
SHUFFLED_LABELS = "shuffled_labels"
BASELINES = (QUESTION_TEXT, FIRST_TOKEN_ENTROPY, SHUFFLED_LABELS)
SHUFFLED_C = 1e-2  # fixed: nothing is to be gained by choosing
TEXT_STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0)  # rows of TF-IDF have length 1, far shorter than standardised vectors

_BLANK = "(blank)"


class QuestionTextProbe(ClassifierMixin, BaseEstimator):
    """TF-IDF of words and pairs of words with logistic regression, its penalty chosen as a LinearProbe's is.

    It sees the question and neither image nor model: what it reaches is in the questions' wording alone.
    """

    def __init__(
        self,
        Cs: Sequence[float] = TEXT_STRENGTHS,
        inner_folds: int = 3,
        fallback_C: float = 1.0,
        max_iter: int = 1000,
        random_state: int = 0,
    ) -> None:
        self.Cs = Cs
        self.inner_folds = inner_folds
        self.fallback_C = fallback_C
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> QuestionTextProbe:
        """X [N] questions, y [N] of two classes, groups [N]."""
        self.classes_, target = two_classes(y)
        choice = choose_C(
            X,
            target,
            inner_splits(target, groups, self.inner_folds, self.random_state),
            prepare=_prepared,
            Cs=tuple(self.Cs),
            fallback_C=self.fallback_C,
            max_iter=self.max_iter,
        )
        self.C_ = choice.C
        self.vectorizer_ = _vectorizer()
        features = self.vectorizer_.fit_transform(X)  # [N, F] sparse
        self.model_ = LogisticRegression(C=self.C_, max_iter=self.max_iter).fit(features, target)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """[N, 2] float64, columns as in `classes_`."""
        return probabilities(self.model_.decision_function(self.vectorizer_.transform(X)))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """[N] the more likely class."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def shuffled(y: np.ndarray, seed: int) -> np.ndarray:
    """[N] the same labels on random rows: a probe of these, judged by these, must reach .5 and no more."""
    return np.random.default_rng(seed).permutation(y)


def _vectorizer() -> TfidfVectorizer:
    """Every text has a token, so there always is a vocabulary: marks count as words, and a blank text is one."""
    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]+", preprocessor=_lower)


def _lower(text: str) -> str:
    return text.lower() if text.strip() else _BLANK


def _prepared(train: Any, test: Any) -> Prepared:
    vectorizer = _vectorizer()
    return Prepared(train=vectorizer.fit_transform(train), test=vectorizer.transform(test))
