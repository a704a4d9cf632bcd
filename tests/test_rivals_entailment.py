"""Answers sorted by entailment both ways, and the table of rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shard_data import ATTRIBUTES, columns

from halp_probe.cli import main
from halp_probe.errors import InputError
from halp_probe.rivals.clusters import NONE
from halp_probe.rivals.entailment import Pair, entailment_clusters, load_entailment
from halp_probe.rivals.measures import sampled_measures
from halp_probe.rivals.table import read_rivals, write_rivals
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.sampled import Samples
from halp_probe.shards.writer import write_shard

ANSWERS = [["a dog", "a puppy", "an animal", "Dog!"], ["two", "2", "three", ""]]


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    data = columns(["a", "b"])
    data.texts["answer"], data.texts["question"] = ["an animal", "two"], ["What?", "How many?"]
    tokens = np.array([[3, 3, 3, 3], [2, 2, 2, 0]], dtype=np.int32)
    samples = Samples(
        answer=np.array(ANSWERS, dtype=object),
        logprob=np.where(tokens > 0, np.float32(-1.0), np.float32(np.nan)),
        tokens=tokens,
        finished=tokens > 0,
    )
    about = {**ATTRIBUTES, "samples": 4, "sample_temperature": 1.0}
    write_shard(tmp_path / "m_embeddings_part_001.h5", replace(data, samples=samples), about)
    return open_shards(tmp_path)


def test_meaning_needs_entailment_both_ways(shards: Shards) -> None:
    """A dog is an animal, but not the other way round: two meanings. The question stands before each answer."""
    asked: list[Pair] = []
    known = {("dog", "puppy"), ("puppy", "dog"), ("dog", "animal"), ("puppy", "animal"), ("two", "2"), ("2", "two")}
    known |= {("two", "three")}  # one way alone

    def entails(pairs: Sequence[Pair]) -> np.ndarray:
        asked.extend(pairs)
        return np.array([(one.split("? ")[1], other.split("? ")[1]) in known for one, other in pairs])

    found = entailment_clusters(shards, entails)
    assert found.greedy.tolist() == [0, 0]
    assert found.sampled.tolist() == [[1, 1, 0, 1], [0, 0, 1, NONE]]
    assert ("What? dog", "What? animal") in asked and len(asked) == 6 + 6
    assert sampled_measures(shards, found)["semantic_sets"].tolist() == [2, 2]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random classifier of three classes, with its tokenizer."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "dog", "puppy", "animal", "two", "three", "how"]
    torch.manual_seed(3)
    labels = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(words), **sizes, initializer_range=0.8, id2label=labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(vocab={word: k for k, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_the_model_s_batches_change_nothing(classifier: Path) -> None:
    model = load_entailment(str(classifier), device="cpu")
    texts = ("what dog", "what puppy", "how two three", "animal")
    pairs = [(one, other) for one in texts for other in texts]
    together = model.probabilities(pairs)
    assert together.shape == (16, 3) and np.ptp(together[:, 2]) > 0.01
    np.testing.assert_allclose(
        together, np.concatenate([model.probabilities([pair]) for pair in pairs]), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(replace(model, batch_size=3).probabilities(pairs), together, rtol=1e-4, atol=1e-6)
    assert model.entailment == 2
    assert model(pairs).tolist() == (together.argmax(1) == 2).tolist()
    middle = float(np.median(together[:, 2]))
    assert replace(model, threshold=middle)(pairs).tolist() == (together[:, 2] >= middle).tolist()


def test_what_is_no_classifier_of_entailment_is_refused(classifier: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(InputError, match="cannot be loaded"):
        load_entailment(str(tmp_path))
    with pytest.raises(InputError, match=r"`entailment_threshold` 1\.5"):
        load_entailment(str(classifier), threshold=1.5)
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    model.config.id2label = {0: "no", 1: "not_entailment", 2: "yes"}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((classifier / name).read_bytes())
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="none of them `entailment`"):
        load_entailment(str(tmp_path))


@pytest.mark.parametrize("flags", [[], ["--entailment"]], ids=["exact", "entailment"])
def test_the_command_writes_what_the_functions_give(
    shards: Shards, classifier: Path, tmp_path: Path, flags: list[str]
) -> None:
    out, folder = tmp_path / "out" / "rivals.csv", str(shards.files[0].parent)
    more = [*flags, str(classifier)] if flags else []
    assert main(["rivals", "--shards", folder, "--out", str(out), "--device", "cpu", *more]) == 0
    clusters = entailment_clusters(shards, load_entailment(str(classifier), device="cpu")) if flags else None
    expected = sampled_measures(shards, clusters)
    found = read_rivals(out, shards.question_ids)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_table_is_read_by_id(tmp_path: Path) -> None:
    path = tmp_path / "rivals.csv"
    write_rivals(path, ["a", "b"], {"p_true": np.array([0.25, np.nan])})
    found = read_rivals(path, ["c", "b", "a"])["p_true"]
    assert np.isnan(found[:2]).all() and found[2] == 0.25
    for text, message in (
        ("question_id,x\na,1\na,2\n", "two rows"),
        ("question_id,x\na,much\n", "line 2, column x: 'much' is not a number"),
        ("question_id,x\na,inf\n", "not finite"),
        ("id,x\na,1\n", "not a table of rivals"),
        ("question_id,x\na,1,2\n", "line 2 has 3 cells"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_rivals(path, ["a"])
