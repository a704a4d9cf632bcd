"""VLMEvalKit: the TSV tables that it downloads, with pictures as base64."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source, Values
from halp_probe.catalog.options import with_options
from halp_probe.tables.records import text_of

_REFERENCE = 64  # characters: a shorter `image` is the index of the row that has the picture
_ASK = "Please select the correct answer from the options above."
_USED = ("index", "image", "image_path", "question", "hint", "answer")


def vlmevalkit(file: str) -> Benchmark:
    """Return the declaration of one table."""
    stem = PurePosixPath(file).name.removesuffix(".tsv")

    def read(source: Source) -> Iterator[Question | NotAsked]:
        wanted = {image for _, row in source.rows() if 0 < len(image := text_of(row.get("image"))) <= _REFERENCE}
        shared = {index: row["image"] for _, row in source.rows() if (index := text_of(row["index"])) in wanted}
        for _, row in source.rows():
            yield _question(stem, row, shared)

    return Benchmark(
        name=f"vlmevalkit:{stem}",
        title=f"{stem} (VLMEvalKit)",
        asks="what its table asks; options A, B, … where it has them",
        files=(File(name=file),),
        read=read,
        images=("images", f"images/{stem}", "."),
        pictures="in the column `image`, or files that `image_path` names",
        groups=(),
        faults=("which benchmark it is, and what is wrong with that, the table does not say",),
        where="https://github.com/open-compass/VLMEvalKit (LMUData)",
        citation="Duan et al., VLMEvalKit: An Open-Source Toolkit for Evaluating Large Multi-Modality Models, 2024, "
        "arXiv 2407.11691; and the benchmark itself",
    )


def _question(stem: str, row: Values, shared: dict[str, str]) -> Question | NotAsked:
    index, image = text_of(row["index"]), text_of(row.get("image"))
    if image.startswith("["):
        return NotAsked("several pictures in one row")
    letters = [name for name in row if re.fullmatch("[A-Z]", name) and text_of(row[name]).strip()]
    columns = {
        name.replace(" ", "_"): text_of(value)
        for name, value in row.items()
        if name not in _USED and not re.fullmatch("[A-Z]", name)
    }
    try:
        picture = _picture(shared.get(image, image), text_of(row.get("image_path")))
    except binascii.Error:
        return NotAsked("`image` that is no base64")
    return Question(
        question_id=f"{stem}-{index}",
        image=picture,
        text=_asked(row, [text_of(row[letter]) for letter in letters]),
        truth=text_of(row.get("answer")),
        columns=columns,
    )


def _picture(image: str, path: str) -> str | bytes:
    return base64.b64decode(image, validate=True) if image else path


def _asked(row: Values, options: list[str]) -> str:
    """Return the prompt that VLMEvalKit builds for a table like this."""
    question, hint = text_of(row["question"]), text_of(row.get("hint")).strip()
    if not options:
        return question
    lead = f"Hint: {hint}\n" if hint else ""
    listed = with_options(f"Question: {question}\nOptions:", options)
    return f"{lead}{listed}\n{_ASK}"
