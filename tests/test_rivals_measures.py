"""Measures from sampled answers: equal to the exact entropies of a small language, and to hand-computed cases."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from shard_data import ATTRIBUTES, columns

from halp_probe.errors import InputError
from halp_probe.rivals.clusters import NONE, Clusters, exact_clusters, sort_answers
from halp_probe.rivals.measures import DESCRIPTIONS, lexical_dissimilarity, measure, rouge_l, sampled_measures
from halp_probe.rivals.polygraph import polygraph_stats, run_estimator
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.sampled import Samples, no_samples
from halp_probe.shards.writer import write_shard


def language() -> dict[tuple[str, ...], Fraction]:
    """Every sequence of up to three tokens and its exact probability; the second token depends on the first."""
    first = {"cat": Fraction(1, 2), "dog": Fraction(1, 4), "$": Fraction(1, 4)}
    after = {"cat": {"cat": Fraction(1, 4), "$": Fraction(3, 4)}, "dog": {"dog": Fraction(1, 2), "$": Fraction(1, 2)}}
    found: dict[tuple[str, ...], Fraction] = {}
    for one, other in product(first, ("cat", "dog", "$")):
        if one == "$":
            found[("$",)] = first["$"]
        elif other in after[one]:
            end = (one, "$") if other == "$" else (one, other, "$")
            found[end] = first[one] * after[one][other]
    assert sum(found.values()) == 1
    return found


def test_all_sequences_in_their_proportions_give_the_exact_entropies() -> None:
    """Expectations of the formulae by full enumeration; the meaning of a sequence is its animal."""
    chances = language()
    samples = [sequence for sequence, chance in chances.items() for _ in range(int(chance * 8))]
    assert len(samples) == 8
    p = {sequence: float(chance) for sequence, chance in chances.items()}
    meanings = {"cat": 0, "dog": 1, "$": 2}
    found = measure(
        texts=[" ".join(sequence[:-1]) for sequence in samples],
        logprobs=np.log([p[sequence] for sequence in samples]),
        tokens=np.array([len(sequence) for sequence in samples]),
        clusters=np.array([meanings[sequence[0]] for sequence in samples]),
        greedy=0,
    )
    assert found["predictive_entropy"] == pytest.approx(-sum(q * np.log(q) for q in p.values()))
    by_length = -sum(q * np.log(q) / len(sequence) for sequence, q in p.items())
    assert found["length_normalised_entropy"] == pytest.approx(by_length)
    of_meaning = [sum(q for sequence, q in p.items() if sequence[0] == word) for word in meanings]
    exact = -sum(q * np.log(q) for q in of_meaning)
    assert found["semantic_entropy"] == pytest.approx(exact) == pytest.approx(1.5 * np.log(2))
    assert found["discrete_semantic_entropy"] == pytest.approx(exact)
    assert found["inconsistency"] == pytest.approx(0.5) and found["greedy_disagreement"] == pytest.approx(0.5)
    assert found["semantic_sets"] == 3


def test_two_token_sequences_of_one_text_are_not_one_sample() -> None:
    """Their probabilities add up; the same sequence from two batches, apart by rounding, counts once."""
    about = {"texts": ["yes", "yes", "yes"], "clusters": np.zeros(3, int), "greedy": 0}
    logprobs = np.log([0.5, 0.5, 0.25])
    logprobs[1] += 1e-5
    found = measure(logprobs=logprobs, tokens=np.array([2, 2, 2]), **about)
    assert found["semantic_entropy"] == pytest.approx(-np.log(0.75))
    longer = measure(logprobs=np.log([0.5, 0.5, 0.5]) - 1, tokens=np.array([2, 3, 2]), **about)
    assert longer["semantic_entropy"] == pytest.approx(1.0)


def test_rouge_l_by_hand() -> None:
    assert rouge_l(["the", "cat", "sat"], ["the", "cat", "ran", "off"]) == pytest.approx(4 / 7)
    assert rouge_l(["a", "b", "c", "d"], ["b", "d", "a"]) == pytest.approx(4 / 7)  # a subsequence, not a substring
    assert rouge_l([], []) == 1 and rouge_l(["a"], []) == 0
    assert lexical_dissimilarity(["Yes.", "yes", "no"]) == pytest.approx(2 / 3)
    assert np.isnan(lexical_dissimilarity(["alone"]))


def test_answers_are_sorted_by_normalised_text() -> None:
    answers = np.array([["Yes.", "the yes", "No", ""], ["7", "seven apples", "7.", "lost"]], dtype=object)
    there = np.array([[True] * 4, [True, True, True, False]])
    found = exact_clusters(["Is it?", "How many?"], ["no!", "7"], answers, there)
    assert found.sampled.tolist() == [[1, 1, 0, 2], [0, 1, 0, NONE]] and found.greedy.tolist() == [0, 0]


def test_a_cluster_is_compared_by_its_first_answer() -> None:
    """As in the paper: a meaning that is near to a later member alone begins a cluster of its own."""
    near = {("a", "b"), ("b", "c")}
    assert sort_answers(list("abc"), [True] * 3, lambda one, other: (one, other) in near) == [0, 0, 1]


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Three questions: three samples, two samples and none."""
    data = columns(["a", "b", "c"])
    texts = [["red", "a red", "blue"], ["big red dog", "small red cat", ""], ["", "", ""]]
    samples = Samples(
        answer=np.array(texts, dtype=object),
        logprob=np.array([[-0.5, -1.5, -2.0], [-1.0, -3.0, np.nan], [np.nan] * 3], dtype=np.float32),
        tokens=np.array([[2, 3, 2], [4, 4, 0], [0, 0, 0]], dtype=np.int32),
        finished=np.array([[True, True, True], [True, False, False], [False] * 3]),
    )
    data.texts["answer"] = ["Red", "big red dog", "x"]
    about = {**ATTRIBUTES, "samples": 3, "sample_temperature": 1.0, "sample_seed": 0}
    write_shard(tmp_path / "m_embeddings_part_001.h5", replace(data, samples=samples), about)
    return open_shards(tmp_path)


def test_measures_of_shards_by_hand(shards: Shards) -> None:
    found = sampled_measures(shards)
    assert set(found) == set(DESCRIPTIONS)
    assert all(values.dtype == np.float64 and np.isnan(values[2]) for values in found.values())
    assert found["predictive_entropy"][:2] == pytest.approx([4 / 3, 2.0])
    assert found["length_normalised_entropy"][:2] == pytest.approx([(0.25 + 0.5 + 1) / 3, 0.5])
    red = np.log(np.exp(-0.5) + np.exp(-1.5))
    assert found["semantic_entropy"][:2] == pytest.approx([(-2 * red + 2) / 3, 2.0])
    assert found["inconsistency"][:2] == pytest.approx([1 / 3, 0.5])
    assert found["greedy_disagreement"][:2] == pytest.approx([1 / 3, 0.5])
    assert found["semantic_sets"][:2].tolist() == [2, 2]
    assert found["lexical_dissimilarity"][1] == pytest.approx(1 - 1 / 3)


def test_given_clusters_replace_the_exact_ones(shards: Shards) -> None:
    one = Clusters(sampled=np.array([[0, 0, 0], [0, 0, NONE], [NONE] * 3]), greedy=np.array([1, 0, 0]))
    found = sampled_measures(shards, one)
    assert found["discrete_semantic_entropy"][:2].tolist() == [0, 0] and found["greedy_disagreement"][0] == 1
    with pytest.raises(ValueError, match="lack a sample"):
        sampled_measures(shards, replace(one, sampled=np.full((3, 3), NONE)))
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        sampled_measures(shards, replace(one, sampled=one.sampled[:, :2]))


def test_more_disagreement_is_more_risk(shards: Shards) -> None:
    """Every measure is higher for three different answers than for three equal ones."""
    same = {"texts": ["a b"] * 3, "logprobs": np.log([0.9] * 3), "tokens": np.full(3, 2), "clusters": np.zeros(3, int)}
    apart = {"texts": ["a", "b", "c"], "logprobs": np.log([0.2] * 3), "tokens": np.full(3, 2), "clusters": np.arange(3)}
    calm, torn = measure(**same, greedy=0), measure(**apart, greedy=0)
    assert all(torn[name] > calm[name] for name in DESCRIPTIONS)


def test_measures_equal_those_of_lm_polygraph(shards: Shards) -> None:
    """On the question that has all its samples; theirs of similarity is negative, ours is a distance."""
    estimators = pytest.importorskip("lm_polygraph.estimators")
    ours = sampled_measures(shards)
    for name, estimator, shift in (
        ("predictive_entropy", estimators.MonteCarloSequenceEntropy(), 0),
        ("length_normalised_entropy", estimators.MonteCarloNormalizedSequenceEntropy(), 0),
        ("semantic_entropy", estimators.SemanticEntropy(use_unique_responses=True), 0),
        ("discrete_semantic_entropy", estimators.SemanticEntropy(class_probability_estimation="frequency"), 0),
        ("lexical_dissimilarity", estimators.LexicalSimilarity("rougeL"), 1),
        ("semantic_sets", estimators.NumSemSets(), 0),
    ):
        theirs = run_estimator(estimator, shards) + shift
        assert theirs[0] == pytest.approx(ours[name][0], abs=1e-6), name
        assert np.isnan(theirs[1:]).all()


def test_statistics_by_lm_polygraph_s_names(shards: Shards) -> None:
    stats, rows = polygraph_stats(shards)
    assert rows.tolist() == [0] and stats["sample_texts"] == [["red", "a red", "blue"]]
    assert [list(map(len, row)) for row in stats["sample_tokens"]] == [[2, 3, 2]]
    assert stats["semantic_classes_entail"]["class_to_sample"] == {0: [[0, 1], [2]]}
    assert stats["semantic_classes_entail"]["sample_to_class"] == {0: {0: 0, 1: 0, 2: 1}}
    assert stats["semantic_matrix_entail"][0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_what_is_no_estimator_is_refused(shards: Shards) -> None:
    with pytest.raises(InputError, match=r"pip install lm-polygraph|is not an estimator"):
        run_estimator("SemanticEntropy", shards)


def test_shards_without_samples_say_how_to_get_them(tmp_path: Path) -> None:
    write_shard(tmp_path / "m_embeddings_part_001.h5", columns(["a"]), ATTRIBUTES)
    with pytest.raises(InputError, match="`samples=10`"):
        sampled_measures(open_shards(tmp_path))


def test_files_without_samples_beside_those_with_some_are_nan(tmp_path: Path) -> None:
    write_shard(tmp_path / "m_embeddings_part_001.h5", replace(columns(["a"]), samples=no_samples(1, 2)), ATTRIBUTES)
    write_shard(tmp_path / "m_embeddings_part_002.h5", columns(["b"]), ATTRIBUTES)
    assert all(np.isnan(values).all() for values in sampled_measures(open_shards(tmp_path)).values())
