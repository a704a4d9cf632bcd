"""Rows of a VQA table: a sample from each record, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, time
from typing import TypeAlias

from halp_probe.plain_text import is_whole
from halp_probe.records import Failure, Sample
from halp_probe.tables.layout import BROKEN, CORE, NAMES, Layout, LayoutRules
from halp_probe.tables.mapping import value_at
from halp_probe.tables.pictures import PictureError, find_picture, holds_picture
from halp_probe.tables.records import Record, text_of

Keep: TypeAlias = Callable[[bytes], str]  # keeps a picture, and returns its name; raises PictureError

_SHORT = 64  # characters of a text that may well occur again
_MOST_SHARED = 100_000  # texts


class _RowError(ValueError):
    """A record that cannot be a sample: the stage at which that shows, and the reason."""

    def __init__(self, reason: str, stage: str = "table") -> None:
        super().__init__(reason)
        self.stage = stage


class RowReader:
    """Reader of the records of one table.

    `further` are the further columns that it has met, in their order; `left_out` those that hold pictures, which are
    none whatever single rows have there.
    """

    def __init__(self, rules: LayoutRules, layout: Layout, keep: Keep | None) -> None:
        self._rules, self._layout, self._keep = rules, layout, keep
        self._shared: dict[str, str] = {}
        self.further: dict[str, None] = {}
        self.left_out: set[str] = set()

    def read(self, record: Record) -> Sample | Failure:
        """Return the record's sample, or why it has none. Raises the table's error for the name of a further column."""
        values = record.values
        question_id = ""
        try:
            question_id = self._plain(values, "question_id", record)
            if record.fault:
                raise _RowError(record.fault)
            extra = self._extra(values)
            cells = {
                "question": self._plain(values, "question", record),
                "image_id": self._image(values, extra, record),
                "answer": self._answer(values, record),
            }
            _check({"question_id": question_id, **cells}, record.place)
        except _RowError as error:
            return Failure(question_id=question_id, stage=error.stage, reason=str(error))
        for name in extra:
            self.further.setdefault(name)
        image_id, question, answer = (self._share(cells[name]) for name in ("image_id", "question", "answer"))
        return Sample(question_id=question_id, image_id=image_id, question=question, answer=answer, extra=extra)

    def _value(self, values: Mapping[str, object], name: str, record: Record) -> object:
        path = self._layout.sources[name]
        try:
            return value_at(values, path)
        except LookupError:
            if record.fault:  # of a row that is too short
                return None
            raise _RowError(f"{record.place} has no {path!r}; write it in every row") from None

    def _plain(self, values: Mapping[str, object], name: str, record: Record) -> str:
        """Return a value that must be one text or number."""
        value = self._value(values, name, record)
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping | list | tuple | bytes | bytearray | memoryview):
            kind = "an object" if isinstance(value, Mapping) else "bytes" if isinstance(value, bytes) else "a list"
            raise _RowError(f"{record.place}: {name} is {kind}, not a text; choose a part of it with `columns`")
        return self._undated(value, name, record)

    def _undated(self, value: object, name: str, record: Record) -> str:
        if isinstance(value, date | time):
            raise _RowError(f"{record.place}: {name} is a date, as Excel makes of 1/2: {value}; write it as a text")
        return text_of(value)

    def _answer(self, values: Mapping[str, object], record: Record) -> str:
        if "answer" not in self._layout.sources:
            return ""
        value = self._value(values, "answer", record)
        if holds_picture(value):
            raise _RowError(f"{record.place}: answer is bytes, not a text; name another column with `columns`")
        return self._undated(value, "answer", record)

    def _image(self, values: Mapping[str, object], extra: dict[str, str], record: Record) -> str:
        """Return the name of the row's picture; one that the table holds is kept, and the name that it had there."""
        picture = values.get(self._layout.pictures) if self._layout.pictures else None
        try:
            if holds_picture(picture):
                if name := text_of(values.get(self._layout.sources["image_id"])):
                    extra[NAMES] = name
            else:
                picture = self._value(values, "image_id", record)
            found = find_picture(picture)
            if isinstance(found, str):
                return found
            if self._keep is None:
                raise PictureError("its image is in the table; pass `pictures_dir`, a folder in which to keep it")
            return self._keep(found)
        except PictureError as error:
            raise _RowError(f"{record.place}: {error}", "image") from error

    def _extra(self, values: Mapping[str, object]) -> dict[str, str]:
        extra = {}
        further = {name: value for name, value in values.items() if name not in self._layout.taken}
        for name, path in self._layout.sources.items():
            if name not in CORE:
                further[name] = self._further_at(values, path)
        for name, value in further.items():
            if holds_picture(value):
                self.left_out.add(name)
            else:
                if name not in self.further:
                    self._rules.check_further([name])
                extra[self._share(name)] = self._share(text_of(value))
        return extra

    def _further_at(self, values: Mapping[str, object], path: str) -> object:
        try:
            return value_at(values, path)
        except LookupError:
            return None

    def _share(self, text: str) -> str:
        """Return the text, as one object for all rows that have it, so that memory does not fill with copies."""
        if len(text) > _SHORT or len(self._shared) >= _MOST_SHARED:
            return self._shared.get(text, text)
        return self._shared.setdefault(text, text)


def _check(cells: Mapping[str, str], place: str) -> None:
    """Raise _RowError if a row's cells cannot be a sample."""
    for name in ("question_id", "question", "image_id"):
        if not cells[name].strip():
            raise _RowError(f"{place}: blank {name}")
    for name in ("question_id", "image_id"):
        if "\n" in cells[name]:
            raise _RowError(f"{place}: a line break in an id; look for a quote that is not closed")
        if not is_whole(cells[name]):
            raise _RowError(f"{place}: the {name} holds {BROKEN}; give it another one")
