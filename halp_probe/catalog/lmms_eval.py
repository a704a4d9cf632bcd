"""Data sets of the hub in the form that lmms-eval reads: common names of fields, or names that the user gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from halp_probe.catalog.benchmark import Benchmark, NotAsked, Question, Source, Values
from halp_probe.catalog.options import letter_of, letter_of_text, with_options
from halp_probe.errors import InputError
from halp_probe.tables.records import text_of

_NAMES = {  # our name -> names that such data sets have, the likeliest first
    "question_id": ("question_id", "questionId", "qid", "pid", "id", "index"),
    "question": ("question", "query", "prompt", "text"),
    "answer": ("answer", "answers", "label", "gt_answer", "target"),
    "image": ("image", "decoded_image", "images"),
    "options": ("options", "choices"),
}
_NEEDED = ("question", "answer", "image")


def lmms_eval(repository: str, columns: Mapping[str, str]) -> Benchmark:
    """Return the declaration of one data set; `columns`: our name -> its field, where its name is not a common one."""

    def read(source: Source) -> Iterator[Question | NotAsked]:
        names: dict[str, str] = {}
        for part, row in source.rows():
            if not names:
                names = _choose(repository, row, columns)
                source.note(_assumed(names))
            yield _question(repository, part, row, names)

    return Benchmark(
        name=f"lmms-eval:{repository}",
        title=f"{repository} (lmms-eval)",
        asks="what its fields ask",
        files=(),
        read=read,
        pictures="in the data set",
        faults=(
            "its fields are told by their names: see the note of which were taken; an answer that is a number, beside "
            "options, is the place of the right one from 0",
            "what is wrong with the benchmark itself is not known here",
        ),
        where=f"https://huggingface.co/datasets/{repository}",
        citation="Zhang et al., LMMs-Eval: Reality Check on the Evaluation of Large Multimodal Models, 2024, "
        "arXiv 2407.12772; and the benchmark itself",
    )


def _choose(repository: str, row: Values, columns: Mapping[str, str]) -> dict[str, str]:
    """Return which field is which. Raises InputError for a field that is not there, is missing, or may be either."""
    there = ", ".join(row)
    for ours, theirs in columns.items():
        if ours not in _NAMES or theirs not in row:
            wrong = (
                f"{ours!r} is none of {', '.join(_NAMES)}" if ours not in _NAMES else f"there is no field {theirs!r}"
            )
            raise InputError(f"`column` {ours}={theirs}: {wrong}; {repository} has the fields {there}")
    names = dict(columns)
    for ours, common in _NAMES.items():
        found = [name for name in common if name in row]
        if ours in names or not found:
            continue
        if len(found) > 1 and ours in _NEEDED:
            raise InputError(
                f"{repository} has the fields {' and '.join(found)}, any of which may be the {ours}; choose one with "
                f"`column` {ours}=NAME"
            )
        names[ours] = found[0]
    if missing := [name for name in _NEEDED if name not in names]:
        raise InputError(
            f"{repository} has no field that is the {missing[0]} by its name; name it with `column` {missing[0]}=NAME "
            f"(its fields: {there})"
        )
    return names


def _assumed(names: Mapping[str, str]) -> str:
    fields = ", ".join(f"{ours} from `{theirs}`" for ours, theirs in names.items())
    without = "" if "question_id" in names else "; ids are made of the question, its answer and its picture"
    return f"taken as they are named: {fields}{without}"


def _question(repository: str, part: str, row: Values, names: Mapping[str, str]) -> Question | NotAsked:
    picture = _picture(row[names["image"]])
    if picture is None:
        return NotAsked("not exactly one picture")
    options = [text_of(each) for each in row.get(names.get("options", ""), None) or ()]
    truth, question = _truth(row[names["answer"]], options), text_of(row[names["question"]])
    key = text_of(row[names["question_id"]]) if "question_id" in names else _key(question, truth, picture)
    columns = {
        name.replace(" ", "_"): text_of(value)
        for name, value in row.items()
        if name not in names.values() and isinstance(value, str | int | float)
    }
    return Question(
        question_id=f"{repository.rsplit('/', 1)[-1]}-{part}-{key}",
        image=picture,
        text=with_options(question, options),
        truth=truth,
        columns={**columns, "split": part},
    )


def _truth(answer: object, options: list[str]) -> str:
    if isinstance(answer, list):
        return (
            json.dumps([text_of(each) for each in answer], ensure_ascii=False)
            if len(answer) != 1
            else text_of(answer[0])
        )
    if options and isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return letter_of(answer)
    return letter_of_text(options, text_of(answer)) if options else text_of(answer)


def _picture(value: object) -> str | bytes | None:
    if isinstance(value, list):
        return _picture(value[0]) if len(value) == 1 else None
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    return value if isinstance(value, str | bytes) else None


def _key(question: str, truth: str, picture: str | bytes) -> str:
    content = picture if isinstance(picture, bytes) else picture.encode()
    return hashlib.sha256(b"\0".join([question.encode(), truth.encode(), content])).hexdigest()[:16]
