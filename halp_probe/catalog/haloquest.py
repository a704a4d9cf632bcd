"""HaloQuest: open questions on false premises, missing context and hard pictures."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source

_NUMBER = ""  # the first column, which has no name


def _haloquest(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        yield Question(
            question_id=f"haloquest-{part}-{row[_NUMBER]}",
            image=row["image_name"],
            text=row["question"],
            truth=row["groundtruth responses"],
            columns={
                "hallucination_type": row["hallucination type"],
                "image_type": row["image type"],
                "split": row["split"],
                "url": row["url"],
            },
        )


HALOQUEST = Benchmark(
    name="haloquest",
    title="HaloQuest",
    asks="open questions with a false premise, without the context they need, or on a hard picture",
    files=(
        File(name="haloquest-eval.csv", rows=608, part="eval"),
        File(name="haloquest-train.csv", rows=7140, part="train"),
    ),
    read=_haloquest,
    parts=("eval", "train"),
    usual=("eval",),
    questions={"eval": 608, "train": 7140},
    images=("images", "image", "haloquest_images", "."),
    pictures="files called as image_name says; the column `url` has where each is published",
    groups=("hallucination_type", "image_type"),
    faults=(
        'its truths are sentences joined by "; ", any of which is right: rules leave most answers unknown, so ask a '
        "judge model",
    ),
    mended=("its pictures are published as URLs, some of which may be gone: with `--allow-urls` they are fetched",),
    where="https://github.com/google/haloquest",
    citation="Wang et al., HaloQuest: A Visual Hallucination Dataset for Advancing Multimodal Reasoning, ECCV 2024, "
    "arXiv 2407.15680",
)
