"""Effects of an intervention: the same questions with and without it, compared pair by pair.

Legend: N questions that all runs have, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, image_draws, interval
from halp_probe.errors import InputError
from halp_probe.labels.normalise import bare
from halp_probe.labels.rules import judge
from halp_probe.probes.files import SavedProbe
from halp_probe.shards.reader import Shards

PLAIN, ABLATED, CONTROL = RUNS = ("plain", "ablated", "control")
CHANGED, WRONG, RISK, ENTROPY, LOGPROB = MEASURES = ("changed", "wrong", "risk", "entropy", "logprob")
PAIRS = ((ABLATED, PLAIN), (CONTROL, PLAIN), (ABLATED, CONTROL))
SHARES = (CHANGED, WRONG)  # of questions: their values are 0 or 1
DRAWS = Draws(count=2000, seed=0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Questions of one run, in the order of all runs."""

    answers: list[str]  # N
    values: Mapping[str, np.ndarray]  # measure -> [N] float64; nan: unknown. `wrong` is the label, 1 = hallucinated
    vectors: np.ndarray  # [N, D] float32, what the probe reads


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Questions (N) that are in every run."""

    question_ids: list[str]
    image_ids: list[str]
    questions: list[str]
    truths: list[str]
    images: np.ndarray  # [N] of int, one code for each content of a file
    left_out: int  # questions that one run has and another has not
    of: Mapping[str, Run]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Effect on one measure, over the questions for which every run knows it.

    Intervals are of a bootstrap over images.
    """

    measure: str
    questions: int
    mean: Mapping[str, Estimate]  # run -> its mean
    difference: Mapping[tuple[str, str], Estimate]  # (run, minus run) -> the mean of the paired differences


def read_runs(shards: Mapping[str, Shards], probe: SavedProbe, rule: str = "auto") -> Runs:
    """Match the runs by question id. Raises InputError when they have no question in common."""
    row_of = {name: {question_id: row for row, question_id in enumerate(s.question_ids)} for name, s in shards.items()}
    plain = shards[PLAIN]
    shared = [question_id for question_id in plain.question_ids if all(question_id in rows for rows in row_of.values())]
    if not shared:
        raise InputError("no question went through all runs; see the failures.csv in each of their folders")
    rows = {name: [row_of[name][question_id] for question_id in shared] for name in shards}
    texts = {
        name: [plain.text(name)[row] for row in rows[PLAIN]]
        for name in ("image_id", "question", "ground_truth_answer", "image_sha256", "answer")
    }
    return Runs(
        question_ids=shared,
        image_ids=texts["image_id"],
        questions=texts["question"],
        truths=texts["ground_truth_answer"],
        images=np.unique(texts["image_sha256"], return_inverse=True)[1],
        left_out=len({question_id for ids in row_of.values() for question_id in ids}) - len(shared),
        of={name: _run(shards[name], rows[name], texts, probe, rule) for name in shards},
    )


def effects(runs: Runs, draws: Draws = DRAWS) -> list[Effect]:
    """Estimate every measure that is known for any question: means of the runs, and their paired differences."""
    found = []
    for measure in MEASURES:
        values = {name: run.values[measure] for name, run in runs.of.items()}
        known = np.isfinite(np.stack(list(values.values()))).all(axis=0)  # [N]
        if known.any():
            found.append(_effect(measure, {k: v[known] for k, v in values.items()}, runs.images[known], draws))
    return found


def _effect(measure: str, values: Mapping[str, np.ndarray], images: np.ndarray, draws: Draws) -> Effect:
    columns = np.stack([*values.values(), *(values[run] - values[minus] for run, minus in PAIRS)])
    shares = [measure in SHARES] * len(values) + [measure == CHANGED and minus == PLAIN for _, minus in PAIRS]
    estimates = mean_estimates(columns, shares, images, draws)
    return Effect(
        measure=measure,
        questions=len(images),
        mean=dict(zip(values, estimates[: len(values)], strict=True)),
        difference=dict(zip(PAIRS, estimates[len(values) :], strict=True)),
    )


def mean_estimates(columns: np.ndarray, shares: Sequence[bool], images: np.ndarray, draws: Draws) -> list[Estimate]:
    """Return the mean of each of `columns` [K, N], with its 95 % interval from common draws of `images` [N].

    A column of `shares` holds 0 and 1. The images that inform a mean are those with a row off its commonest value. With
    fewer than two of them there is no interval; but a share of 0 or 1 has that of so many images without a miss.
    """
    means = np.concatenate([_weighted_means(columns, weights) for weights in image_draws(images, draws)], axis=1)
    found = []
    for values, drawn, share in zip(columns, means, shares, strict=True):
        kinds, counts = np.unique(values, return_counts=True)
        mean, informing = float(values.mean()), len(np.unique(images[values != kinds[counts.argmax()]]))
        if informing > 1 or (share and mean in (0, 1)):
            clusters = informing or len(np.unique(images))
            found.append(interval(mean, drawn, clusters, bounded=share))
        else:
            why = f"no interval: {informing} of {len(np.unique(images))} images differ from the rest"
            found.append(Estimate(value=mean, low=np.nan, high=np.nan, note=why))
    return found


def _weighted_means(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return [K, b] from `columns` [K, N] and `weights` [b, N]."""
    return columns @ weights.T / weights.sum(axis=1)


def _run(shards: Shards, rows: Sequence[int], texts: Mapping[str, Sequence[str]], probe: SavedProbe, rule: str) -> Run:
    answers = [shards.text("answer")[row] for row in rows]
    labels = [
        judge(answer, truth, question=question, rule=rule).label
        for answer, truth, question in zip(answers, texts["ground_truth_answer"], texts["question"], strict=True)
    ]
    vectors = shards.vectors(probe.metadata["representation"])[rows]
    values = {
        CHANGED: [bare(one) != bare(other) for one, other in zip(answers, texts["answer"], strict=True)],
        WRONG: [np.nan if label is None else label for label in labels],
        RISK: probe.risk(vectors),
        ENTROPY: shards.numbers("first_token_entropy")[rows],
        LOGPROB: shards.numbers("first_token_logprob")[rows],
    }
    return Run(
        answers=answers,
        values={name: np.asarray(column, dtype=np.float64) for name, column in values.items()},
        vectors=vectors,
    )
