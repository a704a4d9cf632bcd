"""Choice of the held-out conversations, and the order and frequency in which the others are learned."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.finetuning.records import Conversation, Source

_RANGE = 2**64


@dataclass(frozen=True)
class Split:
    """Source in two parts."""

    train: Source
    held_out: Source


def split(source: Source, share: float, seed: int, contents: Mapping[Path, bytes] | None = None) -> Split:
    """Hold out about `share` (0 to 1) of the images with all conversations on them, and of those of text alone.

    Whether an image is held out depends on its file's content and the seed alone, so it is the same in all sources and
    stages, in any folder, under any name; `contents` are those already computed. Conversations keep their order; what
    was left out stays with the training part. Raises InputError for an image that cannot be read.
    """
    if not 0 <= share < 1:
        raise InputError(f"a held-out share of {share}: it must be at least 0 and below 1")
    digests, groups = contents or {}, dict[Path, bool]()
    parts: dict[bool, list[Conversation]] = {False: [], True: []}
    for conversation in source.conversations:
        image = conversation.image
        if image is None:
            held = _chance(f"{source.name}\0{conversation.key}".encode(), seed) < share
        else:
            if image not in groups:
                groups[image] = share > 0 and _chance(digests.get(image) or content_of(image), seed) < share
            held = groups[image]
        parts[held].append(conversation)
    return Split(
        Source(name=source.name, conversations=tuple(parts[False]), left_out=source.left_out),
        Source(name=source.name, conversations=tuple(parts[True])),
    )


def mix(sources: Sequence[Source], weights: Mapping[str, float] | None, seed: int) -> list[Conversation]:
    """Return one epoch of conversations, in the order in which they are learned.

    Without weights, every conversation occurs once. With weights, by the sources' names, the epoch has the same length,
    and each source's share of it is its weight's share of all weights, to within one conversation. A source is used in
    passes over all of it, each shuffled anew: no conversation occurs a second time before all have occurred once.
    Raises InputError for two sources of one name, for weights that are not positive numbers or do not name the sources,
    and for a source without conversations that has a weight.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InputError(f"two sources have the same name ({', '.join(sorted(names))}); give each its own")
    sizes = {source.name: len(source.conversations) for source in sources}
    quotas = sizes if weights is None else _quotas(weights, sizes)
    passes = {source.name: _passes(source, quotas[source.name], seed) for source in sources}
    order = [name for name in names for _ in range(quotas[name])]
    random.Random(f"{seed} order").shuffle(order)
    places = {name: iter(passes[name]) for name in names}
    return [next(places[name]) for name in order]


def content_of(path: Path) -> bytes:
    """Return a digest of the file's content. Raises InputError for a file that cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _quotas(weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the number of conversations of each source; they add up to the sum of the sizes (largest remainders)."""
    if set(weights) != set(sizes):
        raise InputError(
            f"there are weights for {', '.join(sorted(weights)) or 'nothing'}, but the sources are "
            f"{', '.join(sorted(sizes))}; give each source a weight, or none at all"
        )
    for name, weight in weights.items():
        if not 0 < weight < math.inf:
            raise InputError(f"the weight of {name} is {weight}: it must be above 0 and finite; leave the source out")
        if not sizes[name]:
            raise InputError(f"{name} has a weight but no conversations")
    total, whole = sum(sizes.values()), math.fsum(weights.values())
    exact = {name: total * (weight / whole) for name, weight in weights.items()}
    quotas = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: quotas[name] - exact[name])  # of equals the source that came first
    for name in by_remainder[: total - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _passes(source: Source, count: int, seed: int) -> list[Conversation]:
    drawn: list[Conversation] = []
    number = 0
    while len(drawn) < count:
        once = list(source.conversations)
        random.Random(f"{seed} {number} {source.name}").shuffle(once)
        drawn += once[: count - len(drawn)]
        number += 1
    return drawn


def _chance(identity: bytes, seed: int) -> float:
    """Return a number from 0 to 1 that depends on both arguments alone."""
    digest = hashlib.sha256(f"{seed}\0".encode() + identity).digest()
    return int.from_bytes(digest[:8], "big") / _RANGE
