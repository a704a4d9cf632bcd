"""Data sets in exactly their published form become conversations; what cannot be one is named, with the reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from halp_probe.errors import InputError
from halp_probe.finetuning import llava_instruct, shapes_samples, text_vqa, viz_wiz
from halp_probe.finetuning.majority import majority
from halp_probe.finetuning.records import Conversation, LeftOut, Source, Turn
from halp_probe.shapes import questions, scenes
from halp_probe.shapes.dataset import FIRST_TUNING_SEED

GOOD = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("a.jpg", "b.jpg", "coco/train2017/c.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def written(images: Path, content: Any) -> Path:
    path = images.parent / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def llava(images: Path, *entries: dict[str, Any]) -> Source:
    return llava_instruct.read(written(images, list(entries)), images)


def llava_entry(**changed: Any) -> dict[str, Any]:
    return {"id": "1", "image": "a.jpg", "conversations": GOOD, **changed}


def said(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[k % 2], "value": value} for k, value in enumerate(values)]


def test_llava_instruct(images: Path) -> None:
    """Entries as LLaVA-Instruct-150K, LLaVA-v1.5's mix (the one of text alone) and LLaVA-Pretrain have them."""
    source = llava(
        images,
        {
            "id": "000000033471",
            "image": "coco/train2017/c.jpg",
            "conversations": said("<image>\nWhat are the colors?", "White and red.\n", "Which feature?", "A sign."),
        },
        {"id": "000000033471", "image": "coco/train2017/c.jpg", "conversations": said("Where?\n<image>", "There.")},
        {"id": "wgByO4Y_0", "model": "", "conversations": said("Hello", "Hi!")},
        {"id": "004539375", "image": "a.jpg", "conversations": said("Describe it.\n<image>", "select luxury")},
    )
    place = images / "coco" / "train2017" / "c.jpg"
    first = (Turn("What are the colors?", "White and red."), Turn("Which feature?", "A sign."))
    assert source == Source(
        name="llava_instruct",
        conversations=(
            Conversation(source="llava_instruct", key="000000033471", image=place, turns=first),
            Conversation(source="llava_instruct", key="000000033471#2", image=place, turns=(Turn("Where?", "There."),)),
            Conversation(source="llava_instruct", key="wgByO4Y_0", image=None, turns=(Turn("Hello", "Hi!"),)),
            Conversation(
                source="llava_instruct",
                key="004539375",
                image=images / "a.jpg",
                turns=(Turn("Describe it.", "select luxury"),),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("changed", "stage", "reason"),
    [
        ({"conversations": said("<image>\nWhy?")}, "read", "the last question has no answer"),
        ({"conversations": []}, "read", "no messages"),
        ({"conversations": GOOD[::-1]}, "read", "message 1 is from 'gpt', not from 'human'"),
        ({"conversations": [*GOOD, *GOOD[1:]]}, "read", "message 3 is from 'gpt', not from 'human'"),
        ({"conversations": [{"from": "system", "value": "x"}, *GOOD]}, "read", "message 1 is from 'system'"),
        (
            {"conversations": said("<image><image>\nWhy?", "So.")},
            "read",
            "the marker <image> stands 2 times in the text of 1 image",
        ),
        ({"conversations": said("<image>\nWhy?", "So.", "<image> And?", "So.")}, "read", "stands 2 times"),
        ({"conversations": said("Why?", "So.")}, "read", "stands 0 times in the text of 1 image"),
        ({"conversations": said("Why?", "So.", "<image>\nAnd?", "So.")}, "read", "stands neither at the beginning"),
        ({"conversations": said("Why <image> so?", "So.")}, "read", "stands neither at the beginning nor at the end"),
        ({"conversations": said("<image>\n", "So.")}, "read", "no question"),
        ({"conversations": said("<image>\nWhy?", " \n")}, "read", "no answer"),
        ({"conversations": said("<image>\nWhy?", "\ud800")}, "read", "the answer is not Unicode text"),
        ({"image": None}, "read", "stands 1 times in the text of no image"),
        ({"image": "none.jpg"}, "image", "no file 'none.jpg' in"),
        ({"image": "../data.json"}, "image", "leads out of"),
        ({"image": ""}, "image", "blank image_id"),
        ({"image": ["a.jpg", "a.jpg"]}, "read", "2 images, and one conversation shows one"),
        ({"image": None, "images": ["a.jpg", "b.jpg", "c.jpg"]}, "read", "3 images"),
    ],
)
def test_a_bad_llava_entry_is_left_out_by_name(images: Path, changed: dict[str, Any], stage: str, reason: str) -> None:
    source = llava(images, llava_entry(id="good"), llava_entry(id="bad", **changed), llava_entry(id="too"))
    assert [each.key for each in source.conversations] == ["good", "too"]
    (left_out,) = source.left_out
    assert (left_out.source, left_out.key, left_out.stage) == ("llava_instruct", "bad", stage)
    assert reason in left_out.reason


@pytest.mark.parametrize("image", [{"image": ["a.jpg"]}, {"image": None, "images": ["a.jpg"]}])
def test_a_list_of_one_image_is_that_image(images: Path, image: dict[str, Any]) -> None:
    assert llava(images, llava_entry(**image)) == llava(images, llava_entry())


def test_one_object_a_line_is_read_as_the_list_is(images: Path) -> None:
    entries = [llava_entry(id=str(n), conversations=said("<image>\nWhy?", f"So {n}.\u2028")) for n in range(3)]
    path = images.parent / "lines.json"
    path.write_text("\n\n".join(json.dumps(each, ensure_ascii=False) for each in entries) + "\n", encoding="utf-8")
    assert llava_instruct.read(path, images) == llava(images, *entries)
    path.write_text(json.dumps(entries[0]) + "\n" + json.dumps(entries[1])[:-4])
    with pytest.raises(InputError, match=r"lines\.json, line 2, is not JSON"):
        llava_instruct.read(path, images)
    path.write_text(json.dumps(entries[0], indent=1))
    with pytest.raises(InputError, match="must be a JSON list"):
        llava_instruct.read(path, images)


def test_text_alone_can_be_left_out(images: Path) -> None:
    """A batch of it would give a connector nothing to learn from."""
    path = written(images, [llava_entry(), {"id": "text", "conversations": said("Hello", "Hi!")}])
    source = llava_instruct.read(path, images, "captions", text_alone=False)
    assert [each.key for each in source.conversations] == ["1"]
    assert source.left_out == (
        LeftOut(
            source="captions", key="text", stage="read", reason="no image, and a connector learns from nothing else"
        ),
    )


def test_keys_are_unique_whatever_the_ids(images: Path) -> None:
    ids = ["7", "7", "7#2", 7, "7#2", "8"]
    keys = [each.key for each in llava(images, *(llava_entry(id=each) for each in ids)).conversations]
    assert keys == ["7", "7#2", "7#2#2", "7#3", "7#2#3", "8"]


@given(st.lists(st.text("a#23", max_size=4), min_size=1, max_size=20))
def test_keys_are_unique_and_of_their_ids(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    entries = [{"id": each, "conversations": said("a", "b")} for each in ids]
    folder = tmp_path_factory.mktemp("images")
    keys = [each.key for each in llava(folder, *entries).conversations]
    assert len(set(keys)) == len(ids)
    assert all(key.startswith(each) for key, each in zip(keys, ids, strict=True))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "data.json is not JSON"),
        ("[" * 100_000, "data.json is not JSON"),
        ("{}", "data.json must be a JSON list, not an object"),
        ("[]", "data.json holds no entries"),
        ([llava_entry(), 3], "data.json: entry 2 must be a JSON object, not 3"),
        ([{"image": "a.jpg", "conversations": GOOD}], "entry 1 has no 'id'; it has 'image', 'conversations'"),
        ([llava_entry(id=None)], "entry 1: 'id' must be a text or a whole number, not None"),
        ([llava_entry(id="\ud800")], "entry 1: 'id' holds half a surrogate pair"),
        ([llava_entry(image={"path": "a.jpg"})], "entry 1: 'image' must be a text or a whole number, not an object"),
        ([llava_entry(image=["a.jpg", 3])], "entry 1: 'image' must be a list of texts, not 3"),
        ([llava_entry(conversations="Why")], "entry 1: 'conversations' must be a list, not 'Why'"),
        ([llava_entry(conversations=["Why"])], "entry 1, 'conversations' 1 must be a JSON object, not 'Why'"),
        ([llava_entry(conversations=[{"from": "human"}])], "entry 1, 'conversations' 1 has no 'value'; it has 'from'"),
        ([llava_entry(conversations=[{"from": "human", "value": 1}])], "'value' must be a text, not 1"),
        ([llava_entry(image="none.jpg")], "none of the 1 entries of llava_instruct can be used .*no file 'none.jpg'"),
    ],
)
def test_another_structure_is_an_error_that_names_the_place(images: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        llava_instruct.read(written(images, content), images)


def test_files_and_folders_that_are_none_are_errors(images: Path) -> None:
    with pytest.raises(InputError, match=r"none.json cannot be read: No such file"):
        llava_instruct.read(images / "none.json", images)
    with pytest.raises(InputError, match="none is not a folder; pass the folder that holds the images"):
        llava_instruct.read(written(images, [llava_entry()]), images / "none")
    path = images.parent / "latin.json"
    path.write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.json is not UTF-8 \(byte 2\)"):
        llava_instruct.read(path, images)


def text_vqa_file(*entries: dict[str, Any]) -> dict[str, Any]:
    """All members that TextVQA_0.5.1_train.json has."""
    return {"dataset_type": "train", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": list(entries)}


def text_vqa_entry(question_id: int, image_id: str, answers: list[str]) -> dict[str, Any]:
    return {
        "question": "what is the brand of this camera?",
        "image_id": image_id,
        "image_classes": ["Cassette deck", "Printer"],
        "flickr_original_url": "https://example.org/1.jpg",
        "flickr_300k_url": "https://example.org/2.jpg",
        "image_width": 1024,
        "image_height": 664,
        "answers": answers,
        "question_tokens": ["what", "is", "the", "brand", "of", "this", "camera"],
        "question_id": question_id,
        "set_name": "train",
    }


def test_text_vqa(images: Path) -> None:
    ten = ["nous les gosses", "Dakota", "clos culombu", "dakota digital", "dakota", "dakota"]
    source = text_vqa.read(
        written(
            images,
            text_vqa_file(
                text_vqa_entry(0, "a", ten + ["dakota digital"] * 4),
                text_vqa_entry(1, "b", ["", " "]),
                text_vqa_entry(2, "none", ten),
                text_vqa_entry(3, "a", ["yes"] * 10),
            ),
        ),
        images,
    )
    question = "what is the brand of this camera?"
    assert source.conversations == (
        Conversation(source="text_vqa", key="0", image=images / "a.jpg", turns=(Turn(question, "dakota digital"),)),
        Conversation(source="text_vqa", key="3", image=images / "a.jpg", turns=(Turn(question, "yes"),)),
    )
    assert source.left_out == (
        LeftOut(source="text_vqa", key="1", stage="read", reason="no answer"),
        LeftOut(source="text_vqa", key="2", stage="image", reason=f"no file 'none.jpg' in {images}"),
    )


def test_text_vqa_s_test_split_has_no_answers(images: Path) -> None:
    entry = text_vqa_entry(0, "a", [])
    del entry["answers"]
    with pytest.raises(InputError, match=r"data.json: entry 1 has no 'answers'; it has 'question', 'image_id'"):
        text_vqa.read(written(images, text_vqa_file(entry)), images)
    with pytest.raises(InputError, match=r"data.json must be a JSON object with a list 'data', not a list of 1"):
        text_vqa.read(written(images, [entry]), images)
    entry["answers"] = ["a", 3]
    with pytest.raises(InputError, match="entry 1: 'answers' must be a list of texts, not 3"):
        text_vqa.read(written(images, text_vqa_file(entry)), images)


def viz_wiz_entry(image: str, answers: list[str]) -> dict[str, Any]:
    return {
        "image": image,
        "question": "What's the name of this product?",
        "answers": [{"answer_confidence": ("yes", "maybe", "no")[k % 3], "answer": a} for k, a in enumerate(answers)],
        "answer_type": "other",
        "answerable": 1,
    }


def test_viz_wiz(images: Path) -> None:
    basil = ["unanswerable", "basil leaves", "basil", "Basil", "basil leaves", "basil", *["unsuitable"] * 2, "x", "y"]
    source = viz_wiz.read(
        written(
            images,
            [
                viz_wiz_entry("a.jpg", basil),
                viz_wiz_entry("b.jpg", ["unanswerable", *["dog"] * 4, *["unanswerable"] * 5]),
                viz_wiz_entry("a.jpg", ["2"] * 10),
            ],
        ),
        images,
    )
    question = "What's the name of this product?"
    assert source == Source(
        name="viz_wiz",
        conversations=(
            Conversation(source="viz_wiz", key="a.jpg", image=images / "a.jpg", turns=(Turn(question, "basil"),)),
            Conversation(
                source="viz_wiz", key="b.jpg", image=images / "b.jpg", turns=(Turn(question, "unanswerable"),)
            ),
            Conversation(source="viz_wiz", key="a.jpg#2", image=images / "a.jpg", turns=(Turn(question, "2"),)),
        ),
    )


def test_viz_wiz_of_another_structure(images: Path) -> None:
    entry = {**viz_wiz_entry("a.jpg", []), "answers": ["basil"]}
    with pytest.raises(InputError, match=r"data.json: entry 1, 'answers' 1 must be a JSON object, not 'basil'"):
        viz_wiz.read(written(images, [entry]), images)
    del entry["answers"]
    with pytest.raises(InputError, match=r"data.json: entry 1 has no 'answers'"):
        viz_wiz.read(written(images, [entry]), images)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["b", "a", "a"], "a"),
        (["b", "a", "a", "b"], "b"),
        ([" Blue", "red", "blue ", "red", "BLUE"], "Blue"),
        (["", " ", "a"], "a"),
        (["", " "], None),
        ([], None),
    ],
)
def test_majority(answers: list[str], expected: str | None) -> None:
    assert majority(answers) == expected


@given(st.lists(st.sampled_from(["a", "A", " b", "B ", "c", ""]), max_size=10))
def test_no_answer_has_more_votes_than_the_majority(answers: list[str]) -> None:
    votes = Counter(answer.strip().lower() for answer in answers if answer.strip())
    found = majority(answers)
    if found is None:
        assert not votes
        return
    assert votes[found.lower()] == max(votes.values())
    seen = [answer.strip() for answer in answers]
    assert found == next(answer for answer in seen if answer.lower() == found.lower())
    rivals = [answer for answer, count in votes.items() if count == votes[found.lower()]]
    assert found.lower() == min(rivals, key=[answer.lower() for answer in seen].index)


def test_captions_of_shapes(tmp_path: Path) -> None:
    source = shapes_samples.read_captions(tmp_path, 3)
    for seed, conversation in enumerate(source.conversations, start=FIRST_TUNING_SEED):
        scene = scenes.make_scene(seed, scenes.MILD)
        assert conversation.turns == (Turn(questions.CAPTION_PROMPT, scenes.caption(scene)),)
        assert conversation.image == tmp_path.resolve() / f"scene_{seed}.png"
        with Image.open(conversation.image) as drawn:
            assert np.array_equal(np.asarray(drawn), np.asarray(scenes.render(scene)))
    assert len(source.conversations) == 3 == len(list(tmp_path.iterdir()))


def test_questions_on_shapes_are_one_conversation_or_many(tmp_path: Path) -> None:
    together = shapes_samples.read_questions(tmp_path, 2, 4).conversations
    alone = shapes_samples.read_questions(tmp_path, 2, 4, one_turn=True).conversations
    for seed, conversation in enumerate(together, start=FIRST_TUNING_SEED):
        asked = questions.ask(scenes.make_scene(seed, scenes.MILD), 4)
        assert conversation.turns == tuple(Turn(each.text, each.answer) for each in asked)
    assert [each.turns for each in alone] == [(turn,) for each in together for turn in each.turns]
    assert [each.image for each in alone] == [each.image for each in together for _ in each.turns]
    assert len({each.key for each in alone}) == len(alone)


def test_pictures_are_drawn_once_and_stale_ones_refused(tmp_path: Path) -> None:
    first = shapes_samples.draw(tmp_path, 2)
    before = [path.stat().st_ino for _, path in first]
    again = shapes_samples.draw(tmp_path, 3)
    assert [path.stat().st_ino for _, path in again[:2]] == before and again[2][1].is_file()
    Image.new("RGB", (scenes.SIDE, scenes.SIDE)).save(first[0][1])
    with pytest.raises(InputError, match=r"scene_2000000\.png is not the picture of scene 2000000"):
        shapes_samples.read_captions(tmp_path, 2)
    with pytest.raises(InputError, match="scenes from 1999999 on are for evaluation"):
        shapes_samples.draw(tmp_path, 2, FIRST_TUNING_SEED - 1)
