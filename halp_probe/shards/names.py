"""Names on disk: question ids as HDF5 names, representations, and the files of a run."""

from __future__ import annotations

import re
from urllib.parse import unquote

from halp_probe.errors import InputError
from halp_probe.plain_text import is_whole
from halp_probe.records import IMAGE_MEAN, QUERY_TOKEN, QUESTION_END, VISION_ENCODER, VISION_ONLY, VISION_TOKEN

COLUMNS = "_columns"
_RESERVED = {COLUMNS, ".", ".."}
_LAYERED = re.compile(rf"({VISION_TOKEN}|{IMAGE_MEAN}|{QUESTION_END}|{QUERY_TOKEN})/layer_(\d+)")
_SIZE = re.compile(r"\d+(\.\d+)?[bm]")
_STYLE_WORDS = {"instruct", "chat", "it", "hf"}


def escape(name: str) -> str:
    """Escape a question id or CSV column for HDF5: `%` and `/` as %25 and %2F; every character of a reserved name.

    Raises InputError for what HDF5 cannot hold: a blank name, or one with a NUL character or half a surrogate pair.
    """
    if not name or not is_whole(name):
        raise InputError(
            f"{name!r} cannot be stored: give every question an id and every column a header of whole text"
        )
    if name in _RESERVED:
        return "".join(f"%{ord(c):02X}" for c in name)
    return name.replace("%", "%25").replace("/", "%2F")


def unescape(name: str) -> str:
    """Undo `escape`."""
    return unquote(name, errors="strict")


def layer_name(position: str, layer: int) -> str:
    """Return a name such as `query_token_representation/layer_7`."""
    return f"{position}/layer_{layer}"


def is_representation(name: str) -> bool:
    """Return whether this is the name of a representation."""
    return name in (VISION_ONLY, VISION_ENCODER) or _LAYERED.fullmatch(name) is not None


def layer_of(representation: str) -> int | None:
    """Return the layer at the end of a representation's name; None for the two vision means."""
    match = _LAYERED.fullmatch(representation)
    return int(match[2]) if match else None


def reading_order(representation: str) -> tuple[int, int]:
    """Return the sort key: vision-only, vision-encoder, then by layer vision token, image mean, question end, query."""
    order = (VISION_ONLY, VISION_ENCODER, VISION_TOKEN, IMAGE_MEAN, QUESTION_END, QUERY_TOKEN)
    return order.index(representation.split("/")[0]), layer_of(representation) or 0


def model_slug(model: str) -> str:
    """Shorten Qwen/Qwen2.5-VL-7B-Instruct to qwen25vl_7b: the family's words joined, the size, other words."""
    words = [w for w in re.split(r"[-_\s]+", model.rstrip("/").split("/")[-1].lower()) if w]
    family: list[str] = []
    while words and not _SIZE.fullmatch(words[0]):
        family.append(words.pop(0))
    rest = [w for w in words if w not in _STYLE_WORDS]
    slug = "_".join(["".join(w for w in family if w not in _STYLE_WORDS), *rest]).strip("_")
    return re.sub(r"[^a-z0-9_]", "", slug.replace(".", "")) or "model"


def shard_name(slug: str, part: int) -> str:
    """Return the file name of a shard."""
    return f"{slug}_embeddings_part_{part:03d}.h5"


def part_number(file_name: str) -> int | None:
    """Return the part number in a shard's file name; None if it is not the name of a finished shard."""
    match = re.fullmatch(r".+_embeddings_part_(\d+)\.h5", file_name)
    return int(match[1]) if match else None
