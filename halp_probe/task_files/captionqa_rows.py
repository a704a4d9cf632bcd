"""Rows of CaptionQA's data set, whose pictures become files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halp_probe.tables.pictures import PictureError
from halp_probe.task_files.pictures import keep_picture
from halp_probe.task_files.splits import open_splits
from halp_probe.tasks.caption_qa_items import QaQuestion, QaRow

DOMAINS = ("natural", "document", "ecommerce", "embodiedai")


def read_rows(dataset: str, split: str, pictures: Path | None) -> Iterator[QaRow]:
    """Yield the rows of a split in order; each one's image becomes a file in the folder `pictures`, if there is one.

    If the data set has no split `all`, the four domains are read one after the other, and an id that occurs in several
    of them becomes DOMAIN/ID. Raises what `open_splits` raises.
    """
    splits = open_splits(dataset, split, DOMAINS)
    domains: Counter[str] = Counter()
    for one in splits if len(splits) > 1 else ():
        domains.update({str(row.get("id")) for row in one.rows(["id"])})
    place = 0
    for one in splits:
        for row in one.rows():
            place += 1
            row_id = None if row.get("id") is None else str(row["id"])
            image_id = f"{one.name}/{row_id}" if row_id is not None and domains[row_id] > 1 else row_id
            yield _Row(row, one.name, one.folder).read(place, image_id, pictures)


class _Row:
    """Row as it is in the file; either `questions`, or one question's fields beside the image."""

    def __init__(self, row: Mapping[str, Any], split: str, folder: Path) -> None:
        self._row, self._split, self._folder = row, split, folder

    def read(self, place: int, image_id: str | None, pictures: Path | None) -> QaRow:
        """Read the row, and write its image into `pictures`, if there is such a folder."""
        questions = _records(self._row.get("questions") or [])
        alone = not questions and "question" in self._row
        images = self._images()
        image, trouble = None, ""
        if pictures is not None and len(images) == 1:
            try:
                image = keep_picture(self._bytes(images[0]), image_id or f"row_{place}", pictures)
            except PictureError as error:
                trouble = str(error)
        questions_read = tuple(map(_question, [self._row] if alone else questions))
        return QaRow(
            place=place,
            image_id=image_id,
            split=self._split,
            questions=questions_read,
            images=len(images),
            image=image,
            trouble=trouble,
            alone=alone,
        )

    def _images(self) -> list[Any]:
        value = self._row.get("images")
        value = self._row.get("image_paths") if value is None else value
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    def _bytes(self, image: Any) -> bytes:
        """Return the bytes of a picture in the row, or of the file that it names, relative to the data set's folder."""
        data, path = (image.get("bytes"), image.get("path")) if isinstance(image, Mapping) else (image, image)
        if isinstance(data, bytes):
            return data
        if not isinstance(path, str):
            raise PictureError(f"its image is neither bytes nor a path but {type(image).__name__}")
        try:
            return (self._folder / path).read_bytes()
        except OSError as error:
            raise PictureError(f"its image {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise PictureError(f"its image {path!r} cannot be read: {error}") from error


def _question(value: Any) -> QaQuestion:
    """Return the question; a blank one where the value is not a record."""
    if not isinstance(value, Mapping):
        return QaQuestion(question="", choices=(), answer=None)
    choices, answer = value.get("choices"), value.get("answer")
    return QaQuestion(
        question=_text(value.get("question")),
        choices=tuple(map(_text, choices if isinstance(choices, list) else ())),
        answer=answer if isinstance(answer, str) else None,
        categories=_texts(value.get("category")),
        source=_text(value.get("source")),
    )


def _records(value: Any) -> list[Any]:
    """Return a list of records, also where it is stored as a record of lists; wrap any other value in a list."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, list) else [value]
    columns = list(value.values())
    if not all(isinstance(values, list) and len(values) == len(columns[0]) for values in columns):
        return [value]
    return [dict(zip(value, values, strict=True)) for values in zip(*columns, strict=True)]


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value if isinstance(value, list) else [value] * (value is not None)))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
