r"""LLaVA's JSON (LLaVA-Instruct, LLaVA-Pretrain and others in their format): conversations of several turns.

[{"id": "000000033471", "image": "000000033471.jpg",
  "conversations": [{"from": "human", "value": "<image>\nWhat …?"}, {"from": "gpt", "value": "The …"}, …]}, …]
"""

from __future__ import annotations

from pathlib import Path

from halp_probe.engine.images import ImagesDir
from halp_probe.finetuning.annotations import Entry, Unusable, read_entries, source_of, turn
from halp_probe.finetuning.records import Source, Turn

NAME = "llava_instruct"
_MARKER = "<image>"  # where the picture stands in the text
_IMAGES = ("image", "images")
_HUMAN, _MODEL = "human", "gpt"


def read(json_path: Path, images_dir: ImagesDir, name: str = NAME, *, text_alone: bool = True) -> Source:
    """Read the file's conversations; one without `image`, or with null, is text alone.

    Left out are entries whose speakers do not alternate, human first; entries with a blank text; entries with an image
    and not exactly one marker, at the beginning or end of the first question; those with a marker but no image; those
    with several images; and, without `text_alone`, those of text alone. The file is a JSON list, or has one object a
    line. Repeated ids get numbers. Raises InputError for a file of another structure.
    """

    def turns(entry: Entry) -> tuple[Turn, ...]:
        if not text_alone and _image(entry) is None:
            raise Unusable("no image, and a connector learns from nothing else")
        return _turns(entry)

    return source_of(name, images_dir, read_entries(json_path), lambda entry: entry.identity("id"), _image, turns)


def _image(entry: Entry) -> str | None:
    """Return the image's name, also from a list of one. Raises Unusable for several."""
    key = next((key for key in _IMAGES if entry.members.get(key) is not None), None)
    if key is None:
        return None
    if not isinstance(entry.members[key], list):
        return entry.identity(key)
    names = entry.texts(key)
    if len(names) > 1:
        raise Unusable(f"{len(names)} images, and one conversation shows one")
    return names[0] if names else None


def _turns(entry: Entry) -> tuple[Turn, ...]:
    messages = [(message.text("from"), message.text("value")) for message in entry.entries("conversations")]
    for number, (speaker, _) in enumerate(messages):
        if speaker != (expected := (_HUMAN, _MODEL)[number % 2]):
            raise Unusable(f"message {number + 1} is from {speaker!r}, not from {expected!r}: they must take turns")
    if not messages or len(messages) % 2:
        raise Unusable("the last question has no answer" if messages else "no messages")
    texts = [value for _, value in messages]
    _check_markers(texts, 0 if _image(entry) is None else 1)
    texts[0] = texts[0].replace(_MARKER, "")
    return tuple(turn(question, answer) for question, answer in zip(texts[::2], texts[1::2], strict=True))


def _check_markers(texts: list[str], images: int) -> None:
    found = sum(text.count(_MARKER) for text in texts)
    if found != images:
        raise Unusable(f"the marker {_MARKER} stands {found} times in the text of {images or 'no'} image")
    if images and not (texts[0].strip().startswith(_MARKER) or texts[0].strip().endswith(_MARKER)):
        raise Unusable(f"the marker {_MARKER} stands neither at the beginning nor at the end of the first question")
