"""Made-up dense captions: objects, replies of all shapes that hold them, and what may go wrong with a reply."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from halp_probe.tasks.geometry import DenseObject

DESCRIPTIONS = (
    "BBU设备/华为,显示完整",
    "标签/5G-BBU光纤",
    'a "quoted" {brace} [bracket]',
    "back\\slash, \\u4e2d and }",
    'looks like "object_2": {"bbox_2d": [1, 2, 3, 4], "desc": "x"}',
    "光纤/有保护措施/蛇形管",
    "screw",
    "é ü 🙂",
)


def make_objects(images: int, rng: random.Random) -> list[DenseObject]:
    """Up to five objects an image, none with anything wrong."""
    return [_one(image, index, rng) for image in range(1, images + 1) for index in range(1, rng.randint(0, 5) + 1)]


def _one(image: int, index: int, rng: random.Random) -> DenseObject:
    x, y = rng.randint(0, 900), rng.randint(0, 900)
    points: tuple[tuple[float, float], ...] = ((x, y), (rng.randint(x + 1, 1000), rng.randint(y + 1, 1000)))
    kind: Any = rng.choice(["bbox_2d", "quad", "line"])
    if kind == "quad":
        points = ((x, y), (x + 90, y + 5), (x + 80.5, y + 95), (x + 2, y + 100))
    elif kind == "line":
        points = (*points, *((rng.randint(0, 1000), rng.randint(0, 1000)) for _ in range(rng.randint(0, 4))))
    return DenseObject(image=image, index=index, kind=kind, points=points, desc=rng.choice(DESCRIPTIONS))


def member(one: DenseObject) -> dict[str, Any]:
    """The object as the format's description has it, written without the code under test."""
    flat = [number for point in one.points for number in point]
    return {one.kind: flat, **({"line_points": len(flat) // 2} if one.kind == "line" else {}), "desc": one.desc}


def reply_of(objects: list[DenseObject], images: int, rng: random.Random) -> tuple[str, str]:
    """A right reply with these objects, and what stands before its JSON."""
    name = rng.choice(["图片", "image"])
    groups = {
        f"{name}_{image}": {f"object_{one.index}": member(one) for one in objects if one.image == image}
        for image in range(1, images + 1)
    }
    flat = images == 1 and objects and rng.random() < 0.3
    text = json.dumps(
        groups[f"{name}_1"] if flat else groups,
        ensure_ascii=rng.random() < 0.2,
        indent=rng.choice([None, None, 2]),
        separators=rng.choice([None, (",", ":")]),
    )
    before = rng.choice(["", "", "Here it is:\n", '<think>\n{"object_1": maybe\n</think>\n\n'])
    fence = rng.choice(["", "", "```json\n"])
    after = "\n```" if fence else rng.choice(["", "\n", " Done."])
    return before + fence + text + after, before + fence


MUTATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "truncated": lambda text, rng: text[: rng.randrange(len(text) + 1)],
    "beheaded": lambda text, rng: text[rng.randrange(len(text) + 1) :],
    "flipped": lambda text, rng: _flipped(text, rng, rng.randint(1, 4)),
    "renamed": lambda text, rng: _replaced(
        text, rng, ("object_", "图片_", "image_", "bbox_2d", "quad", "line", "desc")
    ),
    "renumbered": lambda text, rng: _replaced(text, rng, tuple("0123456789")),
    "doubled": lambda text, rng: _doubled(text, rng),
    "dropped": lambda text, rng: _dropped(text, rng),
    "nested": lambda text, rng: _nested(text, rng),
    "poisoned": lambda text, rng: _poisoned(text, rng),
}
_MARKS = '{}[]",:\\0123456789-eE. \n\t图n'
_POISON = ("NaN", "-Infinity", "1e999", "true", "null", '"7"', "-1", "1001", "9" * 5000, "[1]", "{}", "\\ud800", "1.5")


def mutate(text: str, rng: random.Random) -> tuple[str, str]:
    """The text with something wrong, and what was done."""
    name = rng.choice(list(MUTATIONS))
    return MUTATIONS[name](text, rng), name


def _flipped(text: str, rng: random.Random, count: int) -> str:
    characters = list(text)
    for _ in range(count):
        characters[rng.randrange(len(characters))] = rng.choice(_MARKS)
    return "".join(characters)


def _replaced(text: str, rng: random.Random, words: tuple[str, ...]) -> str:
    there = [word for word in words if word in text]
    if not there:
        return text
    old, new = rng.choice(there), rng.choice([*words, "poly", ""])
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    at = rng.choice(places)
    return text[:at] + new + text[at + len(old) :]


def _doubled(text: str, rng: random.Random) -> str:
    begin, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:end] + text[begin:end] + text[end:]


def _dropped(text: str, rng: random.Random) -> str:
    begin = rng.randrange(len(text) + 1)
    return text[:begin] + text[begin + rng.randint(1, 30) :]


def _nested(text: str, rng: random.Random) -> str:
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}"), ('{"object_1":', "}"), ('{"图片_1": ', "}")])
    depth = rng.choice([1, 2, 40, 3000])
    at = rng.randrange(len(text) + 1)
    return text[:at] + opening * depth + text[at:] + closing * rng.choice([0, depth])


def _poisoned(text: str, rng: random.Random) -> str:
    at = rng.choice([at for at, character in enumerate(text) if character.isdigit()] or [0])
    return text[:at] + rng.choice(_POISON) + text[at + 1 :]
