"""CaptionQA: multiple-choice questions on pictures of four domains, from the hub."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import Benchmark, NotAsked, Question, Source

PARTS = ("natural", "document", "ecommerce", "embodiedai")
_EXTRA = ("category", "categories", "source", "n_choices")


def _captionqa(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        yield Question(
            question_id=f"captionqa-{row['question_id']}",
            image=row["image"],
            text=row["question"],
            truth=row["answer"],
            tied=(f"row {row['row']}",),
            columns={"domain": part, **{name: row[name] for name in _EXTRA}},
        )


CAPTIONQA = Benchmark(
    name="captionqa",
    title="CaptionQA",
    asks="what is in the picture? options, and `Cannot answer from the image`",
    files=(),
    read=_captionqa,
    parts=PARTS,
    pictures="in the data set",
    rule="choice",
    groups=("domain", "category"),
    mended=(
        "a question whose answer is none of its options is left out",
        "the order of the options is drawn for each question, the same in every run; `halp-probe qa` scores as the "
        "benchmark does, and reads `Cannot answer` as no verdict",
    ),
    where="https://huggingface.co/datasets/Borise/CaptionQA, or a folder of it as the data root",
    citation="CaptionQA, 2025, arXiv 2511.21025",
)
