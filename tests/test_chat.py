"""System messages and earlier turns through chat templates of several kinds: written once, in order, or refused."""

from __future__ import annotations

import pytest
from PIL import Image
from tiny_models import tiny_model

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.positions import TokenPositions, text_positions
from halp_probe.engine.prompting import Prompter, PromptError
from halp_probe.errors import InputError
from halp_probe.models.loading import Checkpoint, open_checkpoint
from halp_probe.records import Sample

SYSTEM = "Answer in one word."
PARTS = "{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
TURNS = "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
WHOLE = TURNS + PARTS + "{% endif %}{% endfor %} A:"
# As Llama 3.2 Vision: the system message is taken for a string, and none goes with an image.
STRING = (
    "{% set begun = messages[0].role == 'system' %}{% if begun %}[system]{{ messages[0].content | trim }}{% endif %}"
)
STRING += "{% for m in messages %}{% if m.role != 'system' %}[user]" + PARTS + "{% endif %}{% endfor %} A:"
# As Gemma: in front of the question, in the user's turn.
IN_THE_QUESTION = "[user]{% for m in messages %}" + PARTS + "{{ '\n\n' if m.role == 'system' }}{% endfor %} A:"
REFUSED = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + WHOLE
LOST = "{% for m in messages %}{% if m.role == 'user' %}" + PARTS + "{% endif %}{% endfor %} A:"
NOT_BESIDE_IMAGES = (
    "{% set last = messages[-1].content[0] %}{% if messages | length > 1 and last.type == 'image' %}"
    "{{ raise_exception('no system message beside an image') }}{% endif %}" + WHOLE
)


def llava(template: str) -> Checkpoint:
    checkpoint = tiny_model("llava").checkpoint
    checkpoint.processor.chat_template = template
    return checkpoint


def text(
    checkpoint: Checkpoint,
    question: str,
    *,
    system: str | None = SYSTEM,
    images: int = 1,
    history: tuple[tuple[str, str], ...] = (),
) -> str:
    """The prompt's tokens as text, image tokens as one mark."""
    pictures = [LoadedImage(Image.new("RGB", (56, 56), colour), colour) for colour in ("red", "blue")[:images]]
    sample = Sample(question_id="q", image_id="i", question=question, answer="", history=history)
    prompt = Prompter(checkpoint=checkpoint, system=system).prompt(sample, *pictures)
    token = checkpoint.processor.tokenizer.convert_ids_to_tokens(checkpoint.image_token_id)
    told = str(checkpoint.processor.tokenizer.decode(prompt.input_ids))
    while token * 2 in told:
        told = told.replace(token * 2, token)
    return told.replace(token, "#")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (WHOLE, f"[system]{SYSTEM}[user]#Why? A:"),
        (STRING, f"[system]{SYSTEM}[user]#Why? A:"),
        (IN_THE_QUESTION, f"[user]{SYSTEM}\n\n#Why? A:"),
    ],
)
def test_the_message_stands_in_front_of_the_question(template: str, expected: str) -> None:
    checkpoint = llava(template)
    assert text(checkpoint, "Why?").strip() == expected
    assert text(checkpoint, "Why?", images=0).strip() == expected.replace("#", "")
    assert SYSTEM not in text(checkpoint, "Why?", system=None)


@pytest.mark.parametrize(
    ("template", "message"),
    [(REFUSED, "refuses a system message .*System role not supported"), (LOST, "leaves a system message out")],
)
def test_a_template_without_system_messages_is_refused_at_once(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prompter(checkpoint=llava(template), system=SYSTEM)
    Prompter(checkpoint=llava(template))


def test_a_template_that_takes_none_beside_an_image_takes_one_in_text() -> None:
    checkpoint = llava(NOT_BESIDE_IMAGES)
    assert SYSTEM in text(checkpoint, "Why?", images=0)
    with pytest.raises(PromptError, match="no system message beside an image"):
        text(checkpoint, "Why?")


def test_a_lost_message_that_the_question_repeats_is_found_out() -> None:
    """The template writes it into prompts of text alone."""
    checkpoint = llava("{% if messages[-1].content | length == 1 %}" + WHOLE + "{% else %}" + LOST + "{% endif %}")
    for question in ("Why?", f"Why? {SYSTEM}"):
        assert text(checkpoint, question, images=0).count(SYSTEM) == 1 + question.count(SYSTEM)
        with pytest.raises(PromptError, match="leaves the system message out of this prompt"):
            text(checkpoint, question)


@pytest.mark.parametrize(
    ("system", "message"),
    [("", "blank"), (" \n", "blank"), ("See <image>.", "message holds the model's special token '<image>'")],
)
def test_messages_that_cannot_be_meant_are_refused(system: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prompter(checkpoint=llava(WHOLE), system=system)


def test_the_bundled_model_s_own_message_gives_way() -> None:
    checkpoint = open_checkpoint("shapes")
    default, own = text(checkpoint, "Why?", system=None), text(checkpoint, "Why?")
    assert default.count("<|im_start|>system\nYou are a helpful assistant.") == 1
    assert own == default.replace("You are a helpful assistant.", SYSTEM)


def test_two_images_stand_in_their_order_before_the_question() -> None:
    checkpoint = open_checkpoint("shapes")
    image = "<|vision_start|>#<|vision_end|>"
    assert f"<|im_start|>user\n{image}{image}Why?<|im_end|>" in text(checkpoint, "Why?", images=2)
    red, blue = (LoadedImage(Image.new("RGB", (56, 56), colour), colour) for colour in ("red", "blue"))
    prompter, sample = (
        Prompter(checkpoint=checkpoint),
        Sample(question_id="q", image_id="i", question="Why?", answer=""),
    )
    one_way, other_way = prompter.prompt(sample, red, blue), prompter.prompt(sample, blue, red)
    half = len(one_way.images["pixel_values"]) // 2
    assert one_way.images["pixel_values"][:half].equal(other_way.images["pixel_values"][half:])
    assert one_way.image_sha256 != other_way.image_sha256


def test_a_template_that_writes_an_image_into_a_prompt_of_text_is_found_out() -> None:
    """By the processor, or else by the ids."""
    with pytest.raises(PromptError, match=r"refuses the prompt|image token"):
        text(llava("<image>{{ messages[0].content[0].text }}"), "Why?", system=None, images=0)
    with pytest.raises(ValueError, match=r"image token .id 9. into a prompt that shows no image"):
        text_positions([1, 9, 2], 9)
    assert text_positions([1, 2, 3], 9) == TokenPositions(vision_index=-1, vision_id=-1, query_index=2, query_id=3)


EARLIER = (("Is it red?", "no"), ("How many?", "Two of them."))


@pytest.mark.parametrize("images", [0, 1, 2])
def test_earlier_turns_stand_in_order_behind_the_images(images: int) -> None:
    shown = "#" * images
    told = text(llava(WHOLE.replace("'<image>'", "'<image>.'")), "Why?", images=images, history=EARLIER)
    turns = (
        f"[user]{shown.replace('#', '#.')}Is it red?[assistant]no[user]How many?[assistant]Two of them.[user]Why? A:"
    )
    assert told.strip() == f"[system]{SYSTEM}{turns}"


@pytest.mark.parametrize(
    "strings",
    [
        "{% if m.role == 'assistant' %}{{ m.content + '.' }}",  # refuses a list
        "{% if m.role == 'assistant' %}{{ m.content }}.",  # would print it
        "{% if m.role == 'assistant' or not loop.first %}{{ m.content }}.",
        "{% if m.role == 'user' and not loop.first %}{{ m.content + '.' }}",
    ],
)
def test_templates_that_want_strings_get_them(strings: str) -> None:
    template = "{% for m in messages %}[{{ m.role }}]" + strings + "{% else %}" + PARTS + "{% endif %}{% endfor %} A:"
    told = text(llava(template), "Why?", system=None, history=EARLIER).replace(".", "").strip()
    assert told == "[user]#Is it red?[assistant]no[user]How many?[assistant]Two of them[user]Why? A:"


@pytest.mark.parametrize("answer", ["no", "s", "user", ""])
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% set messages = messages[-1:] %}<image>" + WHOLE, "leaves earlier turns out"),
        (WHOLE.replace("m in messages", "m in messages if m.role == 'user'"), "leaves earlier turns out"),
        (WHOLE.replace("m in messages", "m in messages | reverse"), "leaves earlier turns out"),
        ("{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + WHOLE, "refuses .*one turn"),
    ],
)
def test_a_template_that_loses_earlier_turns_is_refused(template: str, message: str, answer: str) -> None:
    """Also where an answer stands in the template's own text by chance."""
    with pytest.raises(PromptError, match=message):
        text(llava(template), "Is it not a user?", system=None, history=(("Is it red?", answer),))


def test_a_text_that_the_template_changes_is_named() -> None:
    """One that it changes by its content: marks pass."""
    template = WHOLE.replace("part.text", "(part.text | replace('red', 'blue'))")
    for history, name in (
        ((("Is it red?", "no"),), "question of turn 1"),
        ((("Is it?", "no"), ("What?", "A red one.")), "answer of turn 2"),
    ):
        with pytest.raises(PromptError, match=f"leaves the {name} out"):
            text(llava(template), "Why?", history=history)
    with pytest.raises(PromptError, match="leaves the question out"):
        text(llava(template), "Why red?", history=(("Is it?", "no"),))


def test_thoughts_of_earlier_answers_may_go() -> None:
    """As templates of models that think first write them; nothing else may."""
    parts = PARTS.replace("part.text", "(part.text.split('</think>')[-1] | trim)")
    checkpoint = llava(WHOLE.replace(PARTS, parts))
    told = text(checkpoint, "Why?", system=None, history=(("Is it?", "<think>Hm, red.</think>\n\nno"),))
    assert told.strip() == "[user]#Is it?[assistant]no[user]Why? A:"
    with pytest.raises(PromptError, match="leaves the question of turn 1 out"):
        text(checkpoint, "Why?", history=(("Is </think> it?", "no"),))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (("An <image>?", "no"), "question of turn 2 holds the model's special token '<image>'"),
        (("Is it?", "An <image>."), "answer of turn 2 holds the model's special token '<image>'"),
        (("Is it?", "half \udc80"), "answer of turn 2 is not valid Unicode"),
    ],
)
def test_earlier_texts_are_checked_as_the_question_is(turn: tuple[str, str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        text(llava(WHOLE), "Why?", history=(EARLIER[0], turn))


def test_a_lost_message_that_an_earlier_answer_repeats_is_found_out() -> None:
    checkpoint = llava("{% if messages[-1].content | length == 1 and not messages[3:] %}" + WHOLE + "{% else %}" + (
        WHOLE.replace("m in messages", "m in messages if m.role != 'system'") + "{% endif %}"
    ))  # fmt: skip
    with pytest.raises(PromptError, match="leaves the system message out of this prompt"):
        text(checkpoint, "Why?", history=(("Is it?", SYSTEM),))
