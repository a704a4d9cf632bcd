"""Verdicts rest on evidence: tables of each kind of truth and answer, and properties that no wording may break."""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halp_probe.labels.choice import options
from halp_probe.labels.final_answer import final_answers
from halp_probe.labels.json_answer import json_answer
from halp_probe.labels.lexicon import are_opposites, is_a, is_other_compound, mean_same
from halp_probe.labels.number import Tolerance
from halp_probe.labels.rules import judge, shape_of
from halp_probe.labels.truth import accepted_answers, human_answers, is_unanswerable

RIGHT, WRONG, UNKNOWN = 0, 1, None
ANIMAL, COLOUR = "Which animal is on the roof?", "What colour is the kettle?"
PLANTS = "Which plant is it?\nA. fern\nB. moss\nC. reed\nD. ivy"

# question, truth, answer, label
OTHER_VALUES = [
    (ANIMAL, "pigeon", "A seagull is perched on the roof.", WRONG),
    (ANIMAL, "dog", "A golden retriever is on the roof.", RIGHT),
    (ANIMAL, "pigeon", "Something feathery sits there.", UNKNOWN),
    (ANIMAL, "pigeon", "A dove is on the roof.", RIGHT),
    (COLOUR, "red", "The kettle is green.", WRONG),
    (COLOUR, "red", "The kettle is crimson.", RIGHT),
    (COLOUR, "purple", "The kettle is lavender.", UNKNOWN),
    (COLOUR, "red", "The kettle is shiny.", UNKNOWN),
    ("What is the boy sitting on?", "couch", "He sits on a sofa.", RIGHT),
    ("In which country is this?", "Portugal", "This is in Norway.", WRONG),
    ("On which day is the market?", "Tuesday", "It is on Friday.", WRONG),
    ("Which way does the sign point?", "left", "It points to the right.", WRONG),
    ("Which way does the sign point?", "right", "You are right, it points left.", WRONG),
    ("What time is it?", "7:25", "The clock shows 9:40.", WRONG),
    ("What time is it?", "7:25", "It is 7:25 in the morning.", RIGHT),
    ("Which fruit is it?", "orange", "The fruit lies in a green bowl.", UNKNOWN),
    ("Which fruit is it?", "orange", "It is a banana.", WRONG),
    ("Which fruit is it?", "banana", "It lies in an orange bowl.", UNKNOWN),
    ("Where is the lamp?", "left", "It is at the top.", UNKNOWN),
    (ANIMAL, "pigeon", "A grey, plump visitor. In the background a cow grazes.", UNKNOWN),
    (ANIMAL, "pigeon", "Let me look. The animal on the roof is a cow.", WRONG),
    (ANIMAL, "pigeon", "It is a pigeon. However, I am not sure.", UNKNOWN),
    (ANIMAL, "pigeon", "It is a cow. However, I cannot tell.", UNKNOWN),
    ("Which perfume is it?", "No. 5", "It is No. 5.", RIGHT),
    ("Which perfume is it?", "No. 5", "No.", UNKNOWN),
    ("What time is it?", "10:10 pm", "It is 10:10 am.", UNKNOWN),
    ("What time is it?", "10:10 pm", "It is ten past ten.", RIGHT),
    ("What is the score?", "10:10", "22:10", UNKNOWN),
    ("Which food is it?", "sandwich", "It is a hot dog.", UNKNOWN),
    ("Which food is it?", "cake", "It is a chocolate cake.", RIGHT),
    ("What does he hold?", "bat", "He holds a baseball bat.", RIGHT),
    ("Which animal is it?", "cat", "It is a kitten.", UNKNOWN),
    ("What is the score?", "3-2", "2-3", UNKNOWN),
    ("Which letter is on the door?", "K", "The letter is X.", WRONG),
    ("Which country is it?", "Japan", "It is a Japanese street.", RIGHT),
    ("What is the bench made of?", "wood", "It is wooden.", RIGHT),
    ("Where is the mug?", "on the couch", "It is on the sofa.", RIGHT),
    ("What is the child doing?", "playing", "The child is building a tower.", UNKNOWN),
    ("Which shape is it?", "star", "It is a triangle.", WRONG),
    ("What time is it?", "7:45", "A quarter to eight.", RIGHT),
    ("What time is it?", "half past three", "3:30", RIGHT),
    ("What time is it?", "half past three", "It is ten past three.", WRONG),
    ("Which airline is it?", "Iberia", "The plane belongs to Qantas.", WRONG),
    ("Who wrote it?", "Agatha Christie", "It was written by Christie.", UNKNOWN),
    ("Is the shop open or closed?", "open", "The shop is closed.", WRONG),
    ("What is the girl doing?", "swimming", "The girl is climbing.", WRONG),
    ("What is the girl doing?", "swimming", "The girl is standing.", UNKNOWN),
    ("What does the sign say?", "no entry", 'The sign says "Fresh bread".', WRONG),
    ("What does the plate read?", "KX51 ABC", "KX51 ADC", WRONG),
    ("Which language is it?", "C++", "C++", RIGHT),
    ("Where is the mug?", "on the shelf", "It stands on top of the shelf.", RIGHT),
    ("Where is the mug?", "on the shelf", "It is under the shelf.", UNKNOWN),
    ("What does he wear on his hands?", "gloves", "He isn't wearing anything on his hands.", WRONG),
    ("What colour is the sheep's bell?", "gold", "There is no sheep.", WRONG),
    ("What is the toy?", "bear", "It is a teddy bear.", UNKNOWN),
    ("What is the weather like?", "sunny", "The sky is clear.", UNKNOWN),
    ("What is the weather like?", "windy", "It is windy. I can't tell whether it is cold.", RIGHT),
    ("Which flag is it?", "United Kingdom", "The flag of the UK.", RIGHT),
]
LISTS = [
    ("Which colours are on the scarf?", "green, white, red", "Red, green and white.", RIGHT),
    ("Which colours are on the scarf?", "green and white", "white and green", RIGHT),
    ("Which colours are on the scarf?", "green, white, red", "It has green, white and blue stripes.", WRONG),
    ("Which colours are on the scarf?", "green and white", "green, white and red", UNKNOWN),
    ("Which colours are on the scarf?", "green, white, red", "green and white", UNKNOWN),
]
PREMISES = [
    ("What colour is the horse's saddle?", "There is no horse in the image.", "There is no horse here.", RIGHT),
    ("What colour is the horse's saddle?", "There is no horse in the image.", "The saddle is brown.", WRONG),
    ("What colour is the horse's saddle?", "There is no horse in the image.", "I cannot tell.", UNKNOWN),
    ("Why is the boy sad?", "The boy is not sad, he is smiling.", "He isn't sad at all.", RIGHT),
    ("Why is the boy sad?", "The boy is not sad, he is smiling.", "Because he lost his ball.", WRONG),
    ("What is under the table?", "unanswerable", "The picture is too dark to see it.", RIGHT),
    ("What is under the table?", "unanswerable", "A box of tools.", WRONG),
    ("What is under the table?", "N/A", "It is not visible.", RIGHT),
    ("What is under the table?", "unanswerable", "It might be a box, but I am not sure.", UNKNOWN),
    ("What is under the table?", "box", "Unanswerable", UNKNOWN),
    ("What is under the table?", "box; crate", "A crate.", RIGHT),
    ("What is it?", json.dumps(["unanswerable"] * 8 + ["jar"] * 2), "I cannot read it.", RIGHT),
    ("What is it?", json.dumps(["jar"] * 9 + ["unanswerable"]), "It is a glass jar.", RIGHT),
    ("What is it?", str(["jar"] * 10), "jar", RIGHT),
]
NUMBERS = [
    ("How many people are there?", "0", "There are no people, only 4 horses.", RIGHT),
    ("How many horses are there?", "4", "There are no people, only 4 horses.", RIGHT),
    ("How many of the five boats have sails?", "2", "Two of the five boats have sails.", RIGHT),
    ("How many of the five boats have sails?", "5", "One of the five boats has a sail.", WRONG),
    ("How many boats are moored?", "2", "Of the 7 boats, five are sailing and two are moored.", RIGHT),
    ("How many guests are there?", "6", "6 guests: 4 women and 2 men.", RIGHT),
    ("How many cows are there?", "1", "A single cow grazes.", RIGHT),
    ("How many lamps are there?", "2", "A pair of lamps.", RIGHT),
    ("How many shoes are there?", "2", "A pair of shoes.", UNKNOWN),
    ("How many rolls are there?", "13", "A baker's dozen of rolls.", RIGHT),
    ("What is the temperature?", "-8", "It is minus 8 degrees.", RIGHT),
    ("What is the temperature?", "-8", "8 °C below zero.", RIGHT),
    ("What is the temperature?", "-8", "It is 8 degrees.", WRONG),
    ("When did it open?", "1961", "Work began in 1957, and it opened in 1961.", RIGHT),
    ("What does the tea cost?", "2.40", "The cake costs 3.10, while the tea costs 2.40.", RIGHT),
    ("What does the tea cost?", "2.40", "The cake costs 2.40, while the tea costs 3.10.", WRONG),
    ("How long is the plank?", "3 m", "300 cm", RIGHT),
    ("How long is the plank?", "3 m", "3 cm", WRONG),
    ("How long is the plank?", "3 m", "3", RIGHT),
    ("How long is the plank?", "3 m", "3 kg", UNKNOWN),
    ("How tall is the mast?", "120 m", "394 feet", RIGHT),
    ("How tall is the mast?", "120 m", "390 feet", WRONG),
    ("How far is it?", "600 m", "1 km", WRONG),
    ("Which share is it?", "25%", "One quarter of it.", RIGHT),
    ("How many flags are there?", "6", "From left to right: one red, two blue, three", UNKNOWN),
    ("Which day is it?", "5", "It is Sept 5.", RIGHT),
    ("What number is on the shirt?", "2", "2 million", UNKNOWN),
    ("Which share is it?", "1/3", "0.33", RIGHT),
    ("Which share is it?", "1/3", "33%", RIGHT),
    ("Which share is it?", "1/3", "0.3", UNKNOWN),
    ("Which share is it?", "1/3", "0.35", WRONG),
    ("Which share is it?", "3/4", "0.75, more than half of it.", RIGHT),
    ("Which share is it?", "3/4", "More than half of it.", UNKNOWN),
    ("How long is the wire?", "0.5 cm", "50%", UNKNOWN),
    ("How long is the plank, in cm?", "300", "It is 3 m long.", RIGHT),
    ("Which share is it?", "1/4", "0.25", RIGHT),
    ("Which share is it?", "1/4", "25%", RIGHT),
    ("Which share is it?", "1/4", "A quarter of it.", RIGHT),
    ("Which share is it?", "1/4", "1/3", WRONG),
    ("Solve for x.", "2.5", "4x = 10\nx = 10/4 = 5/2", RIGHT),
    ("What is the value in 2014?", "5.1", "In 2014 it is 5.1 million.", RIGHT),
    ("How many are there?", "4", "Let me count. One on the left, three", UNKNOWN),
    ("Wie viele Tassen sind es?", "4", "Es sind vier Tassen.", RIGHT),
    ("图中有几只猫？", "3", "图中有三只猫。", RIGHT),
]
CHOICES = [
    (PLANTS, "C", "reed", RIGHT),
    (PLANTS, "reed", "The answer is C.", RIGHT),
    (PLANTS, "C. reed", "C", RIGHT),
    (PLANTS, "Option C", "(c) reed", RIGHT),
    (PLANTS, "C", "It is not A, because it has no fronds; it must be C.", RIGHT),
    (PLANTS, "C", '{"answer": "C"}', RIGHT),
    (PLANTS, "C", "答案：D", WRONG),
    (PLANTS, "C", "A or C", UNKNOWN),
    ("Which?" + "".join(f"\n{letter}. {letter}{letter}" for letter in "ABCDEFGHIJ"), "J", "The answer is J.", RIGHT),
    ("Which?" + "".join(f"\n{letter}. {letter}{letter}" for letter in "ABCDEFGHIJ"), "I", "I think it is J.", WRONG),
]
POLAR = [
    ("Is the gate green?", "no", "The gate is white.", RIGHT),
    ("Is the gate green?", "no", "The gate has a white handle.", UNKNOWN),
    ("Is it sunny?", "yes", "It looks cloudy.", WRONG),
    ("Are they the same?", "no", "They are different.", RIGHT),
    ("Is there a kite?", "no", "I can't find any kite.", RIGHT),
    ("Is the bus moving?", "no", "The bus is stationary.", RIGHT),
    ("Is there a bear?", "yes", "There is a teddy bear.", UNKNOWN),
    ("Is the tower taller than the tree?", "no", "The tree is taller than the tower.", RIGHT),
    ("Is the tower taller than the tree?", "yes", "The tree is shorter than the tower.", RIGHT),
    ("Is the tower taller than the tree?", "no", "They are the same height.", RIGHT),
    ("Are there three kites in the image?", "no", "There are five kites.", RIGHT),
    ("Are there three kites in the image?", "no", "There are at least two kites.", UNKNOWN),
    ("Is the stool left of the stove?", "no", "The stool is to the right of the stove.", RIGHT),
    ("Are all the cups full?", "no", "Most of the cups are full.", RIGHT),
    ("Is there a kite?", "yes", "Absolutely! It flies over the hill.", RIGHT),
    ("Is there a kite?", "no", "Absolutely not.", RIGHT),
    ("Is there a kite?", "yes", "Correct, the kite is over the hill.", RIGHT),
    ("Is there a kite?", "yes", "I doubt that there is a kite.", UNKNOWN),
    ("Is the left line longer?", "no", "At first glance, yes, it looks longer. Measured, no.", RIGHT),
    ("Is there a kite?", "1", "Yes, there is.", RIGHT),
    ("Is there a kite?", "Yes, there is one.", "No.", WRONG),
    ("¿Hay una cometa?", "yes", "Sí, hay una cometa.", RIGHT),
    ("图中有风筝吗？", "是", "图中没有风筝。", WRONG),
    ("Gibt es einen Drachen?", "no", "Nein, es gibt keinen.", RIGHT),
    ("Y a-t-il un chat ?", "yes", "Oui, il y a un chat.", RIGHT),
    ("图中有风筝吗？", "是", "抱歉，无法判断。", UNKNOWN),
]
FINAL = [
    ("Find y.", "9", "Step 1: y + 2 = 11\nStep 2: y = 11 - 2 = 9\n\\boxed{9}", RIGHT),
    ("Find y.", "9", "3 × 4 = 12. Final answer: 12", WRONG),
    ("Is there a kite?", "no", "I see yes and no signs. Yes, a string. Final answer: No", RIGHT),
    (COLOUR, "red", "It looks blue in the shade.\n**Answer:** red", RIGHT),
    (COLOUR, "red", "[THINK]It may be blue.[/THINK]Red", RIGHT),
    (COLOUR, "red", "[THINK]It may be red", UNKNOWN),
    ("Find y.", "9", "The answer is 9. The answer is 8.", UNKNOWN),
]
ALL = [*OTHER_VALUES, *LISTS, *PREMISES, *NUMBERS, *CHOICES, *POLAR, *FINAL]


@pytest.mark.parametrize(("question", "truth", "answer", "label"), ALL)
def test_verdicts(question: str, truth: str, answer: str, label: int | None) -> None:
    verdict = judge(answer, truth, question=question)
    assert verdict.label == label, verdict


@pytest.mark.parametrize(
    ("truth", "question", "rule"),
    [("0", "Is it red?", "yes_no"), ("0", "How many?", "number"), ("B. moss", PLANTS, "choice"),
     ("moss", PLANTS, "choice"),
     ("4 boats", "How many boats are there?", "number"), ("5 cm", "", "number"), ("\\frac{1}{2}", "", "math"),
     ("2x + 3", "", "math"), ("no parking", "", "contains"), ("J", "", "contains"), ("['a', 'b']", "", "vqa")],
)  # fmt: skip
def test_shapes(truth: str, question: str, rule: str) -> None:
    assert shape_of(truth, question) == rule


def test_the_lexicon_knows_what_is_what() -> None:
    assert mean_same("sofa", "couch") and mean_same("bike", "bicycle")
    assert not mean_same("soda", "pop"), "each only in a rarer sense"
    assert is_a("puppy", "dog") and not is_a("dog", "puppy") and not is_a("dog", "people")
    assert are_opposites("open", "closed") and not are_opposites("open", "red")
    assert is_other_compound("teddy", "bear") and not is_other_compound("polar", "bear")


def test_texts_are_read_as_declared() -> None:
    assert final_answers("a \\boxed{\\frac{1}{2}} b") == ("\\frac{1}{2}",)
    assert final_answers("The answer is 4. Final answer: 5.") == ("5.",)
    assert final_answers("It is not true that the answer is 4.") == ()
    assert json_answer('```json\n{"answer": "yes", "why": 1}\n```') == "yes"
    assert json_answer('{"a": 1}') is None and json_answer('{"answer": {}}') is None
    assert human_answers("['a', 2]") == ["a", "2"] and human_answers("[a]") is None
    assert accepted_answers("a; b;a") == ("a", "b") and is_unanswerable("N/A") and not is_unanswerable("none")
    assert options("Which? A. x\nC. y") == {}


def test_expressions_are_compared_by_value() -> None:
    pytest.importorskip("math_verify")
    assert judge("$\\frac{2}{4}$", "\\frac{1}{2}").label == RIGHT
    assert judge("The answer is $3 + 2x$", "2x + 3").label == RIGHT
    assert judge("$2x - 3$", "2x + 3").label == WRONG


def test_without_math_verify_another_expression_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    verdict = judge("$\\frac{2}{4}$", "\\frac{1}{2}")
    assert verdict.label is UNKNOWN and "halp_probe[math]" in verdict.reason
    assert judge("$\\frac{1}{2}$", "\\frac{1}{2}").label == RIGHT


@pytest.mark.parametrize(
    ("truth", "said", "tolerance", "label"),
    [("100", "104", Tolerance(relative=0.05), RIGHT), ("100", "106", Tolerance(relative=0.05), WRONG),
     ("0.33", "0.3333", Tolerance(decimals=2), RIGHT), ("0.33", "0.34", Tolerance(decimals=2), WRONG),
     ("100", "104", Tolerance(), WRONG), ("0.33", "1/3", Tolerance(decimals=2), RIGHT)],
)  # fmt: skip
def test_tolerance(truth: str, said: str, tolerance: Tolerance, label: int) -> None:
    assert judge(said, truth, tolerance=tolerance).label == label


# no wording may turn these right

COLOURS = st.sampled_from(["red", "green", "blue", "black", "white", "brown", "yellow", "purple", "pink", "grey"])
LENGTHS = st.sampled_from(["mm", "cm", "m", "km"])
METRES = {"mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000)}


@given(st.integers(1, 999), LENGTHS, LENGTHS)
def test_a_length_is_right_exactly_if_it_is_as_long(value: int, unit: str, other: str) -> None:
    expected = int(METRES[unit] != METRES[other])
    assert judge(f"It is {value} {other} long.", f"{value} {unit}").label == expected


@given(
    st.integers(2, 500), st.integers(2, 500), st.sampled_from(["There are {} boats.", "{} boats", "I count {} boats"])
)
def test_another_count_is_never_right(true: int, said: int, wording: str) -> None:
    verdict = judge(wording.format(said), str(true), question="How many boats are there?")
    assert verdict.label == int(true != said)


@given(st.integers(2, 500), st.integers(2, 500))
def test_a_count_of_another_thing_is_never_right_or_wrong(true: int, said: int) -> None:
    assert judge(f"There are {said} trees.", str(true), question="How many boats are there?").label is UNKNOWN


@given(COLOURS, COLOURS, st.sampled_from(["The kettle is {}.", "{}", "It's {}", "a {} kettle", "Answer: {}"]))
def test_another_colour_is_wrong_and_a_denied_one_never_right(true: str, said: str, wording: str) -> None:
    assert judge(wording.format(said), true, question=COLOUR).label == int(true != said)
    assert judge(f"The kettle is not {true}.", true, question=COLOUR).label == WRONG


@given(st.lists(COLOURS, min_size=2, max_size=4, unique=True), st.randoms())
def test_a_list_is_right_in_any_order_only_if_whole(values: list[str], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    asked = "Which colours are on the scarf?"
    truth = ", ".join(values)
    assert judge(", ".join(shuffled[:-1]) + " and " + shuffled[-1], truth, question=asked).label == RIGHT
    assert judge(f"It is {shuffled[0]}.", truth, question=asked).label is not RIGHT


@given(
    st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "The answer is {}.", "答案：{}"])
)
def test_another_option_is_wrong(true: str, said: str, wording: str) -> None:
    assert judge(wording.format(said), true, question=PLANTS).label == int(true != said)
    assert judge(options(PLANTS)[said], options(PLANTS)[true], question=PLANTS).label == int(true != said)


@given(st.sampled_from(["yes", "no"]), st.sampled_from(["sí", "no", "oui", "non", "ja", "nein", "是", "不是", "没有"]))
def test_yes_and_no_abroad(truth: str, said: str) -> None:
    polarity = "yes" if said in ("sí", "oui", "ja", "是") else "no"
    assert judge(said, truth, question="Is there a kite?").label == int(polarity != truth)


@given(st.fractions(min_value=0, max_value=5, max_denominator=40), st.fractions(0, 5, max_denominator=40))
def test_fractions_are_right_exactly_if_equal(true: Fraction, said: Fraction) -> None:
    assume(true.denominator > 1 and said.denominator > 1)
    text = f"{said.numerator}/{said.denominator}"
    assert judge(text, f"{true.numerator}/{true.denominator}").label == int(said != true)
