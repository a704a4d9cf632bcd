"""Judging one answer: tables of real-looking answers for each rule, and properties that no wording may break."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halp_probe.labels.rules import RULES, judge, shape_of

RIGHT, WRONG, UNKNOWN = 0, 1, None
YES, NO = "yes", "no"

FLOOR = "Is the floor dirty in this image?"
STAIR = "Is there direct contact between the man and stair?"
SOFA = "Is there a dog on the sofa?"
BEACH = "Is there a beach in this image?"
CLOUD = "Is there a cloud in this image?"
HORSE = "Does the horse run in this image?"
BALLS = "Are there two footballs in this image?"
BALL = "Is there one football in this image?"
HAT = "Is the man wearing a hat?"
HIGHER = "Is the red bar higher than the blue bar?"
LEFT = "Is the woman to the left of the man?"
KNIFE = "Is there a knife to the left of the plate?"
TV = "Is the TV on?"
CHAT = "<|im_start|>user\nIs there a beach in this image?<|im_end|>\n<|im_start|>assistant\n"

# question, answer, what the answer says: yes, no, or None where it cannot be known
SAID_OUTRIGHT = [
    (BEACH, "Yes", YES),
    (BEACH, "yes.", YES),
    (BEACH, "YES!", YES),
    (BEACH, '"Yes"', YES),
    (BEACH, "No", NO),
    (BEACH, "Nope.", NO),
    (BEACH, "No, no beach.", NO),
    (BEACH, "Yes there is.", YES),
    (BEACH, "No there isn't.", NO),
    (BEACH, "**Answer**: Yes", YES),
    (BEACH, "Answer:\nNo", NO),
    (BEACH, "The answer is no.", NO),
    (BEACH, "So, no, it's not a beach.", NO),
    (BEACH, "Therefore, yes.", YES),
    (BEACH, "The image shows sand and water. Yes.", YES),
    (BEACH, "Based on the image, no, it is a lake.", NO),
    (BEACH, "Based on the image, yes, there's a beach.", YES),
    (BEACH, "Final answer: \\boxed{No}", NO),
    (BEACH, "<answer>Yes</answer>", YES),
    (BEACH, "It is hard to tell, but I would say no.", NO),
    (BEACH, "I'm sorry, but no, there is no beach.", NO),
    (BEACH, "It isn't.", NO),
    (BEACH, "There is.", YES),
    (BEACH, "Yes or no? No.", NO),
    (BEACH, "False", NO),
]
SAID_NOTHING = [
    (BEACH, "I'm sorry, I can't help with that", None),
    (BEACH, "It is unclear", None),
    (BEACH, "It cannot be determined from the image.", None),
    (BEACH, "It is not possible to tell from the image.", None),
    (BEACH, "No, it is impossible to tell.", None),
    (BEACH, "No, I cannot see the image.", None),
    (BEACH, "Yes, I can help you with that! Please provide the image.", None),
    (BEACH, "Please answer yes or no.", None),
    (BEACH, "Yes/No", None),
    (BEACH, "Yes\nNo", None),
    (BEACH, "If you mean the sand, yes.", None),
    (FLOOR, "Not", None),
    (FLOOR, "Nothing to see", None),
    (FLOOR, "Noise", None),
    (FLOOR, "Yesterday", None),
    (FLOOR, "No doubt", None),
    (FLOOR, "No one", None),
    (FLOOR, "No problem", None),
    (FLOOR, "No-one is there", None),
    (SOFA, "No. 5 is on the sofa", None),
]
CLAIMED = [
    (KNIFE, "There is no knife to the left of the plate.", NO),
    (KNIFE, "There is no knife.", NO),
    ("Can you see the moon?", "The moon is not visible", NO),
    ("Does the man have a beard?", "The man has a beard.", YES),
    ("Are there more cats than dogs?", "There are not more cats than dogs.", NO),
    ("Is the umbrella closed?", "The umbrella is open, not closed.", NO),
    ("Is the car red?", "The red car is parked.", YES),
    ("Is the glass full?", "The glass is half full", NO),
    (BALLS, "There are twenty-two footballs", NO),
    (HIGHER, "The blue bar is higher than the red bar", NO),
    (
        FLOOR,
        "Based on the image, the floor appears to be clean. It's a tiled floor, and the cat is lying on it; "
        "there's no visible dirt",
        NO,
    ),
    (STAIR, "The man is not in direct contact with the stairs. He appears to be jumping above them.", NO),
    (STAIR, "The man is in direct contact with the stair.", YES),
    (STAIR, "The man and the stairs are in direct contact.", YES),
    (STAIR, "There is no direct contact.", NO),
    (STAIR, "There's no stair in the image.", NO),
    (FLOOR, "The floor is dirty.", YES),
    (FLOOR, "There is dirt on the floor.", YES),
    (FLOOR, "The floor is very dirty", YES),
    (FLOOR, "Not dirty.", NO),
    (FLOOR, "No visible dirt on the floor", NO),
    (FLOOR, "The floor isn't dirty at all.", NO),
    (FLOOR, "The floor does not appear to be dirty", NO),
    (FLOOR, "I don't think the floor is dirty.", NO),
    (FLOOR, "The floor is free of dirt", NO),
    (FLOOR, "The floor is clean rather than dirty", NO),
    (FLOOR, "The floor is clean with no visible dirt", NO),
    (FLOOR, "The floor is dirt-free", NO),
    (SOFA, "There is no cat, but a dog on the sofa", YES),
    (SOFA, "A dog is lying on the sofa.", YES),
    (SOFA, "There is a sofa but no dog.", NO),
    (SOFA, "There's no dog sitting on the sofa.", NO),
    (SOFA, "A dog on the sofa is not visible.", NO),
    (SOFA, "There is a dog on the sofa without a collar", YES),
    (CLOUD, "The sky is filled with clouds.", YES),
    (CLOUD, "The sky is cloudless", NO),
    (CLOUD, "I don't see any clouds.", NO),
    (CLOUD, "There are zero clouds.", NO),
    (BEACH, "It is not only a beach but also a harbour", YES),
    (BEACH, "The beach is nowhere to be seen", NO),
    (HORSE, "The horse is standing still, not running.", NO),
    (HORSE, "The horse is running across a field without a rider.", YES),
    (BALL, "There is one football.", YES),
    (BALLS, "There are no footballs.", NO),
    (HAT, "He is not wearing a hat.", NO),
    (HAT, "The man is wearing no hat.", NO),
    (HIGHER, "The red bar is higher than the blue bar", YES),
    (LEFT, "The woman is not to the left of the man.", NO),
    ("Do you see a cat?", "I see a cat.", YES),
    ("Does the image contain a cat?", "The image does not contain any cats.", NO),
]
CLAIMED_NOTHING = [
    (KNIFE, "There is no knife to the right of the plate, it's to the left", None),
    (CLOUD, "There is no cloud on the left.", None),
    (CLOUD, "In the background there is no cloud", None),
    (SOFA, "There is no dog under the sofa", None),
    ("Is the door open?", "The door is not fully open", None),
    ("Is the umbrella closed?", "The umbrella is not open, it is closed.", None),
    ("Are there more cats than dogs?", "There are more dogs than cats.", None),
    ("Is the car red?", "There's a red bus next to the car", None),
    ("Is the man riding a horse?", "The horse is riding a man", None),
    ("Is there only one cat?", "There is one cat.", None),
    (CLOUD, "There are no dark clouds, only white fluffy clouds", None),
    (FLOOR, "The cat is not dirty", None),
    (FLOOR, "The cat on the floor is dirty", None),
    (FLOOR, "There's no dirt on the wall", None),
    (FLOOR, "The floor is clean", None),
    (FLOOR, "It is false that the floor is dirty", None),
    (FLOOR, "It is unlikely that the floor is dirty", None),
    (FLOOR, "The floor might be dirty", None),
    (FLOOR, "Is the floor dirty?", None),
    (FLOOR, "The floor is not very dirty", None),
    (FLOOR, "The floor is partly dirty", None),
    (SOFA, "There is no cat on the sofa; the dog is sleeping on it", None),
    (SOFA, "There is no dog on the floor, but one on the sofa", None),
    (SOFA, "There is no cat and a dog is on the sofa", None),
    (SOFA, "There are no other dogs on the sofa", None),
    (SOFA, "There is a toy dog on the sofa", None),
    (STAIR, "The woman has no direct contact with the man", None),
    (STAIR, "The man is in direct contact with the chair next to the stair", None),
    (STAIR, "There is no stair railing", None),
    (BEACH, "There is a beach umbrella", None),
    (BEACH, "Beach: not sure which", None),
    (CLOUD, "There are no mountains, clouds or rivers to be seen", None),
    (CLOUD, "The sky is clear with clouds absent", None),
    (CLOUD, "If there were a cloud, it would rain", None),
    (BALLS, "There is not one football but two", None),
    (BALLS, "There are one or two footballs", None),
    (BALLS, "There are more than two footballs", None),
    (HAT, "The woman is not wearing a hat.", None),
    (HAT, "The woman next to the man is wearing a hat", None),
    (LEFT, "The man is to the left of the woman.", None),
    (TV, "The TV is on the wall", None),
    ("Is the cat under the table?", "The cat is on the table", None),
    ("Is the man at the table?", "The man and the table are visible", None),
    ("Is the dog black?", "The dog has a black collar", None),
    ("Is the dog running?", "The owner of the dog is running", None),
    ("Is this a dog?", "This is a cat sitting next to a dog", None),
    ("Are the people wearing hats?", "Most people are wearing hats", None),
    ("Is the man wearing a hat or glasses?", "He is not wearing glasses", None),
    ("Isn't there a dog on the sofa?", "There is no dog on the sofa", None),
    ("Is there no dog on the sofa?", "There is no dog on the sofa", None),
    ("Is the cat not on the sofa?", "The cat is not on the sofa", None),
]
CONFLICTING = [
    (FLOOR, "Yes, the floor is not dirty", None),
    (SOFA, "No. There is a dog on the sofa.", None),
]
ECHOED = [
    (BEACH, "User: Is there a beach in this image? Assistant: Yes", YES),
    (BEACH, "USER: <image>\nIs there a beach in this image? ASSISTANT: No", NO),
    (BEACH, CHAT + "No<|im_end|>", NO),
    (BEACH, "user\nIs there a beach in this image?\nassistant\nNo", NO),
    (BEACH, "[INST] Is there a beach in this image? [/INST] Yes</s>", YES),
    (BEACH, "Is there a beach in this image? Yes", YES),
    (BEACH, "Question: Is there a beach in this image? Answer: no", NO),
    (BEACH, "<think>perhaps yes</think>No", NO),
    (BEACH, "<think>yes, it may", None),
    # turns that the model invented after its answer are not its answer
    (BEACH, "USER: Is there a beach in this image? ASSISTANT: No. USER: Is it sunny? ASSISTANT: Yes", NO),
    (BEACH, "No\nUser: Is it sunny?\nAssistant: Yes", NO),
    (BEACH, "USER: Is there a beach in this image?\nASSISTANT: No.\nUSER: Is it sunny?\nASSISTANT:\nYes", NO),
]
YES_NO = [*SAID_OUTRIGHT, *SAID_NOTHING, *CLAIMED, *CLAIMED_NOTHING, *CONFLICTING, *ECHOED]


@pytest.mark.parametrize(("question", "answer", "says"), YES_NO)
@pytest.mark.parametrize("truth", ["yes", "No"])
def test_yes_no(question: str, answer: str, says: str | None, truth: str) -> None:
    verdict = judge(answer, truth, question=question)
    assert verdict.label == (None if says is None else int(says != truth.lower())), verdict
    assert verdict.rule == "yes_no"
    assert verdict.answer == (says or "")
    assert verdict.truth == truth.lower()


def test_conflicting_evidence_is_named() -> None:
    assert {judge(a, "yes", question=q).reason for q, a, _ in CONFLICTING} == {"evidence conflicts"}
    assert judge("I'm sorry, I can't help with that", "yes").reason == "refusal"
    assert judge("A sandy place", "yes").reason == "no yes/no could be read"


# truth, answer, label; no question
NUMBERS = [
    ("4", "In the image, there are a total of 4 dogs.", RIGHT),
    ("20", "5 x 4 = 20", RIGHT),
    ("2020", "two thousand and twenty", RIGHT),
    ("-3", "–3°C", RIGHT),
    ("0", "No one is visible.", RIGHT),
    ("0", "There is no clear answer", UNKNOWN),
    ("3", "Two on the left and one on the right.", UNKNOWN),
    ("3", "The answer is not 3.", UNKNOWN),
    ("1", "1/3", UNKNOWN),
    ("1990", "nineteen ninety", UNKNOWN),
    ("3", "There are 3 dogs.", RIGHT),
    ("3", "three", RIGHT),
    ("three", "3.0", RIGHT),
    ("3", "There are four dogs.", WRONG),
    ("3.5", "3.50 kg", RIGHT),
    ("1200", "1,200 people", RIGHT),
    ("1,200,000", "1.2 million", RIGHT),
    ("21", "twenty-one", RIGHT),
    ("105", "one hundred and five", RIGHT),
    ("12", "a dozen eggs", RIGHT),
    ("6", "half a dozen", RIGHT),
    ("5", "5km", RIGHT),
    ("-5", "It is -5 degrees.", RIGHT),
    ("50%", "50", RIGHT),
    ("2", "2 + 1 = 3, so the answer is 3.", WRONG),
    ("3", "There are 2 brown and 1 black dog. Answer: 3", RIGHT),
    ("3", "2 brown and 1 black: a total of 3 dogs", RIGHT),
    ("3", "3\nTwo are brown and 1 is black.", RIGHT),
    ("3", "Three. Two are brown and one is black.", RIGHT),
    ("3", "\\boxed{3}", RIGHT),
    ("3", "No, there are 3", RIGHT),
    ("3", "There are three (3) dogs", RIGHT),
    ("0", "There are no dogs in the image.", RIGHT),
    ("0", "None", RIGHT),
    ("0", "There aren't any dogs", RIGHT),
    ("2", "none", WRONG),
    ("3", "three dogs and no cats", RIGHT),
    ("3", "2 cats and 3 dogs", UNKNOWN),
    ("3", "two or three", UNKNOWN),
    ("3", "3-4", UNKNOWN),
    ("3", "Answer: 3 or 4", UNKNOWN),
    ("3", "The answer is 3. The answer is 4.", UNKNOWN),
    ("3", "at least 3", UNKNOWN),
    ("3", "There aren't 3", UNKNOWN),
    ("1", "the red one", UNKNOWN),
    ("1", "This one", UNKNOWN),
    ("1", "one of the dogs", UNKNOWN),
    ("1", "There is only one.", RIGHT),
    ("1", "one dog", RIGHT),
    ("2", "one dog on the left and one on the right", UNKNOWN),
    ("2", "one dog on the left and another on the right", UNKNOWN),
    ("2", "There is one dog and a cat", UNKNOWN),
    ("2", "1. cat\n2. dog", UNKNOWN),
    ("19", "COVID-19", UNKNOWN),
    ("1", "the 1st", UNKNOWN),
    ("3", "several", UNKNOWN),
    ("3", "It's hard to tell, maybe 3", UNKNOWN),
    ("0.5", "50%", RIGHT),
    ("2", "2 million", UNKNOWN),
    ("10", "10:30", UNKNOWN),
]


@pytest.mark.parametrize(("truth", "answer", "label"), NUMBERS)
def test_number(truth: str, answer: str, label: int | None) -> None:
    verdict = judge(answer, truth)
    assert (verdict.label, verdict.rule) == (label, "number"), verdict


def test_no_such_thing_is_zero_only_for_the_thing_asked_about() -> None:
    assert judge("There are no dogs", "0", question="How many dogs are there?").label == RIGHT
    assert judge("There are no dogs", "2", question="How many dogs are there?").label == WRONG
    assert judge("There are no dogs", "0", question="How many animals are there?").label is UNKNOWN


OPTIONS = "Which animal is it?\nA. cat\nB. dog\nC. cow"
# truth, answer, label
CHOICES = [
    ("C", "C. Because it's red", RIGHT),
    ("A", "Both A and B", UNKNOWN),
    ("D", "D-day", UNKNOWN),
    ("E", "E.g., a dog", UNKNOWN),
    ("B", "The answer is not B", UNKNOWN),
    ("B", "Answer: None of the above", UNKNOWN),
    ("B", "B", RIGHT),
    ("B", "b", RIGHT),
    ("(b)", "(B)", RIGHT),
    ("B", "B. dog", RIGHT),
    ("B", "B) dog", RIGHT),
    ("B", "B: dog", RIGHT),
    ("B", "C.", WRONG),
    ("A", "A", RIGHT),
    ("A", "A.", RIGHT),
    ("A", "a", RIGHT),
    ("B", "A", WRONG),
    ("B", "The answer is (B).", RIGHT),
    ("B", "Answer: C", WRONG),
    ("B", "The correct option is B because it barks", RIGHT),
    ("B", "Option B", RIGHT),
    ("B", "\\boxed{B}", RIGHT),
    ("B", "$\\boxed{\\text{B}}$", RIGHT),
    ("B", "(A) cat (B) dog. Answer: B", RIGHT),
    ("B", "Option A is incorrect. I choose option B.", RIGHT),
    ("A", "A dog is here", UNKNOWN),
    ("A", "The answer is a dog", UNKNOWN),
    ("A", "The answer is A dog", UNKNOWN),
    ("A", "I think so", UNKNOWN),
    ("A", "A or B", UNKNOWN),
    ("A", "A, C", UNKNOWN),
    ("A", "Answer: A or B", UNKNOWN),
    ("A", "The answer is A. No, the answer is B.", UNKNOWN),
    ("A", "Option A or option B", UNKNOWN),
    ("B", "B\nOn reflection the answer is C.", UNKNOWN),
    ("B", "I cannot answer that", UNKNOWN),
]


@pytest.mark.parametrize(("truth", "answer", "label"), CHOICES)
def test_choice(truth: str, answer: str, label: int | None) -> None:
    verdict = judge(answer, truth)
    assert (verdict.label, verdict.rule) == (label, "choice"), verdict


@pytest.mark.parametrize("question", [OPTIONS, "Which? (A) cat (B) dog (C) cow", "Which? A: cat, B: dog, C: cow"])
def test_an_options_text_is_its_letter(question: str) -> None:
    assert judge("dog", "B", question=question).label == RIGHT
    assert judge("The answer is Cat.", "B", question=question).label == WRONG
    assert judge("horse", "B", question=question).label is UNKNOWN
    assert judge("A. dog", "B", question=question).label is UNKNOWN, "letter and text disagree"
    assert judge("B. dog", "B", question=question).label == RIGHT


# question, truth, answer, label
CONTAINED = [
    ("", "red", "It's neither red nor blue", WRONG),
    ("", "dog", "The dog is not barking", RIGHT),
    ("", "bathroom", "The man is in a kitchen, not a bathroom", WRONG),
    ("", "McDonald's", "mcdonald’s", RIGHT),
    ("", "woman", "a man", WRONG),
    ("", "unanswerable", "Unanswerable.", RIGHT),
    ("", "hat", "a man who isn't wearing a hat", UNKNOWN),
    ("", "red", "The car is red.", RIGHT),
    ("", "Red", "a RED car", RIGHT),
    ("", "red", "The car is blue", WRONG),
    ("", "red", "A bored man", WRONG),
    ("", "red", "It is not red", WRONG),
    ("", "red", "It isn't really red.", WRONG),
    ("", "red", "It's not red, it is blue", WRONG),
    ("", "red", "It is red, not blue", RIGHT),
    ("", "red", "It is not red. It is red.", UNKNOWN),
    ("", "red", "red or blue", UNKNOWN),
    ("", "red", "It's either blue or red.", UNKNOWN),
    ("", "red", "red, blue and green", UNKNOWN),
    ("", "red", "a red car and a blue bus", RIGHT),
    ("", "circle", "circles", RIGHT),
    ("", "boxes", "a box", RIGHT),
    ("", "tshirt", "a t-shirt", RIGHT),
    ("", "2 dogs", "two dogs", RIGHT),
    ("", "café", "It is a cafe", RIGHT),
    ("", "Paris", "Paris, France", RIGHT),
    ("", "red", "红色", UNKNOWN),
    ("", "red", "I'm sorry, I can't help with that", UNKNOWN),
    ("", "a man surfing on a big wave", "a person riding a wave", UNKNOWN),
    ("", "a man surfing on a big wave", "There is a man surfing on a big wave.", RIGHT),
    ("", "red", "none", WRONG),
    ("", "none", "none", RIGHT),
    ("", "none", "There is none.", RIGHT),
    ("", "none", "Nothing", RIGHT),
    ("What colour is the star?", "none", "There is no star", RIGHT),
    ("What colour is the star?", "none", "There isn't a star in the image.", RIGHT),
    ("What colour is the star?", "none", "The star is red", WRONG),
    ("What colour is the star?", "none", "There is no circle", UNKNOWN),
    ("What colour is the star?", "none", "The star is not red", UNKNOWN),
    ("What is left of the red circle?", "red", "The shape left of the red circle is blue", UNKNOWN),
    ("Is the car red or blue?", "red", "The car is red", RIGHT),
]


@pytest.mark.parametrize(("question", "truth", "answer", "label"), CONTAINED)
def test_contains(question: str, truth: str, answer: str, label: int | None) -> None:
    verdict = judge(answer, truth, question=question)
    assert (verdict.label, verdict.rule) == (label, "contains"), verdict


@pytest.mark.parametrize(
    ("truth", "answer", "label"),
    [
        ("the red car", "Red car.", RIGHT),
        ("red", "the car is red", WRONG),
        ("don't walk", "Dont walk!", RIGHT),
        ("+", "+", RIGHT),
        ("red", "I'm sorry, I cannot see the image.", UNKNOWN),
    ],
)
def test_exact(truth: str, answer: str, label: int | None) -> None:
    assert judge(answer, truth, rule="exact").label == label


@pytest.mark.parametrize(
    ("truth", "answer", "label"),
    [
        ("2", "two", RIGHT),
        ("dont walk", "Don't walk.", RIGHT),
        ("a red car", "the red car", RIGHT),
        ("red", "a red car", WRONG),
        ('["red", "red", "red", "blue"]', "Red", RIGHT),
        ('["red", "red", "red", "blue"]', "blue", UNKNOWN),
        ('["red", "red", "red", "blue"]', "green", WRONG),
        ('["red", "blue"]', "blue", RIGHT),
        ('["1,000", "1000", "1000"]', "1000", RIGHT),
        ("[]", "red", UNKNOWN),
    ],
)
def test_vqa(truth: str, answer: str, label: int | None) -> None:
    assert judge(answer, truth, rule="vqa").label == label


@given(st.lists(st.sampled_from(["red", "blue", "green"]), min_size=3, max_size=10))
def test_vqa_accuracy_of_a_list(humans: list[str]) -> None:
    accuracy = min(1.0, humans.count("red") / 3)
    expected = {1.0: RIGHT, 0.0: WRONG}.get(accuracy, UNKNOWN)
    assert judge("red", json.dumps(humans)).label == expected


def test_a_sentence_is_not_held_against_short_human_answers() -> None:
    truth = '["red", "red", "red"]'
    assert judge("The car is red", truth).label == RIGHT
    assert judge("The car is red", truth, rule="vqa").label == WRONG, "the benchmark's own measure is equality"
    assert judge("The car is blue", truth).label == WRONG


@pytest.mark.parametrize(
    ("truth", "rule"),
    [("Yes", "yes_no"), ("no.", "yes_no"), ("3", "number"),
     ("1,200.5", "number"), ("twenty", "number"), ("$5", "number"),
     ("B", "choice"), ("(c)", "choice"), ("b", "choice"), ("a", "contains"), ("I", "contains"), ("i", "contains"),
     ('["a"]', "vqa"), ("red", "contains"), ("none", "contains"), ("[unclear]", "contains"), ("3 dogs", "contains")],
)  # fmt: skip
def test_auto_goes_by_the_ground_truths_shape(truth: str, rule: str) -> None:
    assert shape_of(truth) == rule
    assert judge("something", truth).rule == rule


def test_a_lone_small_a_is_an_option_where_options_are_listed() -> None:
    assert shape_of("a", OPTIONS) == "choice"


@pytest.mark.parametrize(("rule", "truth"), [("number", "red"), ("yes_no", "red"), ("choice", "red"), ("exact", "[1]")])
def test_a_truth_that_does_not_fit_the_rule_is_unknown(rule: str, truth: str) -> None:
    verdict = judge("red", truth, rule=rule)
    assert (verdict.label, verdict.rule) == (None, rule)
    assert "ground truth" in verdict.reason


@pytest.mark.parametrize("rule", RULES)
def test_blank_texts_are_unknown(rule: str) -> None:
    for answer, truth, reason in [("red", " \n", "no ground truth"), (" ", "red", "empty answer")]:
        verdict = judge(answer, truth, rule=rule)
        assert (verdict.label, verdict.reason) == (None, reason)
        assert verdict.rule != "auto"


def test_another_rule_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(ValueError, match="auto, exact, vqa, yes_no, choice, number, contains"):
        judge("red", "red", rule="fuzzy")


WORDS = st.lists(
    st.sampled_from(["red", "dog", "cat", "car", "man", "blue", "tree", "sky", "old", "two"]), min_size=1, max_size=5
)
TEXTS = WORDS.map(" ".join)
JUDGED = st.one_of(
    st.sampled_from([(q, a, t) for q, a, _ in YES_NO for t in ("yes", "no")]),
    st.sampled_from([("", a, t) for t, a, _ in NUMBERS + CHOICES]),
    st.sampled_from([(q, a, t) for q, t, a, _ in CONTAINED]),
)


@given(
    st.one_of(
        st.tuples(st.just("yes_no"), st.sampled_from(["yes", "No", "TRUE"])),
        st.tuples(st.just("number"), st.integers(-(10**12), 10**12).map(str)),
        st.tuples(st.just("number"), st.integers(1000, 10**12).map("{:,}".format)),
        st.tuples(st.just("number"), st.decimals(0, 10**6, places=3).map(str)),
        st.tuples(st.just("choice"), st.sampled_from("ABCDEFGH")),
        st.tuples(st.sampled_from(["exact", "contains", "vqa"]), TEXTS),
    )
)
def test_the_ground_truth_itself_is_right(case: tuple[str, str]) -> None:
    rule, truth = case
    assert judge(truth, truth, rule=rule).label == RIGHT
    assert judge(truth, truth).label == RIGHT, "and by shape too"


@given(st.integers(0, 10**9), st.integers(0, 10**9))
@example(3, 30)
def test_a_number_is_right_exactly_if_equal(said: int, true: int) -> None:
    assert judge(f"There are {said:,} of them.", str(true), rule="number").label == int(said != true)


@given(TEXTS)
def test_a_leading_yes_flips_with_the_truth(rest: str) -> None:
    for lead, other in [("Yes", "no"), ("No", "yes")]:
        assert judge(f"{lead}. {rest}", lead.lower()).label == RIGHT
        assert judge(f"{lead}. {rest}", other).label == WRONG


@given(JUDGED)
def test_an_echoed_prompt_changes_nothing(case: tuple[str, str, str]) -> None:
    question, answer, truth = case
    expected = judge(answer, truth, question=question)
    asked = question or "What do you see?"
    for before in (f"User: {asked} Assistant: ", f"USER: <image>\n{asked}\nASSISTANT: ", f"user\n{asked}\nassistant\n"):
        if "ser: " not in answer.lower() and "user\n" not in answer and "im_start" not in answer:
            assert judge(before + answer, truth, question=question) == expected
    markers = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>"
    if "user" not in answer.lower():
        assert judge(markers, truth, question=question) == expected


@given(JUDGED, st.sampled_from(["  {}\n", "**{}**", "`{}`", "\u200b{}", "\ufeff{} "]))
def test_space_and_markdown_change_nothing(case: tuple[str, str, str], frame: str) -> None:
    question, answer, truth = case
    assert judge(frame.format(answer), truth, question=question) == judge(answer, truth, question=question)
    curly = answer.replace("'", "’").replace(" ", "  ")
    assert judge(curly, truth, question=question) == judge(answer, truth, question=question)


@given(st.sampled_from([(q, a, t) for q, a, _ in YES_NO if "ser" not in a.lower() for t in ("yes", "no")]))
def test_case_changes_no_yes_no(case: tuple[str, str, str]) -> None:
    question, answer, truth = case
    for other in (answer.upper(), answer.lower()):
        assert judge(other, truth.upper(), question=question).label == judge(answer, truth, question=question).label


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=30), st.sampled_from(RULES))
def test_any_text_gets_a_verdict(answer: str, truth: str, question: str, rule: str) -> None:
    verdict = judge(answer, truth, question=question, rule=rule)
    assert verdict.label in (0, 1, None)
    assert verdict.rule in RULES[1:]
    assert verdict.reason


def test_rules_need_the_standard_library_alone() -> None:
    names = ("torch", "transformers", "h5py", "numpy")
    code = f"import sys, halp_probe.labels.rules; print([m for m in {names} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "answer",
    ["Let me look at the image for a beach.", "First, let's check for a beach", "It looks similar to a beach."],
)
def test_a_mention_is_no_claim_that_it_is_there(answer: str) -> None:
    assert judge(answer, "no", question="Is there a beach in this image?").label is None


@pytest.mark.parametrize(("truth", "label"), [("Y", 0), ("N", 1)])
def test_one_letter_yes_and_no(truth: str, label: int) -> None:
    assert judge("Yes.", truth, question="Is there a beach?").label == label


@pytest.mark.parametrize("answer", ["–3°C", "**–3°C**", "(−3)", "It is _–3_ degrees."])
def test_a_minus_sign_in_any_dress(answer: str) -> None:
    assert judge(answer, "-3").label == 0
    assert judge(answer, "3").label == 1
