"""What is learned: counted by hand, the prompt as extraction makes it, answers as generation meets them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetuning_models import NAMES, SIDE, model_of, picture
from PIL import Image

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter, PromptError
from halp_probe.finetuning.records import Conversation, Turn
from halp_probe.finetuning.tokens import IGNORED, ConversationTokenizer, TokenizedConversation, TooLongError
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import Checkpoint
from halp_probe.records import Sample

SHOWN = Path("picture.png")
SYSTEM = ["<|im_start|>", "system", "Ċ", "You", "Ġare", "Ġa", "Ġhelpful", "Ġassistant", ".", "<|im_end|>", "Ċ"]
USER, ASSISTANT, END = ["<|im_start|>", "user", "Ċ"], ["<|im_start|>", "assistant", "Ċ"], ["<|im_end|>", "Ċ"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    return {name: model_of(name, tmp_path_factory.mktemp(name)).checkpoint for name in NAMES}


@pytest.fixture(params=NAMES)
def checkpoint(request: pytest.FixtureRequest, checkpoints: dict[str, Checkpoint]) -> Checkpoint:
    return checkpoints[request.param]


def conversation(*turns: tuple[str, str], image: Path | None = SHOWN) -> Conversation:
    return Conversation(source="source", key="key", image=image, turns=tuple(Turn(*turn) for turn in turns))


def texts(checkpoint: Checkpoint, sample: TokenizedConversation) -> list[str]:
    return checkpoint.processor.tokenizer.convert_ids_to_tokens(sample.input_ids.tolist())


def learned(checkpoint: Checkpoint, sample: TokenizedConversation) -> str:
    return checkpoint.processor.tokenizer.decode(sample.labels[sample.labels != IGNORED])


@pytest.mark.parametrize("name", ["square", "bundled"])
def test_two_turns_counted_by_hand(checkpoints: dict[str, Checkpoint], name: str) -> None:
    """17 image tokens are 4 × 4 patches and the class token; 16 are the bundled model's least for this picture."""
    checkpoint = checkpoints[name]
    image = {
        "square": ["<|image_pad|>"] * 17,
        "bundled": ["<|vision_start|>", *["<|image_pad|>"] * 16, "<|vision_end|>"],
    }
    sample = ConversationTokenizer(checkpoint)(
        conversation(("What colour is the square?", "red"), ("Is there a red star?", "red star")), picture(112, 112)
    )
    question, second = ["What", "Ġcolour", "Ġis", "Ġthe", "Ġsquare", "?"], ["Is", "Ġthere", "Ġa", "Ġred", "Ġstar", "?"]
    prompt = [*SYSTEM, *USER, *image[name], *question, *END, *ASSISTANT]
    between = ["Ċ", *USER, *second, *END, *ASSISTANT]
    answers = [["red", "<|im_end|>"], ["red", "Ġstar", "<|im_end|>"]]
    assert texts(checkpoint, sample) == [*prompt, *answers[0], *between, *answers[1]]
    ids = checkpoint.processor.tokenizer.convert_tokens_to_ids
    mask = [*[0] * len(prompt), 1, 1, *[0] * 15, 1, 1, 1]
    assert len(prompt) == 11 + 3 + len(image[name]) + 6 + 2 + 3
    expected = [token if kept else IGNORED for token, kept in zip(sample.input_ids.tolist(), mask, strict=True)]
    assert sample.labels.tolist() == expected
    assert [label for label in expected if label != IGNORED] == [*ids(answers[0]), *ids(answers[1])]
    assert sample.answer_tokens == 5


@pytest.mark.parametrize("size", [(112, 112), (70, 30), (31, 190)])
@pytest.mark.parametrize("question", ["What colour is the square?", "Wie heißt es?\n\n  (1) α", "  ?"])
def test_the_prompt_and_the_pixels_are_those_of_extraction(
    checkpoint: Checkpoint, size: tuple[int, int], question: str
) -> None:
    image = picture(*size)
    sample = ConversationTokenizer(checkpoint)(conversation((question, "red"), ("And?", "no")), image)
    prompt = Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="i", question=question, answer=""), image
    )
    assert sample.input_ids[: len(prompt)].tolist() == prompt.input_ids.tolist()
    assert (sample.labels[: len(prompt)] == IGNORED).all() and sample.labels[len(prompt)] != IGNORED
    assert sample.images.keys() == prompt.images.keys()
    assert all(torch.equal(sample.images[name], prompt.images[name]) for name in prompt.images)
    if prompt.token_types is not None:
        assert sample.token_types[: len(prompt)].tolist() == prompt.token_types.tolist()
        assert not sample.token_types[len(prompt) :].any() and len(sample.token_types) == len(sample)


def test_a_prompt_of_text_alone_is_that_of_extraction_too(checkpoint: Checkpoint) -> None:
    sample = ConversationTokenizer(checkpoint)(conversation(("Why?", "So"), image=None), None)
    prompt = Prompter(checkpoint=checkpoint).prompt(
        Sample(question_id="q", image_id="q", question="Why?", answer="", images=())
    )
    assert sample.input_ids[: len(prompt)].tolist() == prompt.input_ids.tolist()
    assert sample.images == {} and checkpoint.image_token_id not in sample.input_ids
    assert learned(checkpoint, sample) == "So<|im_end|>"


def test_the_whole_is_what_the_template_writes_of_the_conversation(checkpoint: Checkpoint) -> None:
    """As a later question's prompt would have it: tokenized in one, with as many image tokens."""
    turns = [("What is it?", "a red star"), ("Sure?", "yes"), ("1, 2 … 3?", "no: 12.5 °C\nnot\n\n13")]
    sample = ConversationTokenizer(checkpoint)(conversation(*turns), picture(80, 50))
    messages = []
    for number, (question, answer) in enumerate(turns):
        shown = [{"type": "image"}] if number == 0 else []
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    text = checkpoint.processor.apply_chat_template(messages, tokenize=False)
    images = int((sample.input_ids == checkpoint.image_token_id).sum())
    whole = checkpoint.processor.tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * images)).input_ids
    assert sample.input_ids.tolist() == whole[:-1]  # but for the line break behind the end
    assert learned(checkpoint, sample) == "".join(f"{answer}<|im_end|>" for _, answer in turns)


def test_later_prompts_are_those_of_a_chat_with_memory(checkpoint: Checkpoint) -> None:
    turns = (("What is it?", "a red star"), ("Sure?", "yes"), ("And how many?", "1"))
    image = picture(80, 50)
    sample = ConversationTokenizer(checkpoint)(conversation(*turns), image)
    begins = [k for k in range(1, len(sample)) if sample.labels[k - 1] == IGNORED != sample.labels[k]]
    assert len(begins) == len(turns)
    for number, begin in enumerate(begins):
        asked = Sample(question_id="q", image_id="i", question=turns[number][0], answer="", history=turns[:number])
        assert (
            Prompter(checkpoint=checkpoint).prompt(asked, image).input_ids.tolist() == sample.input_ids[:begin].tolist()
        )


def test_no_token_holds_the_prompt_s_end_and_the_answer_s_beginning(checkpoints: dict[str, Checkpoint]) -> None:
    """In one text `assistant\\n` and an answer that begins with a line break would share the token of two of them."""
    checkpoint = replace(checkpoints["square"], processor=copy.deepcopy(checkpoints["square"].processor))
    tokenizer = checkpoint.processor.tokenizer
    tokenizer.add_tokens("\n\n")  # as the large tokenizers have it
    assert len(tokenizer("assistant\n\nred").input_ids) == 3
    sample = ConversationTokenizer(checkpoint)(conversation(("Why?", "\nred")), picture(50, 50))
    assert texts(checkpoint, sample)[-6:] == [*ASSISTANT, "Ċ", "red", "<|im_end|>"]
    assert learned(checkpoint, sample) == "\nred<|im_end|>"


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (200, 150)])
def test_a_square_shows_the_whole_picture_on_black(checkpoints: dict[str, Checkpoint], size: tuple[int, int]) -> None:
    checkpoint = checkpoints["square"]
    sample = ConversationTokenizer(checkpoint)(conversation(("Why?", "So")), picture(*size))
    processor = checkpoint.processor.image_processor
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    pixels = (sample.images["pixel_values"][0] * std + mean) * 255
    inside = (pixels > 0.5).any(0).numpy()  # the picture holds no black
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    width, height = (side * SIDE // max(size) for side in size)
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert (len(columns), len(rows)) == (width, height)
    assert (columns[0], rows[0]) == ((SIDE - width) // 2, (SIDE - height) // 2)


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        ([("Is <|image_pad|> red?", "So")], "the question holds the model's special token '<|image_pad|>'"),
        ([("Why?", "So<|im_end|>")], "answer 1 holds the model's special token '<|im_end|>'"),
        ([("Why?", "So"), ("Why <|image_pad|>?", "So")], "question 2 holds the model's special token '<|image_pad|>'"),
        ([("Why?", "So"), ("Why?", "<|im_start|>x")], "answer 2 holds the model's special token '<|im_start|>'"),
    ],
)
def test_special_tokens_in_a_text_are_refused(checkpoint: Checkpoint, turns: list[tuple[str, str]], what: str) -> None:
    with pytest.raises(PromptError) as raised:
        ConversationTokenizer(checkpoint)(conversation(*turns), picture(50, 50))
    assert what in str(raised.value)


def test_nothing_is_cut_off(checkpoints: dict[str, Checkpoint]) -> None:
    checkpoint = checkpoints["square"]
    talk, image = conversation(("Why?", "So"), ("And?", "yes")), picture(50, 50)
    length = len(ConversationTokenizer(checkpoint)(talk, image))
    assert len(ConversationTokenizer(checkpoint, length)(talk, image)) == length
    with pytest.raises(TooLongError, match=f"{length} tokens, `max_tokens` allows {length - 1}"):
        ConversationTokenizer(checkpoint, length - 1)(talk, image)
    with pytest.raises(TooLongError, match="tokens, the model's context allows 512"):
        ConversationTokenizer(checkpoint)(conversation(("Why?", "So " * 512)), image)


def test_pictures_of_extreme_shape_are_refused(checkpoints: dict[str, Checkpoint]) -> None:
    tokenizer = ConversationTokenizer(checkpoints["square"])
    assert tokenizer(conversation(("Why?", "So")), picture(2, 50)).images
    strip = LoadedImage(Image.new("RGB", (1, 201)), "strip")
    with pytest.raises(PromptError, match="an image of 1×201 is too narrow"):
        tokenizer(conversation(("Why?", "So")), strip)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("<|im_start|>assistant\n", "<|im_start|>assistant\nWell, ", "does not write a conversation as the prompt"),
        ("<|im_end|>\n", "\n", "does not end an answer with a special token"),
        ("{{ part['text'] }}", "{{ part['text'].replace('Really', '') }}", "leaves question 2 out"),
        ("{% endfor %}", "{{ strftime_now('%Y') }}{% endfor %}", "writes the day's date"),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_refused(
    checkpoints: dict[str, Checkpoint], before: str, after: str, message: str
) -> None:
    checkpoint = replace(checkpoints["square"], processor=copy.copy(checkpoints["square"].processor))
    checkpoint.processor.chat_template = checkpoint.processor.chat_template.replace(before, after)
    with pytest.raises((ModelError, PromptError), match=message):
        ConversationTokenizer(checkpoint)(conversation(("Why?", "So"), ("Really?", "Yes")), picture(50, 50))


def test_an_image_is_given_where_the_conversation_has_one(checkpoints: dict[str, Checkpoint]) -> None:
    tokenizer = ConversationTokenizer(checkpoints["square"])
    for talk, image in ((conversation(("a", "b")), None), (conversation(("a", "b"), image=None), picture(50, 50))):
        with pytest.raises(ValueError, match="an image must be given where the conversation has one"):
            tokenizer(talk, image)
