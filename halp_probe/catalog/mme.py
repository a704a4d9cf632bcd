"""MME: pairs of yes/no questions on a picture, in 14 categories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source

_ROOTS = ("MME_Benchmark_release_version/MME_Benchmark", "MME_Benchmark", "MME_Benchmark_release_version")
_PERCEPTION = {
    "existence": 60,
    "count": 60,
    "position": 60,
    "color": 60,
    "posters": 294,
    "celebrity": 340,
    "scene": 400,
    "landmark": 400,
    "artwork": 400,
    "OCR": 40,
}
_COGNITION = {"commonsense_reasoning": 140, "numerical_calculation": 40, "text_translation": 40, "code_reasoning": 40}
_QUESTIONS = {**_PERCEPTION, **_COGNITION}


def _mme(source: Source) -> Iterator[Question | NotAsked]:
    for part, file in source.texts():
        stem = PurePosixPath(file.name).stem
        for number, line in enumerate(filter(str.strip, file.text.splitlines()), 1):
            text, tab, truth = line.rpartition("\t")
            if not tab:
                yield NotAsked("line without a tab between question and answer")
                continue
            yield Question(
                question_id=f"mme-{part}-{stem}-{number}",
                image=file.picture or f"{part}/{stem}.jpg",
                text=text.strip(),
                truth=truth.strip(),
                columns={"category": part, "ability": "perception" if part in _PERCEPTION else "cognition"},
                tied=(f"pair {part}/{stem}",),
            )


MME = Benchmark(
    name="mme",
    title="MME",
    asks="perception and cognition, two questions a picture; yes or no",
    files=tuple(
        File(
            name=f"{_ROOTS[0]}/{category}",
            rows=rows,
            part=category,
            role="texts",
            elsewhere=tuple(f"{root}/{category}" for root in _ROOTS[1:]),
        )
        for category, rows in _QUESTIONS.items()
    ),
    read=_mme,
    parts=tuple(_QUESTIONS),
    questions=_QUESTIONS,
    images=(*_ROOTS, "."),
    pictures="beside the texts, or in images/ beside questions_answers_YN/, 1,187 of them",
    rule="yes_no",
    groups=("category",),
    fold_unit="picture with its two questions",
    faults=(
        "of the two questions on a picture one is always yes and one no: they are not independent, and its own score "
        "counts both together (accuracy+)",
    ),
    where="https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (the Evaluation branch), on request; "
    "the same rows are lmms-eval:lmms-lab/MME",
    citation="Fu et al., MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models, 2023, "
    "arXiv 2306.13394",
)
