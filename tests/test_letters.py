"""Which option a reply chooses: a table of real-looking replies, and properties that no wording may break."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halp_probe.labels.letters import LETTERS, read_choice

CANNOT = "Cannot answer from the image"
COLOURS = ("red", "blue", "green", CANNOT)
ANIMALS = ("a cat", "a dog", "a horse", CANNOT)
YES_NO = ("No", "Yes")
WEATHER = ("Snow", "Rain", "Fog")
COUNTS = ("3", "2", "1", "4")
SHADES = ("red", "dark red", "red and blue", "blue")
NONE = ("a bus", "a tram", "None of the above", "All of the above")
NINE = ("ant", "bee", "crow", "deer", "eel", "fox", "goat", "hen", "ibis")
PHRASES = ("on the left", "on the right", "in the middle", "It is not visible")
SIZES = ("S", "M", "L", "XL")
A, B, C, D, I = 0, 1, 2, 3, 8  # noqa: E741
NOTHING = None

# options, reply, the index of the option that it chooses (None: none can be read)
SAID = [
    # declared
    (COLOURS, "Answer: B", B),
    (COLOURS, "answer: b", B),
    (COLOURS, "ANSWER: B.", B),
    (COLOURS, "**Answer:** B", B),
    (COLOURS, "**Answer: B**", B),
    (COLOURS, "Answer:\nB", B),
    (COLOURS, "Answer: (B) blue", B),
    (COLOURS, "Answer: B. blue", B),
    (COLOURS, "Answer: `B`", B),
    (COLOURS, "Answer: “B”", B),
    (COLOURS, "The answer is (B).", B),
    (COLOURS, "The correct answer is B", B),
    (COLOURS, "The correct answer is: **B. blue**", B),
    (COLOURS, "So the best option is C, because the car is green.", C),
    (COLOURS, "final answer: **B**", B),
    (COLOURS, "Final Answer\n\nB", B),
    (COLOURS, "$\\boxed{B}$", B),
    (COLOURS, "The car is parked.\n\n\\[\\boxed{\\text{B}}\\]", B),
    (COLOURS, "\\boxed{\\textbf{(C) green}}", C),
    (COLOURS, "Therefore, the final answer is $\\boxed{C}$.", C),
    (COLOURS, "Option B is correct.", B),
    (COLOURS, "option b is correct", B),
    (COLOURS, "B is the correct answer.", B),
    (COLOURS, "Looking at the car, (C) is correct since it is green.", C),
    (COLOURS, "A is correct because the car is red.", A),
    (COLOURS, "A is wrong, so C is correct.", C),
    (COLOURS, "I think B", B),
    (COLOURS, "I think it's B.", B),
    (COLOURS, "I believe the answer is B, since the car is blue.", B),
    (COLOURS, "I would choose option C.", C),
    (COLOURS, "I'd go with (A).", A),
    (COLOURS, "My answer is D", D),
    (COLOURS, "Let me look. A car is parked in front of a house. The car is blue. So, B.", B),
    (COLOURS, "A car is parked. It might be red, but no: it is blue.\n\nAnswer: B", B),
    (COLOURS, "A. red\nB. blue\nC. green\nD. Cannot answer from the image\n\nAnswer: C", C),
    (COLOURS, "Question:\nWhich colour?\n\nOptions:\nA. red\nB. blue\n\nThe answer is B", B),
    (COLOURS, "<think>It may be A. No, it is B.</think>\n\nAnswer: B", B),
    (COLOURS, "It is A... wait.</think>B", B),
    (COLOURS, "<think>Answer: A</think><think>Answer: B</think>The answer is C.", C),
    (COLOURS, "<answer>B</answer>", B),
    (COLOURS, "The answer is C, not B.", C),
    (COLOURS, "It is not B; the answer is C.", C),
    (COLOURS, "The answer is the car's colour, which is blue.", B),
    (COLOURS, "Answer: blue", B),
    (COLOURS, "The answer is **Blue**.", B),
    (COLOURS, "Answer: 2", B),
    (COLOURS, "Answer: A. Wait, no. Final answer: B", B),
    (COLOURS, "Answer: A. Wait, no. Final choice: B", B),
    (COLOURS, "答案：A。不对。最终答案：B", B),
    (COLOURS, "The answer is A. Hmm, the roof is blue.\n\n**Final Answer: B**", B),
    (COLOURS, "B\n\nExplanation: the car is blue. The answer is B.", B),
    (COLOURS, "The correct answer is option (B) blue, not (A) red.", B),
    (COLOURS, "The answer to the question is B.", B),
    (COLOURS, "Selected option: B", B),
    (COLOURS, "The correct letter is B", B),
    (COLOURS, "正确的选项是B", B),
    (COLOURS, "选项 B 是正确的", B),
    (COLOURS, "Option A says red, option B says blue. The car is blue, so option B.", B),
    (COLOURS, "The car appears red, which corresponds to option A.", A),
    (COLOURS, "The image does not say. Answer: D. Cannot answer from the image", D),
    (COLOURS, "I'm unable to see the car, so D.", D),
    (COLOURS, "The answer is blue, because the car is blue.", B),
    (COLOURS, "It is blue (not red).", B),
    (COLOURS, "A. The answer is told by the blue sign.", A),
    (COLOURS, '{"answer": "B"}', B),
    (COLOURS, '```json\n{"answer": "B", "reason": "The car is blue."}\n```', B),
    (COLOURS, "The answer is most likely B.", B),
    (COLOURS, "The correct answer is probably (B).", B),
    (COLOURS, "The answer appears to be B.", B),
    (COLOURS, "I would answer B.", B),
    (COLOURS, "The answer is B. Wait, let me look again. Yes, B.", B),
    (COLOURS, "Wait, is it A? No. The answer is B.", B),
    (COLOURS, "Option A would be correct if the car were red, but it is blue.", B),
    # declared in Chinese
    (COLOURS, "答案：B", B),
    (COLOURS, "答案是B。", B),
    (COLOURS, "正确答案为（Ｃ）。", C),
    (COLOURS, "选B", B),
    (COLOURS, "因为车是蓝色的，所以选Ｂ。", B),
    (COLOURS, "我选择选项B。", B),
    (COLOURS, "B选项正确", B),
    (COLOURS, "图中的车是绿色，故选：C", C),
    # a bare letter
    (COLOURS, "B", B),
    (COLOURS, " B \n", B),
    (COLOURS, "B.", B),
    (COLOURS, "B。", B),
    (COLOURS, "B、", B),
    (COLOURS, "Ｂ", B),
    (COLOURS, "（Ｂ）", B),
    (COLOURS, "(B)", B),
    (COLOURS, "[B]", B),
    (COLOURS, "**B**", B),
    (COLOURS, "**B.** blue", B),
    (COLOURS, "'B'", B),
    (COLOURS, "B) blue", B),
    (COLOURS, "B: blue", B),
    (COLOURS, "B - blue", B),
    (COLOURS, "B. The car has the colour of the sky.", B),
    (COLOURS, "B, because the car is blue.", B),
    (COLOURS, "B because the car is blue", B),
    (COLOURS, "B, since A is red and B is blue.", B),
    (COLOURS, "B blue", B),
    (COLOURS, "b", B),
    (COLOURS, "b)", B),
    (COLOURS, "b. blue", B),
    (COLOURS, "a", A),
    (COLOURS, "A", A),
    (COLOURS, "a) red", A),
    (COLOURS, "A.\nThe car is red.", A),
    (COLOURS, "Option B", B),
    (COLOURS, "The car is the colour of the sky.\n\nB", B),
    (COLOURS, "The car is the colour of the sky.\n\n**(B)**", B),
    (COLOURS, "B<|im_end|>", B),
    (COLOURS, "D. Cannot answer from the image", D),
    (ANIMALS, "A. a cat", A),
    (ANIMALS, "C\n\nThere is a horse behind a fence.", C),
    (NINE, "I", I),
    (NINE, "(I)", I),
    (NINE, "Answer: I", I),
    (NINE, "The answer is I.", I),
    (YES_NO, "B. Yes", B),
    (COLOURS, "I first thought option B, but it is actually green.", C),
    (COLOURS, "At first I thought option A; the car is however blue.", B),
    (COLOURS, "So, A is out. The car is blue.", B),
    # a number
    (COLOURS, "2", B),
    (COLOURS, "(2)", B),
    (COLOURS, "2.", B),
    (COLOURS, "2) blue", B),
    (COLOURS, "Option 3", C),
    # an option's own text
    (COLOURS, "blue", B),
    (COLOURS, "Blue.", B),
    (COLOURS, "The car is blue.", B),
    (COLOURS, "It is not red but blue.", B),
    (COLOURS, "It's blue, not red.", B),
    (COLOURS, "B. blue - not red", B),
    (COLOURS, "It is blue - not red.", B),
    (COLOURS, "It is blue rather than green.", B),
    (COLOURS, "Cannot answer from the image", D),
    (COLOURS, "I cannot answer from the image.", D),
    (ANIMALS, "A dog", B),
    (ANIMALS, "A dog is sitting on the sofa.", B),
    (ANIMALS, "a dog", B),
    (ANIMALS, "Answer: A dog", B),
    (ANIMALS, "The answer is a horse.", C),
    (ANIMALS, "I see a dog.", B),
    (COUNTS, "3", A),
    (COUNTS, "1", C),
    (COUNTS, "Answer: 2", B),
    (COUNTS, "There are 4 of them.", D),
    (SHADES, "dark red", B),
    (SHADES, "The car is dark red.", B),
    (SHADES, "It is red and blue.", C),
    (NONE, "None of the above", C),
    (NONE, "None of the above.", C),
    (WEATHER, "Snow", A),
    (WEATHER, "There is snow on the roof.", A),
    (YES_NO, "Yes", B),
    (YES_NO, "No, there is not.", A),
    (YES_NO, "Yes, there is no doubt.", B),
    (PHRASES, "The cup stands on the left.", A),
    (PHRASES, "It is not visible", D),
    (SIZES, "M", B),
    (SIZES, "Answer: L", C),
    (SIZES, "A", A),
    # nothing that can be taken for a choice
    (SIZES, "T", NOTHING),
    (COLOURS, "The answer is B. Wait, the car is green. So C.", NOTHING),
    (COLOURS, "The answer is B. Actually, C.", NOTHING),
    (COLOURS, "B. Wait, it's C.", NOTHING),
    (COLOURS, "Option A would be right if the car were red.", NOTHING),
    (COLOURS, "The answer would be A if the car were red.", NOTHING),
    (COLOURS, "Answer: B (if the question is on the truck), otherwise C", NOTHING),
    (COLOURS, "All options fit except option A.", NOTHING),
    (COLOURS, "Other than option B, all fit.", NOTHING),
    (COLOURS, "You might think it is A.", NOTHING),
    (COLOURS, "A is red. B is blue. C is green.", NOTHING),
    (COLOURS, "A is red, B is blue, C is green. The car is blue.", NOTHING),
    (COLOURS, "Option A: red. Option B: blue.", NOTHING),
    (COLOURS, "选项A是红色，选项B是蓝色。", NOTHING),
    (COLOURS, "A. red is wrong.", NOTHING),
    (COLOURS, "A. red - not visible", NOTHING),
    (COLOURS, "Anything but blue.", NOTHING),
    (COUNTS, "More than 3", NOTHING),
    (COUNTS, "There are at least 3.", NOTHING),
    (COLOURS, "", NOTHING),
    (COLOURS, "   \n", NOTHING),
    (COLOURS, "<think>The answer is B", NOTHING),
    (COLOURS, "<think>Answer: A</think>", NOTHING),
    (COLOURS, "Answer: B</think>", NOTHING),
    (COLOURS, "E", NOTHING),
    (COLOURS, "Answer: F", NOTHING),
    (COLOURS, "The answer is (Z).", NOTHING),
    (COLOURS, "7", NOTHING),
    (COLOURS, "0", NOTHING),
    (COLOURS, "02", NOTHING),
    (COLOURS, "2blue", NOTHING),
    (COLOURS, "2 red", NOTHING),
    (COLOURS, "2nd", NOTHING),
    (COLOURS, "2.5", NOTHING),
    (COLOURS, "A or B", NOTHING),
    (COLOURS, "Final answer: A. Wait, no. Answer: B", NOTHING),
    (COLOURS, "Answer:\nA. red\nB. blue\nC. green", NOTHING),
    (COLOURS, "The car is blue. The answer is purple.", NOTHING),
    (COLOURS, "The sign is redundant.", NOTHING),
    (COLOURS, "It was taken in infrared.", NOTHING),
    (COLOURS, "The answer is B or maybe C.", NOTHING),
    (COLOURS, "Answer: red, blue", NOTHING),
    (COLOURS, "Answer: 2, 3", NOTHING),
    (COLOURS, "\\boxed{A, B}", NOTHING),
    (COLOURS, "A\nB\nC\nD", NOTHING),
    (COLOURS, "ABCD", NOTHING),
    (COLOURS, "It is not (A) red.", NOTHING),
    (COLOURS, "A and C", NOTHING),
    (COLOURS, "A, B", NOTHING),
    (COLOURS, "A/B", NOTHING),
    (COLOURS, "A & B", NOTHING),
    (COLOURS, "Answer: A or B", NOTHING),
    (COLOURS, "Answer: A and C", NOTHING),
    (COLOURS, "The answer is A, B", NOTHING),
    (COLOURS, "The answer is either A or B.", NOTHING),
    (COLOURS, "Both A and B are correct.", NOTHING),
    (COLOURS, "Answer: A. Wait, no. Answer: B", NOTHING),
    (COLOURS, "The answer is A. No, the answer is C.", NOTHING),
    (COLOURS, "Final answer: A. Final answer: B", NOTHING),
    (COLOURS, "\\boxed{A} \\boxed{B}", NOTHING),
    (COLOURS, "B\n\nWait. The answer is C.", NOTHING),
    (COLOURS, "not B", NOTHING),
    (COLOURS, "Answer: not B", NOTHING),
    (COLOURS, "The answer is not B.", NOTHING),
    (COLOURS, "The answer isn't B.", NOTHING),
    (COLOURS, "Neither A nor B is correct.", NOTHING),
    (COLOURS, "I don't think B is correct.", NOTHING),
    (COLOURS, "Option B is wrong.", NOTHING),
    (COLOURS, "B is incorrect.", NOTHING),
    (COLOURS, "Is B correct?", NOTHING),
    (COLOURS, "不选B", NOTHING),
    (COLOURS, "答案：A或B", NOTHING),
    (COLOURS, "答案不是B", NOTHING),
    (COLOURS, "选A还是选B？", NOTHING),
    (COLOURS, "B. red", NOTHING),
    (COLOURS, "Answer: B. green", NOTHING),
    (COLOURS, "A. red\nB. blue\nC. green\nD. Cannot answer from the image", NOTHING),
    (COLOURS, "A. red\nB. blue\nC", NOTHING),
    (COLOURS, "A. red B. blue", NOTHING),
    (COLOURS, "A car is parked in front of a house.", NOTHING),
    (COLOURS, "I think so.", NOTHING),
    (COLOURS, "I", NOTHING),
    (COLOURS, "I am not sure.", NOTHING),
    (COLOURS, "I'm sorry, but I can't see the image. It might be red.", NOTHING),
    (COLOURS, "It is not red.", NOTHING),
    (COLOURS, "It could be red or blue.", NOTHING),
    (COLOURS, "Is it red?", NOTHING),
    (COLOURS, "The car is coloured.", NOTHING),
    (COLOURS, "1. The car stands in the street.\n2. It is parked.", NOTHING),
    (COLOURS, "2 cars are parked.", NOTHING),
    (COLOURS, "It was taken in 2023.", NOTHING),
    (COLOURS, "Vitamin B is healthy.", NOTHING),
    (COLOURS, "The answer is a matter of taste.", NOTHING),
    (COLOURS, "The answer is A4 paper.", NOTHING),
    (COLOURS, "Please provide the image.", NOTHING),
    (ANIMALS, "A bird.", NOTHING),
    (ANIMALS, "a", A),
    (NINE, "I think it is not there.", NOTHING),
    (NINE, "I see an ant and a bee.", NOTHING),
    (NINE, "I. cannot say", NOTHING),
    (COUNTS, "There are 2 dogs and 1 cat.", NOTHING),
    (("10", "20", "30"), "2", NOTHING),
    (("two dogs", "three dogs"), "1", NOTHING),
    (YES_NO, "There is snow, I know.", NOTHING),
    (YES_NO, "I know nothing.", NOTHING),
    (NONE, "The answer is none.", NOTHING),
]


@pytest.mark.parametrize(("options", "reply", "index"), SAID)
def test_the_option_that_is_chosen(options: tuple[str, ...], reply: str, index: int | None) -> None:
    choice = read_choice(reply, options)
    assert choice.index == index, choice
    assert (choice.index is None) == bool(choice.reason) == (not choice.how)


def test_how_it_was_said() -> None:
    said = [read_choice(reply, COLOURS).how for reply in ("Answer: B", "B", "2", "blue", "red or blue")]
    assert said == ["declared", "letter", "number", "text", ""]


def test_why_nothing_was_read() -> None:
    def reason(reply: str) -> str:
        return read_choice(reply, COLOURS).reason

    assert "thinking" in reason("<think>B")
    assert "empty" in reason(" ")
    assert "E" in reason("Answer: E") and "4 options" in reason("Answer: E")
    assert "A" in reason("Answer: A. Answer: B") and "B" in reason("Answer: A. Answer: B")


PIECES = """
    Answer: answer·is · ⏎ A B (C) a I not or and 。 答案 选 2 ** \\boxed{ } <think> </think> red blue
    Final . , option correct ?
"""
REPLIES = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([piece.replace("·", " ").replace("⏎", "\n") for piece in PIECES.split()]), max_size=12
    ).map(" ".join),
)
OPTIONS = st.one_of(st.just(COLOURS), st.lists(st.text(max_size=12), min_size=1, max_size=26).map(tuple))


@given(REPLIES, OPTIONS)
@example("İ", ("i̇", "x"))
@example("\\boxed{" * 40, COLOURS)
def test_any_reply_gives_an_option_or_a_reason(reply: str, options: tuple[str, ...]) -> None:
    choice = read_choice(reply, options)
    assert choice.index is None or 0 <= choice.index < len(options)
    assert (choice.index is None) == bool(choice.reason)


@given(REPLIES, OPTIONS, st.sampled_from(["\n", " ", "\n\n", " \n "]))
def test_white_space_around_a_reply_changes_nothing(reply: str, options: tuple[str, ...], space: str) -> None:
    assert read_choice(reply + space, options) == read_choice(reply, options) == read_choice(space + reply, options)


@given(
    st.integers(0, 25), st.integers(1, 26), st.sampled_from(["Answer: {}", "{}", "({})", "The answer is {}.", "**{}**"])
)
def test_every_letter_is_its_own_option(index: int, n: int, form: str) -> None:
    options = tuple(f"thing{k}" for k in range(n))
    assert read_choice(form.format(LETTERS[index]), options).index == (index if index < n else None)


@given(st.permutations(list(COLOURS)))
def test_what_is_said_by_text_does_not_hang_on_the_order(options: list[str]) -> None:
    said = read_choice("The car is blue.", options)
    assert said.index == options.index("blue")


@given(REPLIES)
def test_thinking_is_no_answer(thought: str) -> None:
    thought = thought.replace("<", "").replace(">", "")
    assert read_choice(f"<think>{thought}</think>B", COLOURS).index == 1
    assert read_choice(f"<think>{thought}", COLOURS).index is None


ENDLESS = {
    "Answer: B. ": B,
    "A or B or ": NOTHING,
    "(": NOTHING,
    "option ": NOTHING,
    "\\boxed{": NOTHING,
    "not red ": NOTHING,
    "So, (C). ": C,
    "It is blue. ": B,
}


@pytest.mark.parametrize("piece", ENDLESS)
def test_a_reply_that_never_ends(piece: str) -> None:
    assert read_choice(piece * 3000, COLOURS).index == ENDLESS[piece]
