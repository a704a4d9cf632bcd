"""Entries of a data set's JSON file, checked member by member, and sources made of them.

A departure from the published format is an error that names file, entry and key. A fault that makes a single entry
unusable leaves that entry out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halp_probe.engine.images import ImageError, ImagesDir, folder_path, image_path
from halp_probe.errors import InputError
from halp_probe.finetuning.records import Conversation, LeftOut, Source, Turn
from halp_probe.json_files import read_json, read_json_or_lines


class Unusable(ValueError):
    """The entry cannot be trained on; the message says why."""


@dataclass(frozen=True)
class Entry:
    """Object of a file."""

    place: str  # the file, and where in it
    members: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Return a member that is a text, as it is written. Raises InputError for another type or a missing member."""
        value = self._member(key)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a text")
        return value

    def identity(self, key: str) -> str:
        """Return a member that is a text or a whole number, as a text."""
        value = self._member(key)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self._wrong(key, value, "a text or a whole number")
        if not _is_unicode(str(value)):
            raise InputError(f"{self.place}: {key!r} holds half a surrogate pair, which no file can hold; correct it")
        return str(value)

    def texts(self, key: str) -> list[str]:
        """Return a member that is a list of texts."""
        values = self._list(key)
        for value in values:
            if not isinstance(value, str):
                raise self._wrong(key, value, "a list of texts")
        return values

    def entries(self, key: str) -> list[Entry]:
        """Return a member that is a list of objects."""
        return [_entry(f"{self.place}, {key!r} {n}", value) for n, value in enumerate(self._list(key), start=1)]

    def _list(self, key: str) -> list[Any]:
        value = self._member(key)
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value

    def _member(self, key: str) -> Any:
        if key not in self.members:
            raise InputError(f"{self.place} has no {key!r}; it has {', '.join(map(repr, self.members)) or 'nothing'}")
        return self.members[key]

    def _wrong(self, key: str, value: Any, expected: str) -> InputError:
        return InputError(f"{self.place}: {key!r} must be {expected}, not {_describe(value)}")


def read_entries(path: Path, under: str | None = None) -> list[Entry]:
    """Read the objects of a JSON list, or of the list that is the member `under` of the file's one object.

    Without `under` the file may have one object a line instead, from two lines on. Raises InputError for a file that
    cannot be read, has another structure, or holds no entry.
    """
    parsed = read_json(path) if under is not None else read_json_or_lines(path)
    if under is not None:
        if not isinstance(parsed, dict) or not isinstance(parsed.get(under), list):
            raise InputError(f"{path} must be a JSON object with a list {under!r}, not {_describe(parsed)}")
        parsed = parsed[under]
    elif not isinstance(parsed, list):
        raise InputError(f"{path} must be a JSON list, not {_describe(parsed)}")
    if not parsed:
        raise InputError(f"{path} holds no entries")
    return [_entry(f"{path}: entry {n}", value) for n, value in enumerate(parsed, start=1)]


def source_of(
    name: str,
    images_dir: ImagesDir,
    entries: Iterable[Entry],
    key_of: Callable[[Entry], str],
    image_of: Callable[[Entry], str | None],
    turns_of: Callable[[Entry], tuple[Turn, ...]],
) -> Source:
    """Return the entries as conversations; those that are Unusable or whose image is missing are left out.

    If several entries have one key, the second becomes KEY#2, the third KEY#3. Raises InputError when `images_dir` is
    not a folder, and when no entry can be used.
    """
    if not folder_path(images_dir).is_dir():
        raise InputError(f"{images_dir} is not a folder; pass the folder that holds the images of {name}")
    conversations: list[Conversation] = []
    left_out: list[LeftOut] = []
    paths: dict[str, Path] = {}
    keys = _UniqueKeys()
    for entry in entries:
        key = keys.of(key_of(entry))
        try:
            image, turns = image_of(entry), turns_of(entry)
            if image is not None and image not in paths:
                paths[image] = image_path(images_dir, image)
        except Unusable as error:
            left_out.append(LeftOut(source=name, key=key, stage="read", reason=str(error)))
        except ImageError as error:
            left_out.append(LeftOut(source=name, key=key, stage="image", reason=str(error)))
        else:
            conversations.append(
                Conversation(source=name, key=key, image=None if image is None else paths[image], turns=turns)
            )
    if not conversations:
        raise InputError(f"none of the {len(left_out)} entries of {name} can be used (the first: {left_out[0].reason})")
    return Source(name=name, conversations=tuple(conversations), left_out=tuple(left_out))


def turn(question: str, answer: str) -> Turn:
    """Return a turn of both texts, stripped. Raises Unusable where one is blank or not Unicode text."""
    for what, text in (("question", question), ("answer", answer)):
        if not text.strip():
            raise Unusable(f"no {what}")
        if not _is_unicode(text):
            raise Unusable(f"the {what} is not Unicode text (half a surrogate pair)")
    return Turn(question.strip(), answer.strip())


class _UniqueKeys:
    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def of(self, key: str) -> str:
        for unique in self._candidates(key):
            if unique not in self._count:
                self._count[unique] = 1
                return unique
        raise AssertionError("there is always a next number")

    def _candidates(self, key: str) -> Iterator[str]:
        yield key
        while True:
            self._count[key] += 1
            yield f"{key}#{self._count[key]}"


def _entry(place: str, value: Any) -> Entry:
    if not isinstance(value, dict):
        raise InputError(f"{place} must be a JSON object, not {_describe(value)}")
    return Entry(place, value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe(value: Any) -> str:
    """Describe a value in short, for an error."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:8])) or 'nothing in it'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
