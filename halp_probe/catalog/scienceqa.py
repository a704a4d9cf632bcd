"""ScienceQA: science from school, with options."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source
from halp_probe.catalog.options import letter_of, with_options
from halp_probe.tables.records import text_of

PARTS = {"test": 2017, "val": 2097, "train": 6218}  # questions with a picture


def _scienceqa(source: Source) -> Iterator[Question | NotAsked]:
    for _, row in source.rows():
        if row["split"] not in source.parts:
            continue
        image = f"{row['split']}/{row['key']}/{row['image']}" if row.get("image") else ""
        hint = text_of(row.get("hint")).strip()
        question = f"{hint}\n{row['question'].strip()}" if hint else row["question"]
        yield Question(
            question_id=f"scienceqa-{row['key']}",
            image=image,
            text=with_options(question, [text_of(option) for option in row["choices"]]),
            truth=letter_of(int(row["answer"])),
            columns={name: text_of(row.get(name)) for name in ("split", "subject", "topic", "grade", "task")},
        )


SCIENCEQA = Benchmark(
    name="scienceqa",
    title="ScienceQA",
    asks="science from school, with its hint; options",
    files=(File(name="problems.json", rows=21208, elsewhere=("data/scienceqa/problems.json", "data/problems.json")),),
    read=_scienceqa,
    parts=tuple(PARTS),
    usual=("test",),
    questions=PARTS,
    images=("images", "data/scienceqa/images", "data", "."),
    pictures="<split>/<number>/image.png",
    rule="choice",
    groups=("subject", "grade"),
    faults=("its hint and its options alone answer many questions: compare with the baseline of the text",),
    mended=("10,876 of its 21,208 questions have no picture: they are not asked",),
    where="https://github.com/lupantech/ScienceQA",
    licence="CC BY-NC-SA 4.0",
    citation="Lu et al., Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering, "
    "NeurIPS 2022, arXiv 2209.09513",
)
