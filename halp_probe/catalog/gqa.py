"""GQA: questions made from scene graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source
from halp_probe.tables.records import text_of


def _gqa(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        types: dict[str, Any] = dict(row.get("types") or {})
        yield Question(
            question_id=f"gqa-{row['key']}",
            image=f"{row['imageId']}.jpg",
            text=row["question"],
            truth=text_of(row.get("answer")),
            columns={
                "structural": text_of(types.get("structural")),
                "semantic": text_of(types.get("semantic")),
                "full_answer": text_of(row.get("fullAnswer")),
                "split": part,
            },
        )


GQA = Benchmark(
    name="gqa",
    title="GQA",
    asks="questions made from scene graphs; a word or two, or yes and no",
    files=tuple(
        File(name=f"{part}_questions.json", rows=rows, part=part, elsewhere=(f"questions1.2/{part}_questions.json",))
        for part, rows in (("testdev_balanced", 12578), ("val_balanced", 132062))
    ),
    read=_gqa,
    parts=("testdev_balanced", "val_balanced"),
    usual=("testdev_balanced",),
    questions={"testdev_balanced": 12578, "val_balanced": 132062},
    images=("images", "allImages/images", "."),
    pictures="<imageId>.jpg of images.zip; testdev_balanced has 398 of them",
    groups=("structural", "semantic"),
    faults=(
        "one word is the truth where several are right (sofa, couch): one that the rules do not know stays unknown",
        "its questions are made by templates, and some ask what no person would",
    ),
    where="https://cs.stanford.edu/people/dorarad/gqa/download.html",
    citation="Hudson and Manning, GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question "
    "Answering, CVPR 2019, arXiv 1902.09506",
)
