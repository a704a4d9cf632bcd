"""Dense captions in other forms: Qwen's own list, and places in units that nobody asked for, which are no evidence."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from dense_replies import make_objects, member
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_dense_caption import item

from halp_probe.task_files.dense_records import read_records
from halp_probe.tasks.dense_caption import DENSE_CAPTION, true_objects
from halp_probe.tasks.dense_metrics import metrics
from halp_probe.tasks.grouped_json import read_reply

TRUTH = '{"图片_1": {"object_1": {"bbox_2d": [100, 100, 200, 200], "desc": "a"}}}'


def grouped(*boxes: list[float]) -> str:
    return json.dumps({f"object_{n}": {"bbox_2d": box, "desc": "a"} for n, box in enumerate(boxes, start=1)})


def listed(*boxes: list[float]) -> str:
    return json.dumps([{"bbox_2d": box, "label": "a"} for box in boxes])


# units

GHOST = [700, 700, 800, 800]


@pytest.mark.parametrize("form", [grouped, listed])
@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        ([[0.1, 0.1, 0.2, 0.2]], "object_1 bbox_2d holds fractions of 1, where 0 to 1000 is due"),
        ([[0, 0, 1, 1]], "object_1 bbox_2d holds fractions of 1"),
        ([[64, 48, 1280, 960]], "object_1 bbox_2d holds 1280, which is not between 0 and 1000"),
        ([GHOST, [64, 48, 128, 1001]], "object_2 bbox_2d holds 1001"),
        ([[0.1, 0.1, 0.2, 0.2], GHOST], "object_1 bbox_2d holds fractions of 1"),
    ],
)
def test_places_in_other_units_give_no_label(form: Any, boxes: list[list[float]], reason: str) -> None:
    """Not even where another object matches nothing: perhaps its place is in pixels too."""
    each = item(TRUTH)
    verdict = DENSE_CAPTION.verdict(each, form(*boxes))
    assert verdict.label is None
    assert f"places are not in thousandths ({reason}" in verdict.reason
    assert DENSE_CAPTION.verdict(each, form(GHOST)).label == 1


def test_a_place_that_is_wrong_in_another_way_casts_no_doubt_on_the_others() -> None:
    assert DENSE_CAPTION.verdict(item(TRUTH), grouped([9, 9, 3, 3], GHOST)).label == 1
    assert DENSE_CAPTION.verdict(item(TRUTH), grouped([-5, 9, 30, 30], GHOST)).label == 1


def test_replies_in_other_units_are_counted_and_in_no_share() -> None:
    items = [item(TRUTH, key=key) for key in "abc"]
    replies = {
        "a": grouped([100, 100, 200, 200]),
        "b": grouped([0.1, 0.1, 0.2, 0.2]),
        "c": grouped([5, 5, 2000, 9], GHOST),
    }
    readings = {key: read_reply(text, 1) for key, text in replies.items()}
    found = metrics(items, readings, 0.5)
    assert (found["other_units"], found["with_ground_truth"], found["described"], found["true"]) == (2, 1, 1, 1)
    assert found["precision"] == found["recall"] == 1
    assert found["labels"] == {"right": 1, "hallucinated": 0, "unknown": 2}


# Qwen's list


@given(st.integers(0, 2**32), st.sampled_from(["", "Here:\n", "<think>[{</think>"]), st.booleans())
def test_a_list_says_what_the_grouped_form_does(seed: int, before: str, fenced: bool) -> None:
    rng = random.Random(seed)
    objects = make_objects(1, rng)
    members = [{("label" if name == "desc" else name): value for name, value in member(one).items()} for one in objects]
    text = json.dumps(members, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    reading = read_reply(before + (f"```json\n{text}\n```" if fenced else text), 1)
    if objects or not before:
        assert reading.objects == tuple(objects) and not reading.problems and not reading.cut_off


@pytest.mark.parametrize(
    ("text", "count", "reason"),
    [
        (listed(GHOST, GHOST)[:-30], 1, "cut off"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": ""}]', 0, "has a blank description"),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', 0, "has no description"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a", "desc": "b"}]', 0, "has 'label', which is not known"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, 7]', 1, "is no JSON object"),
        ('{"objects": [{"bbox_2d": [1, 2, 3, 4], "label": "a"}]}', 1, "inside other JSON"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"} {"label": "b"}]', 1, "where ',' is due"),
        (listed(GHOST) + listed(GHOST), 1, "more than once"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(text: str, count: int, reason: str) -> None:
    reading = read_reply(text, 1)
    assert len(reading.objects) == count and reason in reading.problems[0].reason
    assert reading.cut_off == (reason == "cut off")


def test_a_list_cannot_say_which_of_several_images_it_means() -> None:
    reading = read_reply(listed(GHOST), 2)
    assert not reading.objects and reading.problems[0].reason == "belongs to none of the 2 images"


def test_an_empty_list_describes_nothing() -> None:
    assert read_reply("```json\n[]\n```", 1) == read_reply("{}", 1)


# records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        Image.new("RGB", (800, 600)).save(tmp_path / f"{name}.png")
    return tmp_path


def records(folder: Path, *objects: Any) -> Any:
    path = folder / "r.jsonl"
    rows = [{"images": [f"{name}.png"], "objects": own} for name, own in zip("abc", objects, strict=False)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_records(path, folder, None, 0.5)


def test_records_in_unknown_units_have_no_truth_and_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = records(
            folder,
            [{"bbox_2d": [0.1, 0.1, 0.5, 0.5], "desc": "x"}],
            {"object_1": {"bbox_2d": [10, 10, 1200, 500], "desc": "x"}},
            [{"bbox_2d": [80, 60, 400, 300], "label": "x"}],
        )
    assert not found.failures and [bool(each.truth) for each in found.items] == [False, False, True]
    assert true_objects(found.items[2])[0].desc == "x"
    first, second = caplog.messages
    assert first.startswith("a.png: `objects`: object 1 bbox_2d holds fractions of 1") and "no label" in first
    assert second.startswith("b.png: `objects`: object_1 bbox_2d holds 1200")
    assert DENSE_CAPTION.verdict(found.items[0], grouped(GHOST)).label is None


def test_pixels_of_a_large_picture_may_be_beyond_1000(folder: Path) -> None:
    Image.new("RGB", (4000, 3000)).save(folder / "a.png")
    (each,) = records(folder, [{"bbox_2d": [2000, 1500, 4000, 3000], "label": "x"}]).items
    assert true_objects(each)[0].points == ((500, 500), (1000, 1000))
