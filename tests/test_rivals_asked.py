"""What a model is asked about its own answers: probabilities against a plain forward pass, replies against a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import single_inputs

import halp_probe
from halp_probe.engine.images import load_image
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.records import Sample
from halp_probe.rivals.asked import asked_measures, divergence, option_ids, p_true, parse_confidence, true_or_false
from halp_probe.rivals.table import read_rivals
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow
EVERY = ("p-true", "verbalised", "no-image", "other-image")


@pytest.fixture(scope="module")
def shapes() -> LoadedModel:
    return load_weights(open_checkpoint("shapes"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=4, questions_a_scene=3, seed=500)
    return folder


def run(data: Path, output: Path, **more: Any) -> halp_probe.Extraction:
    return halp_probe.extract(
        data / "vqa.csv", data / "images", output, model="shapes", max_new_tokens=8, **{"rivals": EVERY, **more}
    )


@pytest.fixture(scope="module")
def asked(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("asked")
    run(data, output)
    return output


def first_logprobs(loaded: LoadedModel, data: Path, question: str, image: str | None) -> np.ndarray:
    """[V] from a plain forward pass of one prompt."""
    images = () if image is None else (image,)
    sample = Sample(question_id="x", image_id=image or "none", question=question, answer="", images=images)
    prompt = Prompter(checkpoint=loaded.checkpoint).prompt(
        sample, *(load_image(data / "images" / name) for name in images)
    )
    with torch.no_grad():
        return loaded.model(**single_inputs(loaded, prompt)).logits[0, -1].float().log_softmax(-1).numpy()


def test_columns_are_those_of_plain_forward_passes(data: Path, asked: Path, shapes: LoadedModel) -> None:
    shards = open_shards(asked)
    found = read_rivals(asked / "asked.csv", shards.question_ids)
    questions, answers, images = (shards.text(name) for name in ("question", "answer", "image_id"))
    tokenizer = shapes.checkpoint.processor.tokenizer
    letters = [tokenizer(text, add_special_tokens=False).input_ids[0] for text in ("A", "B")]
    for row in range(0, len(questions), 3):
        about = first_logprobs(shapes, data, true_or_false(questions[row], answers[row]), images[row])
        true, mass = p_true(about, option_ids(tokenizer))
        assert found["p_true"][row] == pytest.approx(true, rel=1e-3)
        assert (
            found["p_true_mass"][row] == pytest.approx(mass, rel=1e-3) and mass >= np.exp(about[letters]).sum() * 0.99
        )
        shown = first_logprobs(shapes, data, questions[row], images[row])
        blind = first_logprobs(shapes, data, questions[row], None)
        p, q = np.exp(shown.astype(float)), np.exp(blind.astype(float))
        assert found["no_image_kl"][row] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-3, abs=1e-5)
        assert found["no_image_tv"][row] == pytest.approx(np.abs(p - q).sum() / 2, rel=1e-3, abs=1e-5)
        candidates = [
            divergence(shown, first_logprobs(shapes, data, questions[row], other))
            for other in set(images) - {images[row]}
        ]
        assert any(
            found["other_image_kl"][row] == pytest.approx(kl, rel=1e-3, abs=1e-5)
            and found["other_image_tv"][row] == pytest.approx(tv, rel=1e-3, abs=1e-5)
            for kl, tv in candidates
        )
    assert (found["no_image_kl"] >= 0).all() and (found["no_image_tv"] <= 1).all()


def test_measures_are_higher_for_riskier(asked: Path) -> None:
    ids = open_shards(asked).question_ids
    columns, measures = read_rivals(asked / "asked.csv", ids), asked_measures(asked / "asked.csv", ids)
    np.testing.assert_allclose(measures["p_false"], 1 - columns["p_true"])
    np.testing.assert_allclose(measures["other_image_tv"], -columns["other_image_tv"])


def test_rivals_change_nothing_in_the_shards(data: Path, asked: Path, tmp_path: Path) -> None:
    run(data, tmp_path, rivals=())
    assert not (tmp_path / "asked_failures.csv").exists()
    plain, with_rivals = open_shards(tmp_path), open_shards(asked)
    assert plain.text("answer") == with_rivals.text("answer") and not (tmp_path / "asked.csv").exists()
    for name in plain.representations:
        assert plain.vectors(name).tobytes() == with_rivals.vectors(name).tobytes()


def test_what_is_missing_is_asked_later(data: Path, asked: Path, tmp_path: Path) -> None:
    """One rival after the other, the last after a stop, gives the table of all at once."""
    for rivals in ((), ("verbalised",), ("p-true",), ("no-image", "other-image"), EVERY):
        run(data, tmp_path, rivals=rivals)
        if "verbalised" in rivals:
            listed = (tmp_path / "asked_failures.csv").read_text()
        elif rivals:  # what failed before and was not asked about now stays listed
            assert (tmp_path / "asked_failures.csv").read_text() == listed
    ids = open_shards(asked).question_ids
    whole, parts = (read_rivals(folder / "asked.csv", ids) for folder in (asked, tmp_path))
    assert set(whole) == set(parts)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="seed is 0 there and 1 now"):
        run(data, tmp_path, seed=1)


def test_settings_that_mean_nothing_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'p-truth'; choose among p-true"):
        run(data, tmp_path, rivals=("p-truth",))
    with pytest.raises(InputError, match="ask about the answers"):
        run(data, tmp_path, answers=False)


def test_unparsable_replies_are_named(asked: Path) -> None:
    """The bundled model knows shapes alone."""
    ids = open_shards(asked).question_ids
    blank = np.isnan(read_rivals(asked / "asked.csv", ids)["verbalised_confidence"]).sum()
    failures = (asked / "asked_failures.csv").read_text() if (asked / "asked_failures.csv").exists() else ""
    assert failures.count("names no confidence") == blank


@pytest.mark.parametrize(
    ("reply", "confidence"),
    [
        ("85", 0.85), ("85%", 0.85), ("85 / 100", 0.85), ("I am 70 percent sure.", 0.7), ("0.9", 0.9), ("1", 0.01),
        ("0.5%", 0.005), ("100", 1), ("0", 0), ("90% (90 out of 100)", 0.9),
        ("", math.nan), ("very", math.nan), ("120", math.nan), ("-5", math.nan), ("80 or 90", math.nan),
    ],
)  # fmt: skip
def test_confidences_are_parsed(reply: str, confidence: float) -> None:
    assert parse_confidence(reply) == pytest.approx(confidence, nan_ok=True)


def test_p_true_is_renormalised_and_divergences_are_exact() -> None:
    logprobs = np.log([0.1, 0.3, 0.2, 0.4])
    assert p_true(logprobs, ([0, 1], [2])) == pytest.approx((2 / 3, 0.6))
    p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert divergence(p, q) == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.25))
    assert divergence(p, p) == (0, 0)


def test_options_that_begin_alike_are_refused() -> None:
    class Alike:
        def __call__(self, text: str, add_special_tokens: bool) -> Any:
            return type("Encoded", (), {"input_ids": [7, 8]})

    with pytest.raises(InputError, match="leave p-true out"):
        option_ids(Alike())
