"""What held-out questions say: accuracies counted by hand, and answers that are the model's own."""

from __future__ import annotations

import csv
import json
from statistics import NormalDist

import pytest

from halp_probe.finetuning.evaluation import Row, ask, summary
from halp_probe.finetuning.outputs import evaluation_text, write_evaluation
from halp_probe.finetuning.records import Conversation, Turn
from halp_probe.labels.rules import judge
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.shapes import questions, scenes


def row(truth: str, right: bool | None, swapped: bool | None = False, source: str = "a") -> Row:
    return Row(
        source=source,
        key="k",
        question="What?",
        truth=truth,
        answer="said",
        right=right,
        answer_swapped="other",
        right_swapped=swapped,
    )


def test_accuracies_are_those_counted_by_hand(tmp_path):
    rows = [row("Yes", True, True), row("yes", True), row("no", False), row("red", True), row("x", None, None)]
    found = write_evaluation(tmp_path, [*rows, row("long", None, None, source="b")])
    assert found == json.loads((tmp_path / "evaluation.json").read_text())
    a = found["a"]
    assert (a["questions"], a["judged"], a["accuracy"], a["swapped_accuracy"]) == (5, 4, 0.75, 0.25)
    assert (a["majority_answer"], a["majority_accuracy"]) == ("yes", 0.5)
    assert a["accuracy_95"] == pytest.approx(wilson(3, 4))
    assert found["b"] == {"questions": 1, "judged": 0, "accuracy": None}
    with (tmp_path / "evaluation.csv").open() as file:
        assert [line["right"] for line in csv.DictReader(file)] == ["1", "1", "0", "1", "", ""]
    assert "75.0% of 4" in evaluation_text(found) and "none of which a rule can judge" in evaluation_text(found)


def test_a_swapped_answer_that_no_rule_can_judge_is_not_a_wrong_one():
    found = summary([row("no", True, None), row("no", True, True), row("no", False, False)])["a"]
    assert (found["swapped_judged"], found["swapped_accuracy"]) == (2, 0.5)
    none = summary([row("no", True, None)])
    assert none["a"]["swapped_accuracy"] is None
    assert "another question's picture: not judged" in evaluation_text(none)


def test_the_most_frequent_answer_is_judged_by_the_same_rules():
    assert (
        summary([row("2", True), row("2", True), row("two", False), row("3", False)])["a"]["majority_accuracy"] == 0.75
    )


def test_pictures_are_swapped_for_ones_of_other_content(tmp_path):
    """The same picture under two names is none."""
    loaded = load_weights(open_checkpoint("shapes"), device="cpu")
    scene, other = scenes.make_scene(0), scenes.make_scene(1)
    asked = Turn("Which shapes are in the image?", "")
    for name, drawn in (("a", scene), ("b", scene), ("c", other)):
        scenes.render(drawn).save(tmp_path / f"{name}.png")
    a, b, c = (
        Conversation(source="shapes", key=name, image=tmp_path / f"{name}.png", turns=(asked,)) for name in "abc"
    )
    rows = ask(loaded, [a, b, c], batch_size=2, max_new_tokens=4)
    assert [each.answer_swapped for each in rows] == [rows[2].answer, rows[2].answer, rows[0].answer]
    assert [each.answer_swapped for each in ask(loaded, [a, b], batch_size=2, max_new_tokens=4)] == ["", ""]
    assert [each.answer_swapped for each in ask(loaded, [c], batch_size=2, max_new_tokens=4)] == [""]


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson 1927, written out."""
    z, p = NormalDist().inv_cdf(0.975), right / n
    centre, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def test_answers_are_the_models_own_and_fall_with_swapped_pictures(tmp_path):
    """The bundled model on scenes it has not seen, against `generate` on each prompt."""
    loaded = load_weights(open_checkpoint("shapes"), device="cpu")
    held_out = []
    for seed in range(40):
        scene = scenes.make_scene(seed)
        scenes.render(scene).save(tmp_path / f"{seed}.png")
        first = questions.ask(scene, 1)[0]
        turns = (Turn(first.text, first.answer), Turn("And?", "Nothing."))
        held_out.append(Conversation(source="shapes", key=str(seed), image=tmp_path / f"{seed}.png", turns=turns))
    held_out.append(Conversation(source="shapes", key="text", image=None, turns=(Turn("Hello?", "Hello."),)))
    rows = ask(loaded, held_out, batch_size=7, max_new_tokens=8)
    assert [each.key for each in rows] == [str(seed) for seed in range(40)]
    for k, each in enumerate(rows[:6]):
        assert each.answer == generated(loaded, held_out[k].image, each.question)
        assert each.answer_swapped == generated(loaded, held_out[k + 1].image, each.question)
        assert each.right == (judge(each.answer, each.truth, question=each.question).label == 0)
    calls = iter([False, False, True])
    assert ask(loaded, held_out, batch_size=7, max_new_tokens=8, should_stop=lambda: next(calls)) is None
    found = summary(rows)["shapes"]
    assert found["accuracy"] > 0.7 > found["swapped_accuracy"] + 0.1


def generated(loaded, path, question: str) -> str:
    processor = loaded.checkpoint.processor
    content = [{"type": "image", "path": str(path)}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    ids = loaded.model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
