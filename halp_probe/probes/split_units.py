"""Units of a split: which rows must stay on one side, since they show one picture or belong together otherwise.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from halp_probe.near_duplicates import MOST_PICTURES, near_pairs
from halp_probe.probes.errors import ProbeError
from halp_probe.shards.columns import CORE_TEXTS, DIFFERENCE_HASH, FURTHER_OWN_TEXTS, IMAGES, image_files

if TYPE_CHECKING:
    from halp_probe.probes.features import ShardSource

BOUNDARY = "token_index/vision"  # -1 where a prompt shows no image


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Pairs of images that are nearly the same picture, such as one in two encodings."""

    pairs: tuple[tuple[str, str], ...] = ()  # names of two images
    joined: bool = False  # each pair counts as one image, so never on both sides of a split
    unknown: str = ""  # why it is not known which images are alike


@dataclass(frozen=True, kw_only=True)
class Units:
    """Name of each row's unit, equal for rows that stay together, and how the units were made."""

    names: tuple[str, ...]  # N
    identified_by: str  # the column that identifies an image, such as image_sha256
    likeness: Likeness
    notes: tuple[str, ...]


def split_units(shards: ShardSource, index: np.ndarray, *, join_near_duplicates: bool, group_by: str | None) -> Units:
    """Return the units of the rows `index` [N] of the shards: images, joined where they are alike or grouped.

    `group_by` is a column whose equal values stay together too. Raises ProbeError for a column that is not there, a
    blank value, and rows without an image.
    """
    names, identified_by, note = image_names(shards, index)
    likeness = near_images(shards, index, names, join=join_near_duplicates)
    pairs = list(likeness.pairs) if likeness.joined else []
    notes = [note]
    if group_by is not None:
        values = _grouping(shards, group_by, index)
        first: dict[str, str] = {}
        pairs += [(first.setdefault(value, name), name) for value, name in zip(values, names, strict=True)]
        names = join_images(names, pairs)
        notes.append(f"{len(set(names))} units of the split: images with one value of `{group_by}` stay together")
    elif pairs:
        names = join_images(names, pairs)
    return Units(names=names, identified_by=identified_by, likeness=likeness, notes=tuple(notes))


def _grouping(shards: ShardSource, column: str, index: np.ndarray) -> tuple[str, ...]:
    if column not in further_columns(shards):
        there = ", ".join(further_columns(shards)) or "none"
        raise ProbeError(f"`group_by`: {column!r} is not an extra column of the table; the shards have: {there}")
    values = _pick(shards.text(column), index)
    if blank := values.count(""):
        raise ProbeError(f"`group_by`: {blank} rows have no {column}; fill the column, or leave `group_by` out")
    return values


def further_columns(shards: ShardSource) -> list[str]:
    """Return the names of the text columns that come from the table beside question, image and answer."""
    return [name for name in shards.text_columns if name not in (*CORE_TEXTS, *FURTHER_OWN_TEXTS)]


def image_names(shards: ShardSource, index: np.ndarray) -> tuple[tuple[str, ...], str, str]:
    """Return a name for each row's image, what these names are, and a note that says so."""
    hashes = _pick(shards.text("image_sha256"), index) if shards.has("image_sha256") else ()
    if hashes and shards.has(BOUNDARY) and (shards.numbers(BOUNDARY)[index] == -1).all():
        note = f"no prompt shows an image: {len(set(hashes))} images are here what image_id names"
        return hashes, "image_sha256", note
    if hashes and all(hashes) and shards.has(IMAGES):
        joined = _connect(hashes, _pick(shards.text(IMAGES), index))
        note = f"{len(set(joined))} sets of images: prompts that show one image, also among others, are in one set"
        return joined, "image_sha256", note
    if hashes and all(hashes):
        return (
            hashes,
            "image_sha256",
            f"{len(set(hashes))} images, told apart by the content of their files (image_sha256)",
        )
    if not shards.has("image_id"):
        raise ProbeError("the shards have neither image_sha256 nor image_id, so no split by image; extract them again")
    ids = _pick(shards.text("image_id"), index)
    if not all(ids):
        row = ids.index("")
        raise ProbeError(f"sample {shards.question_ids[index[row]]!r} has no image_id, so it cannot be split by image")
    why = "some rows lack image_sha256" if hashes else "the shards have no image_sha256"
    note = f"{len(set(ids))} images, told apart by image_id ({why}): copies of a file under two ids count as two"
    return ids, "image_id", note


def near_images(shards: ShardSource, index: np.ndarray, images: Sequence[str], *, join: bool) -> Likeness:
    """Find the pairs among the rows' images, as `image_names` names them, that are nearly the same picture."""
    hashes = _pick(shards.text(DIFFERENCE_HASH), index) if shards.has(DIFFERENCE_HASH) else ()
    if shards.has(BOUNDARY) and (shards.numbers(BOUNDARY)[index] == -1).all():
        return Likeness()  # no prompt shows a picture
    if not any(hashes):
        return Likeness(unknown="the shards have no image_difference_hash")
    blank = sum(not each for each in hashes)
    owners: dict[str, str] = {}  # the first image of each different hash; images with equal hashes are alike
    pairs: dict[tuple[str, str], None] = {}
    for image, each in zip(images, hashes, strict=True):
        for one in each.split():
            if (owner := owners.setdefault(one, image)) != image:
                pairs[owner, image] = None
    if len(owners) > MOST_PICTURES:
        return Likeness(unknown=f"{len(owners)} images are too many to compare each with each")
    names = list(owners.values())
    pairs |= dict.fromkeys((names[a], names[b]) for a, b in near_pairs(list(owners)) if names[a] != names[b])
    unknown = f"{blank} rows were captured without an image_difference_hash" if blank else ""
    return Likeness(pairs=tuple(pairs), joined=join, unknown=unknown)


def join_images(images: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return for each row the first image that its own is connected with by pairs of alike images."""
    place = {image: k for k, image in enumerate(dict.fromkeys(images))}
    edges = [(place[one], place[other]) for one, other in pairs]
    at, to = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (at, to)), (len(place), len(place)))
    component = connected_components(graph, directed=False)[1]
    first: dict[int, str] = {}
    named = {image: first.setdefault(component[k], image) for image, k in place.items()}
    return tuple(named[image] for image in images)


def _connect(hashes: Sequence[str], images: Sequence[str]) -> tuple[str, ...]:
    """Return for each row the first content that it is connected with: by content, or by any shared file."""
    rows = [[content, *image_files(files)] for content, files in zip(hashes, images, strict=True)]
    things = {thing: len(rows) + k for k, thing in enumerate(dict.fromkeys(thing for row in rows for thing in row))}
    edges = [(k, things[thing]) for k, row in enumerate(rows) for thing in row]
    at, to = zip(*edges, strict=True)
    size = len(rows) + len(things)
    components = connected_components(coo_array((np.ones(len(edges)), (at, to)), (size, size)), directed=False)[1]
    first: dict[int, str] = {}
    return tuple(first.setdefault(components[k], content) for k, content in enumerate(hashes))


def _pick(values: Sequence[str], index: np.ndarray) -> tuple[str, ...]:
    return tuple(values[row] for row in index)
