"""Matching is the best there is; labels and metrics follow from it."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from dense_replies import make_objects, member
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.tasks.dense_caption import DENSE_CAPTION, DenseItem, default_prompt
from halp_probe.tasks.dense_metrics import metrics, similarity
from halp_probe.tasks.geometry import DenseObject, iou
from halp_probe.tasks.matching import match


def box(image: int, index: int, left: float, desc: str = "a", width: float = 100) -> DenseObject:
    return DenseObject(image=image, index=index, kind="bbox_2d", points=((left, 100), (left + width, 200)), desc=desc)


def text_of(objects: list[DenseObject], images: int = 1) -> str:
    return json.dumps(
        {
            f"图片_{image}": {f"object_{one.index}": member(one) for one in objects if one.image == image}
            for image in range(1, images + 1)
        }
    )


def item(truth: str, images: int = 1, key: str = "k", at: float = 0.5) -> DenseItem:
    names = tuple(f"{n}.png" for n in range(1, images + 1))
    return DenseItem(
        key=key,
        images=names,
        widths=(640,) * images,
        heights=(480,) * images,
        truth=truth,
        prompt=default_prompt(images),
        iou=at,
    )


def best(told: list[DenseObject], true: list[DenseObject], threshold: float) -> tuple[int, float]:
    """The most pairs, and of these the highest sum of IoUs, by trying all assignments."""
    longer, shorter = (told, true) if len(told) >= len(true) else (true, told)
    found = (0, 0.0)
    for order in itertools.permutations(longer, len(shorter)):
        overlaps = [iou(a, b) for a, b in zip(order, shorter, strict=True)]
        kept = [overlap for overlap in overlaps if overlap >= threshold]
        found = max(found, (len(kept), round(sum(kept), 9)))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_matching_is_the_best_of_all_assignments(seed: int) -> None:
    rng = random.Random(seed)
    told, true = (
        [box(1, n, rng.randrange(0, 300), width=rng.randrange(60, 200)) for n in range(1, rng.randint(1, 6))]
        for _ in range(2)
    )
    pairs = match(told, true, 0.3)
    assert (len(pairs), round(sum(pair.iou for pair in pairs), 9)) == best(told, true, 0.3)
    assert len({pair.described.index for pair in pairs}) == len({pair.true.index for pair in pairs}) == len(pairs)
    assert all(pair.iou == iou(pair.described, pair.true) >= 0.3 for pair in pairs)


def test_two_objects_do_not_share_a_true_one() -> None:
    assert len(match([box(1, 1, 0), box(1, 2, 0)], [box(1, 1, 0)], 0.5)) == 1


def test_more_matches_count_more_than_a_better_one() -> None:
    pairs = match([box(1, 1, 5), box(1, 2, -45)], [box(1, 1, 0), box(1, 2, 50)], 0.3)  # 0.38 twice, or 0.9 once
    assert [(pair.described.index, pair.true.index) for pair in pairs] == [(1, 2), (2, 1)]


def test_an_iou_of_the_threshold_itself_is_enough() -> None:
    half = DenseObject(image=1, index=1, kind="bbox_2d", points=((0, 100), (100, 150)), desc="a")
    assert len(match([half], [box(1, 1, 0)], 0.5)) == 1
    assert match([half], [box(1, 1, 0)], 0.5 + 1e-9) == ()


@pytest.mark.parametrize(
    ("told", "label"),
    [
        (text_of([box(1, 1, 0)]), 0),
        (text_of([box(1, 1, 10), box(1, 2, 495)]), 0),
        (text_of([box(1, 1, 0), box(1, 2, 250)]), 1),
        (text_of([box(1, 1, 0), box(1, 2, 0)]), 1),  # one of them has no true object of its own
        (text_of([box(1, 1, 250)])[:-1], 1),  # cut off, but already wrong
        (text_of([box(1, 1, 0)])[:-1], None),
        (text_of([box(1, 2, 0)]), None),  # a problem
        (text_of([box(1, 1, 250), box(1, 3, 0)]), 1),  # a problem, and something wrong
        (text_of([]), None),
        ("{}", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_label(told: str, label: int | None) -> None:
    given_item = item(text_of([box(1, 1, 0), box(1, 2, 500)]))
    verdict = DENSE_CAPTION.verdict(given_item, told)
    assert verdict.label == label and verdict.reason


def test_label_of_a_reply_that_is_cut_off_says_so() -> None:
    verdict = DENSE_CAPTION.verdict(item(text_of([box(1, 1, 0)])), text_of([box(1, 1, 0)])[:-1])
    assert (verdict.label, verdict.reason) == (None, "cut off, nothing wrong so far")


def test_label_needs_a_ground_truth_but_knows_an_empty_one() -> None:
    told = text_of([box(1, 1, 0)])
    assert DENSE_CAPTION.verdict(item(""), told).label is None
    assert DENSE_CAPTION.verdict(item("{}"), told).label == 1


def test_label_looks_at_the_image_that_is_meant_and_at_the_items_iou() -> None:
    there = item(text_of([box(1, 1, 0)], 2), images=2)
    assert DENSE_CAPTION.verdict(there, text_of([box(2, 1, 0)], 2)).label == 1
    assert DENSE_CAPTION.verdict(there, text_of([box(1, 1, 0)], 2)).label == 0
    shifted, truth = text_of([box(1, 1, 50)]), text_of([box(1, 1, 0)])
    assert [DENSE_CAPTION.verdict(item(truth, at=at), shifted).label for at in (0.3, 0.34)] == [0, 1]


@given(st.text(), st.integers(1, 3))
def test_no_reply_is_too_strange_for_a_verdict(reply: str, images: int) -> None:
    assert DENSE_CAPTION.verdict(item(text_of([], images), images), reply).label is None


def test_prompt_shows_all_images_and_carries_its_item() -> None:
    one, two = item(text_of([box(1, 1, 0)])), item("", images=2)
    assert DENSE_CAPTION.prompt(one).files == ("1.png",)
    assert DENSE_CAPTION.prompt(two).files == ("1.png", "2.png")
    assert "2" in DENSE_CAPTION.prompt(two).question
    for each in (one, two):
        sample = DENSE_CAPTION.sample(each)
        assert (sample.question_id, sample.answer) == (each.key, each.truth)
        assert DENSE_CAPTION.item(sample.extra["task_item"]) == each


def test_metrics_of_a_small_case_by_hand() -> None:
    truth = [box(1, 1, 0, "BBU 设备"), box(1, 2, 500, "cable"), box(1, 3, 800, "label")]
    half = DenseObject(image=1, index=2, kind="bbox_2d", points=((500, 100), (600, 150)), desc="wire")  # IoU 0.5
    told = [box(1, 1, 0, "ｂｂｕ  设备"), half, box(1, 3, 200, "ghost"), box(1, 4, 350, "ghost")]
    items = [item(text_of(truth), key="a"), item("", key="b"), item(text_of(truth), key="c")]
    replies = {"a": text_of(told), "b": "no idea"}
    readings = {one.key: DENSE_CAPTION.parse(one, replies[one.key]) for one in items if one.key in replies}
    found = metrics(items, readings, 0.5)
    places = {"described": 4, "true": 3, "precision": 0.5, "recall": 0.6667, "f1": 0.5714}
    assert found == {
        "records": 3,
        "replies": 2,
        "with_ground_truth": 1,
        "without_problem": 1,
        "cut_off": 0,
        "problems": 1,
        "other_units": 0,
        "iou": 0.5,
        **places,
        "matched": 2,
        "mean_iou": 0.75,
        "same_description": 0.5,
        "description_similarity": round((1 + similarity("wire", "cable")) / 2, 4),
        "same_place_and_description": {
            "described": 4,
            "true": 3,
            "matched": 1,
            "precision": 0.25,
            "recall": 0.3333,
            "f1": 0.2857,
        },
        "recall_by_geometry": {"bbox_2d": 0.6667, "quad": None, "line": None},
        "labels": {"right": 0, "hallucinated": 1, "unknown": 1},
    }


def test_metrics_of_nothing_are_none_and_of_the_truth_itself_one() -> None:
    nothing = metrics([item("")], {}, 0.5)
    assert [nothing[name] for name in ("precision", "recall", "f1", "mean_iou", "same_description")] == [None] * 5
    objects = make_objects(3, random.Random(1))
    all_right = item(text_of(objects, 3), images=3)
    found = metrics([all_right], {"k": DENSE_CAPTION.parse(all_right, all_right.truth)}, 0.5)
    assert [found[name] for name in ("precision", "recall", "f1", "mean_iou", "same_description")] == [1.0] * 5
    assert (found["described"], found["matched"]) == (len(objects), len(objects))


@pytest.mark.parametrize(("one", "other", "expected"), [("ABC", "ａｂｃ", 1), ("ab", "cd", 0), ("abcd", "bcde", 0.75)])
def test_similarity(one: str, other: str, expected: float) -> None:
    assert similarity(one, other) == expected
