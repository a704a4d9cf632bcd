"""Files of benchmarks in their published form, small ones, made up; pictures of ShapesVQA under the published names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halp_probe.shapes.questions import Question, ask
from halp_probe.shapes.scenes import make_scene, render

POPE_PARTS = ("random", "popular", "adversarial")


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One object a line, as POPE's files are in spite of their ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def whole(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def yes_no(seed: int, count: int = 6) -> list[Question]:
    """Questions on the scene of a seed that are answered yes or no."""
    return [each for each in ask(make_scene(seed), 24) if each.answer in ("yes", "no")][:count]


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    render(make_scene(seed)).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def coco(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def write_pope(root: Path, *, scenes: int = 3, parts: Sequence[str] = POPE_PARTS, pictures: bool = False) -> None:
    """POPE's files below `output/coco`; the ids restart in each."""
    for part in parts:
        rows = [(number, each) for number in range(scenes) for each in yes_no(number)]
        lines(
            root / f"output/coco/coco_pope_{part}.json",
            [
                {"question_id": place, "image": coco(number), "text": each.text, "label": each.answer}
                for place, (number, each) in enumerate(rows, 1)
            ],
        )
    for number in range(scenes if pictures else 0):
        draw(root / "val2014" / coco(number), number)


def write_repope(root: Path, *, part: str, changed: int = 5, ambiguous: int = 7) -> None:
    """RePOPE's file beside POPE's: every `changed`-th yes a no, every `ambiguous`-th left out, the ids made anew."""
    rows = list(read_lines(root / f"output/coco/coco_pope_{part}.json"))
    kept = [row for place, row in enumerate(rows) if place % ambiguous]
    for place, row in enumerate(kept, 1):
        if row["label"] == "yes" and place % changed == 0:
            row["label"] = "no"
        row["question_id"] = place
    lines(root / f"annotations/coco_repope_{part}.json", kept)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, path.read_text().splitlines())


def write_amber(root: Path, *, scenes: int = 4, pictures: bool = False) -> None:
    """Queries and annotations with AMBER's types: of existence all no, of relations two types by their truth."""
    queries, annotations, number = [], [], 0
    for scene in range(1, scenes + 1):
        number += 1
        queries.append({"id": number, "image": f"AMBER_{scene}.jpg", "query": "Describe this image."})
        annotations.append({"id": number, "type": "generative", "truth": ["circle"], "hallu": ["dog"]})
    for scene in range(1, scenes + 1):
        for place, each in enumerate(yes_no(scene, 9)):
            number += 1
            kinds = ["discriminative-hallucination", "discriminative-attribute-state", "relation"]
            kind = kinds[place % 3] if each.answer == "no" else "discriminative-attribute-state"
            kind = "discriminative-relation" if each.answer == "yes" and place % 2 else kind
            queries.append({"id": number, "image": f"AMBER_{scene}.jpg", "query": each.text})
            annotations.append({"id": number, "type": kind, "truth": each.answer})
        if pictures:
            draw(root / "image" / f"AMBER_{scene}.jpg", scene)
    whole(root / "data/query/query_all.json", queries)
    whole(root / "data/annotations.json", annotations)
