"""MathVista: mathematics on figures, by options or by a number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source, Values
from halp_probe.catalog.options import letter_of_text, with_options
from halp_probe.tables.records import text_of

_HINT = "Hint: "
_ABOUT = ("category", "task", "context", "grade", "language", "source")


def _mathvista(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        pid = str(row.get("pid") or row["key"])
        options = [text_of(option) for option in row["choices"] or ()]
        truth = text_of(row["answer"])
        metadata: dict[str, Any] = dict(row.get("metadata") or {})
        yield Question(
            question_id=f"mathvista-{part}-{pid}",
            image=_picture(row),
            text=with_options(_asked(row), options),
            truth=letter_of_text(options, truth) if options else truth,
            columns={
                **{name: text_of(row.get(name)) for name in ("question_type", "answer_type", "precision", "unit")},
                **{name: text_of(metadata.get(name)) for name in _ABOUT},
            },
        )


def _picture(row: Values) -> str | bytes:
    """Return the picture in the row, if its table has pictures; else its file's name in the folder of images."""
    decoded = row.get("decoded_image")
    if isinstance(decoded, dict) and isinstance(decoded.get("bytes"), bytes):
        return decoded["bytes"]
    return PurePosixPath(row["image"] or "").name


def _asked(row: Values) -> str:
    """Return the question, its unit, and before them the benchmark's own instruction, where its `query` has one."""
    hint = (row.get("query") or "").partition("\n")[0]
    unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
    question = f"{row['question'].strip()}{unit}"
    return f"{hint}\nQuestion: {question}" if hint.startswith(_HINT) else question


MATHVISTA = Benchmark(
    name="mathvista",
    title="MathVista",
    asks="mathematics on figures; an option, a number or a list",
    files=tuple(
        File(
            name=f"data/{part}-*.parquet",
            rows=rows,
            part=part,
            elsewhere=(f"data/{part}.json", f"{part}.json", f"data/{part}.parquet", f"{part}.parquet"),
        )
        for part, rows in (("testmini", 1000), ("test", 5141))
    ),
    read=_mathvista,
    parts=("testmini", "test"),
    usual=("testmini",),
    questions={"testmini": 1000, "test": 5141},
    images=("images", "data/images", "."),
    pictures="in the Parquet file (decoded_image), or <pid>.jpg of images.zip",
    groups=("question_type", "answer_type", "category"),
    fold_unit="picture, by its content: several questions have copies of one under other names",
    decimals_column="precision",
    mended=("its part `test` is published without answers: all its labels are unknown",),
    where="https://huggingface.co/datasets/AI4Math/MathVista",
    licence="CC BY-SA 4.0",
    citation="Lu et al., MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts, "
    "ICLR 2024, arXiv 2310.02255",
)
