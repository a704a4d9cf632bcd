"""MMVP: pairs of pictures that look alike to CLIP, one question with two options on both."""

from __future__ import annotations

import re
from collections.abc import Iterator

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source
from halp_probe.catalog.options import with_options

_OPTION = re.compile(r"\(([a-z])\)\s*(.*?)\s*(?=\([a-z]\)|$)", re.DOTALL)


def _mmvp(source: Source) -> Iterator[Question | NotAsked]:
    for _, row in source.rows():
        number = int(row["Index"])
        options = [text for _, text in _OPTION.findall(row["Options"])]
        pair = f"{(number + 1) // 2}"
        yield Question(
            question_id=f"mmvp-{number}",
            image=f"{number}.jpg",
            text=with_options(row["Question"], options),
            truth=row["Correct Answer"].strip().strip("()").upper(),
            columns={"pair": pair},
            tied=(f"pair {pair}",),
        )


MMVP = Benchmark(
    name="mmvp",
    title="MMVP",
    asks="what differs between two pictures that look alike to CLIP? two options",
    files=(File(name="Questions.csv", rows=300),),
    read=_mmvp,
    questions={"": 300},
    images=("MMVP Images", "images", "."),
    pictures="<Index>.jpg in the folder `MMVP Images`; loaded by `datasets` instead, they come in another order",
    rule="choice",
    fold_unit="pair of pictures",
    faults=(
        "its own score counts a pair, and only where both answers are right",
        "300 questions on 150 pairs: intervals are wide",
    ),
    where="https://huggingface.co/datasets/MMVP/MMVP",
    licence="MIT",
    citation="Tong et al., Eyes Wide Shut? Exploring the Visual Shortcomings of Multimodal LLMs, CVPR 2024, "
    "arXiv 2401.06209",
)
