"""A reply's objects: all that are whole and right, none that are not there, and a word for each that is wrong."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any

import pytest
from dense_replies import MUTATIONS, make_objects, member, mutate, reply_of
from hypothesis import given
from hypothesis import strategies as st

from halp_probe.tasks.geometry import DenseObject
from halp_probe.tasks.grouped_json import Problem, group_by_image, read_reply

pytestmark = pytest.mark.slow

BOX = '{"bbox_2d": [1, 2, 3, 4], "desc": "a"}'
A_BOX = DenseObject(image=1, index=1, kind="bbox_2d", points=((1, 2), (3, 4)), desc="a")


def occurring(text: str) -> Counter[str]:
    """Every JSON object that begins with a name of the format, anywhere in the text, found by trying each brace."""
    found: Counter[str] = Counter()
    decoder = json.JSONDecoder(parse_int=lambda digits: float(digits) if len(digits) > 20 else int(digits))
    for begin in re.finditer(r'\{\s*"(?:bbox_2d|quad|line|line_points|desc)"', text):
        try:
            found[json.dumps(decoder.raw_decode(text, begin.start())[0], sort_keys=True)] += 1
        except (ValueError, RecursionError):
            continue
    return found


def whole(text: str, objects: list[DenseObject], length: int) -> list[DenseObject]:
    """The objects whose text ends within the first `length` characters; each occurs in the order of the list."""
    kept, at = [], 0
    for one in objects:
        while True:
            at = text.index("{", at)
            try:
                value, end = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                at += 1
                continue
            if value == member(one):
                break
            at += 1
        at = end
        if end <= length:
            kept.append(one)
    return kept


@pytest.mark.parametrize("seed", range(200))
def test_right_reply_is_read_whole(seed: int) -> None:
    rng = random.Random(seed)
    images = rng.randint(1, 3)
    objects = make_objects(images, rng)
    text, _ = reply_of(objects, images, rng)
    reading = read_reply(text, images)
    assert (list(reading.objects), reading.problems, reading.cut_off) == (objects, (), False)
    assert read_reply(json.dumps(group_by_image(objects, images)), images) == reading


@pytest.mark.parametrize("seed", range(15))
def test_cut_off_reply_keeps_exactly_what_is_whole(seed: int) -> None:
    rng = random.Random(seed)
    images = rng.randint(1, 3)
    objects = make_objects(images, rng)
    text, before = reply_of(objects, images, rng)
    thought = text.find("</think>") + len("</think>") if "</think>" in text else 0
    json_end = len(before) + json.JSONDecoder().raw_decode(text, len(before))[1] - len(before)
    for length in range(len(text) + 1):
        reading = read_reply(text[:length], images)
        if length < thought:
            assert reading.objects == ()
            continue
        assert list(reading.objects) == whole(text[len(before) :], objects, length - len(before))
        if length >= json_end:
            assert (reading.problems, reading.cut_off) == ((), False)
        elif length > len(before):
            assert reading.cut_off and len(reading.problems) == 1


@pytest.mark.parametrize("part", range(10))
def test_mutated_replies_never_raise_and_never_give_an_object_that_is_not_there(part: int) -> None:
    done: Counter[str] = Counter()
    for seed in range(part * 1000, (part + 1) * 1000):
        rng = random.Random(seed)
        images = rng.randint(1, 3)
        text, name = mutate(reply_of(make_objects(images, rng), images, rng)[0], rng)
        if rng.random() < 0.3:
            text, again = mutate(text, rng)
            name += f", {again}"
        reading = read_reply(text, images)
        given_back = Counter(json.dumps(member(one), sort_keys=True) for one in reading.objects)
        assert given_back <= occurring(text), (name, seed)
        assert all(1 <= one.image <= images for one in reading.objects)
        assert len({(one.image, one.index) for one in reading.objects}) == len(reading.objects)
        assert reading.objects or reading.problems or "desc" not in text.rpartition("</think>")[2], (name, seed)
        done[name] += 1
    assert len(done) > len(MUTATIONS) and sum(done.values()) == 1000


@given(st.text(alphabet=st.characters() | st.sampled_from('{}[]":,0_图片objectdescbx\\')), st.integers(1, 3))
def test_any_text_is_read(text: str, images: int) -> None:
    reading = read_reply(text, images)
    assert json.dumps([[problem.place, problem.reason] for problem in reading.problems], ensure_ascii=False).encode()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=9)
        | st.dictionaries(
            st.sampled_from(["bbox_2d", "quad", "line", "line_points", "desc", "poly"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["图片_1", "image_2", "图片_9", "object_1", "object_2", "foo"]),
        _JSON | st.dictionaries(st.sampled_from(["object_1", "object_2", "x"]), _JSON, max_size=3),
        max_size=3,
    )
)
def test_any_json_is_read_and_only_right_objects_are_given_back(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    reading = read_reply(text, 2)
    assert Counter(json.dumps(member(one), sort_keys=True) for one in reading.objects) <= occurring(text)


@pytest.mark.parametrize("opening", ["[", "{", '{"a":', '{"object_1":', '{"图片_1":', '{"图片_1":{"object_1":[', '{"'])
@pytest.mark.parametrize("closing", ["", "]", "}"])
def test_deep_nesting_is_read(opening: str, closing: str) -> None:
    reading = read_reply(opening * 100_000 + closing * 100_000, 1)
    assert reading.objects == () and reading.problems


def test_deep_nesting_within_an_object_costs_that_object_alone() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    text = '{"object_1": {"bbox_2d": DEEP, "desc": "a"}, "object_2": BOX}'
    reading = read_reply(text.replace("DEEP", deep).replace("BOX", BOX), 1)
    assert [one.index for one in reading.objects] == [2]
    assert reading.problems == (Problem("object_1", "is nested too deeply"),)


def in_group(*members: str) -> str:
    inner = ", ".join(f'"object_{n}": {each}' for n, each in enumerate(members, start=1))
    return f'{{"图片_1": {{{inner}}}}}'


@pytest.mark.parametrize(
    ("given_object", "reason"),
    [
        ('{"bbox_2d": [1, 2, 3], "desc": "a"}', "bbox_2d holds 3 numbers, not 4"),
        ('{"bbox_2d": [1, 2, 3, 4, 5], "desc": "a"}', "bbox_2d holds 5 numbers, not 4"),
        ('{"bbox_2d": [3, 2, 1, 4], "desc": "a"}', "bbox_2d has a corner that is not left of and above the other"),
        ('{"bbox_2d": [1, 2, 3, 2], "desc": "a"}', "bbox_2d has a corner that is not left of and above the other"),
        ('{"bbox_2d": [1, 2, 3, 1000.5], "desc": "a"}', "bbox_2d holds 1000.5, which is not between 0 and 1000"),
        ('{"bbox_2d": [-1, 2, 3, 4], "desc": "a"}', "bbox_2d holds -1, which is not between 0 and 1000"),
        ('{"bbox_2d": [NaN, 2, 3, 4], "desc": "a"}', "bbox_2d holds a number that is not finite"),
        ('{"bbox_2d": [1, 2, 3, Infinity], "desc": "a"}', "bbox_2d holds a number that is not finite"),
        ('{"bbox_2d": [1, 2, 3, 1e999], "desc": "a"}', "bbox_2d holds a number that is not finite"),
        (
            '{"bbox_2d": [1, 2, 3, %s], "desc": "a"}' % ("9" * 300),
            "bbox_2d holds 1e+300, which is not between 0 and 1000",
        ),
        ('{"bbox_2d": [1, 2, 3, %s], "desc": "a"}' % ("9" * 5000), "bbox_2d holds a number that is not finite"),
        ('{"bbox_2d": [1, 2, 3, true], "desc": "a"}', "bbox_2d holds true or false where a number is due"),
        ('{"bbox_2d": [1, 2, 3, "4"], "desc": "a"}', "bbox_2d holds a text where a number is due"),
        ('{"bbox_2d": [1, 2, 3, null], "desc": "a"}', "bbox_2d holds null where a number is due"),
        ('{"bbox_2d": [1, 2, 3, {"x": 1}], "desc": "a"}', "bbox_2d holds an object where a number is due"),
        (
            '{"line": [[1, 2], [3, 4], [5, 6], [7, 8]], "line_points": 2, "desc": "a"}',
            "line holds a list where a number is due",
        ),
        ('{"bbox_2d": "1 2 3 4", "desc": "a"}', "bbox_2d is no list"),
        ('{"quad": [1, 2, 3, 4], "desc": "a"}', "quad holds 4 numbers, not 8"),
        ('{"quad": [1, 1, 2, 2, 3, 3, 4, 4], "desc": "a"}', "quad encloses nothing"),
        ('{"quad": [1, 5, 2, 5, 3, 5, 4, 5], "desc": "a"}', "quad encloses nothing"),
        ('{"quad": [1.1, 1.1, 1.3, 1.3, 1.7, 1.7, 1.9, 1.9], "desc": "a"}', "quad encloses nothing"),
        ('{"line": [1, 2], "line_points": 1, "desc": "a"}', "line holds 2 numbers, not an even count of 4 or more"),
        (
            '{"line": [1, 2, 3, 4, 5], "line_points": 2, "desc": "a"}',
            "line holds 5 numbers, not an even count of 4 or more",
        ),
        ('{"line": [1, 2, 1, 2], "line_points": 2, "desc": "a"}', "line has no length"),
        ('{"line": [1, 2, 3, 4], "desc": "a"}', "has a line without line_points"),
        ('{"line": [1, 2, 3, 4], "line_points": 3, "desc": "a"}', "has 4 numbers in its line, but line_points 3"),
        ('{"line": [1, 2, 3, 4], "line_points": 2.0, "desc": "a"}', "has line_points that are no whole number"),
        ('{"line": [1, 2, 3, 4], "line_points": true, "desc": "a"}', "has line_points that are no whole number"),
        ('{"bbox_2d": [1, 2, 3, 4], "line_points": 2, "desc": "a"}', "has line_points without a line"),
        ('{"bbox_2d": [1, 2, 3, 4]}', "has no description"),
        ('{"bbox_2d": [1, 2, 3, 4], "desc": " "}', "has a blank description, or one that is no text"),
        ('{"bbox_2d": [1, 2, 3, 4], "desc": 5}', "has a blank description, or one that is no text"),
        ('{"bbox_2d": [1, 2, 3, 4], "desc": "\\ud83d"}', "has a blank description, or one that is no text"),
        ('{"desc": "a"}', "has none of bbox_2d, quad, line"),
        ('{"poly": [1, 2, 3, 4, 5, 6], "desc": "a"}', "has 'poly', which is not known"),
        (
            '{"bbox_2d": [1, 2, 3, 4], "quad": [1, 1, 5, 1, 5, 5, 1, 5], "desc": "a"}',
            "has bbox_2d and quad: which one is meant?",
        ),
        ('{"bbox_2d": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 4], "desc": "a"}', "has 'bbox_2d' twice"),
        ('{"bbox_2d": [1, 2, 3, 4], "desc": "a", "desc": "a"}', "has 'desc' twice"),
        ('{"bbox_2d": [1, 2, 3, 4,], "desc": "a"}', "is no JSON: "),
        ("{'bbox_2d': [1, 2, 3, 4], 'desc': 'a'}", "is no JSON: "),
        ('{"bbox_2d": [1, 2, 3, 4] "desc": "a"}', "is no JSON: "),
        ("[1, 2, 3, 4]", "is no JSON object"),
        ("null", "is no JSON object"),
        ('"a box"', "is no JSON object"),
    ],
)
def test_what_is_wrong_with_an_object_is_told_and_the_others_stay(given_object: str, reason: str) -> None:
    reading = read_reply(in_group(BOX, given_object, BOX), 1)
    assert [one.index for one in reading.objects] == [1, 3]
    assert {problem.place for problem in reading.problems} == {"图片_1/object_2"}
    assert any(problem.reason.startswith(reason) for problem in reading.problems), reading.problems


@pytest.mark.parametrize(
    ("text", "images", "kept", "problems"),
    [
        ('{"object_2": BOX}', 1, [], [("object_2", "comes where number 1 is due")]),
        (
            '{"object_1": BOX, "object_3": BOX, "object_4": BOX}',
            1,
            [(1, 1), (1, 4)],
            [("object_3", "comes where number 2 is due")],
        ),
        ('{"object_1": BOX, "object_1": BOX}', 1, [(1, 1)], [("object_1", "occurs twice")]),
        ('{"object_01": BOX, "object_0": BOX, "object_1": BOX}', 1, [], None),
        ('{"图片_2": {"object_1": BOX}}', 2, [], [("图片_2", "comes where number 1 is due")]),
        ('{"图片_1": {}}', 2, [], [("图片_2", "is missing")]),
        ('{"图片_1": {}, "图片_1": {"object_1": BOX}, "图片_2": {}}', 2, [], [("图片_1", "occurs twice")]),
        ('{"图片_1": {}, "图片_2": {"object_1": BOX}}', 1, [], [("图片_2", "is none of the images shown: 1 in all")]),
        ('{"图片_1": [], "图片_2": {"object_1": BOX}}', 2, [(2, 1)], [("图片_1", "is no JSON object")]),
        ('{"object_1": BOX}', 2, [], [("object_1", "belongs to none of the 2 images")]),
        (
            '{"图片_1": {"object_1": BOX}, "object_1": BOX}',
            1,
            [(1, 1)],
            [("object_1", "is no name that is known here")],
        ),
        ('{"image_1": {"object_1": BOX}, "图片_2": {}}', 2, [(1, 1)], []),
        (
            '{"图片_1": {"object_1": BOX, "box": 3}}',
            1,
            [(1, 1)],
            [("图片_1/box", "is no name that is known here")],
        ),
        ('{"objects": {"object_1": BOX}}', 1, [(1, 1)], [("reply", "holds the objects inside other JSON")]),
        ('[{"object_1": BOX}]', 1, [(1, 1)], [("reply", "holds the objects inside other JSON")]),
        (
            '{"object_1": BOX}\n{"object_1": BOX}',
            1,
            [(1, 1)],
            [("reply", "holds JSON of objects more than once; only the first is read")],
        ),
        (
            '{"object_1": BOX; "object_2": BOX}',
            1,
            [(1, 1)],
            [("reply", "';' where ',' is due; what follows is not read")],
        ),
        ('[{"box": [1, 2, 3, 4], "label": "a"}]', 1, [], [("reply", "holds no JSON of objects")]),
        ("I see nothing.", 1, [], [("reply", "holds no JSON of objects")]),
        ('<think>{"object_1": BOX}', 1, [], [("reply", "holds no JSON of objects")]),
        ('<think>{"object_1": 5}</think>{"object_1": BOX}', 1, [(1, 1)], []),
        ("```json\n{}\n```", 1, [], []),
        ('{"图片_1": {}, "图片_2": {}}', 2, [], []),
    ],
)
def test_reply(text: str, images: int, kept: list[tuple[int, int]], problems: list[tuple[str, str]] | None) -> None:
    reading = read_reply(text.replace("BOX", BOX), images)
    assert [(one.image, one.index) for one in reading.objects] == kept
    if problems is not None:
        assert [(problem.place, problem.reason) for problem in reading.problems] == problems
    else:
        assert reading.problems
    assert not reading.cut_off


def test_place_of_what_is_cut_off() -> None:
    reading = read_reply('{"图片_1": {"object_1": BOX, "object_2": {"bbox_2d": [1, 2'.replace("BOX", BOX), 1)
    assert reading.objects == (A_BOX,)
    assert (reading.problems, reading.cut_off) == ((Problem("图片_1/object_2", "cut off"),), True)


def test_numbers_and_descriptions_are_as_they_were_written() -> None:
    reading = read_reply('{"object_1": {"bbox_2d": [1, 2.50, 3e1, 4], "desc": " \\u4e2d {x} "}}', 1)
    assert reading.objects == (
        DenseObject(image=1, index=1, kind="bbox_2d", points=((1, 2.5), (30.0, 4)), desc=" 中 {x} "),
    )
