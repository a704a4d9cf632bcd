"""Differences between two folders beside the weights, so that nobody takes them for training."""

from __future__ import annotations

import h5py

from halp_probe.comparison.pairing import Pair, describe_unpaired
from halp_probe.shards.names import COLUMNS
from halp_probe.shards.reader import Shards
from halp_probe.state_identity import UNKNOWN, Check

_COMPUTED_WITH = (
    "dtype",
    "quantization",
    "device",
    "attn_implementation",
    "prefix_shared",
    "torch_version",
    "transformers_version",
    "halp_probe_version",
)
_ARCHITECTURE = ("config_model_type", "num_layers")
_NAMED = frozenset({"config_model_type", "revision", "adapters", "intervention"})  # said in each side's name
_ENCODINGS = {"uint16": "bfloat16"}  # HDF5 has no bfloat16: see the shard format


def other_architecture(pair: Pair) -> str:
    """Say why vectors of A and B cannot be subtracted even where they are equally wide; "" when they can."""
    parts = [
        f"{name} is {a} in A and {b} in B"
        for name in _ARCHITECTURE
        if (a := pair.a.attributes.get(name)) is not None and (b := pair.b.attributes.get(name)) is not None and a != b
    ]
    return ", ".join(parts)


def notes(pair: Pair) -> list[str]:
    """Return what a reader must know before trusting the numbers, one sentence each."""
    sentences = [f"{side}: {note}" for side, shards in _sides(pair) for note in shards.notes]
    if alone := describe_unpaired(pair):
        sentences.append(f"left out: {alone}")
    for side, shards in _sides(pair):
        if alone_here := [name for name in shards.representations if name not in pair.representations]:
            sentences.append(f"in {side} alone, not compared: {', '.join(alone_here)}")
    if differing := _computed_differently(pair):
        sentences.append(f"computed differently: {differing}; a part of the movement is rounding")
    a, b = pair.identities
    if found := a.differences(b, Check(may_differ=_NAMED | {"quantization"})):
        words = ", ".join(each.between("in A", "in B") for each in found)
        sentences.append(f"the states are of different kinds: {words}; a part of the movement is not training")
    if pair.image_column != "image_sha256":
        by = f"by {pair.image_column}" if pair.image_column else "not at all, each question counts as one"
        sentences.append(
            f"images are told apart {by}: some rows lack image_sha256, whether the pictures are equal is not known"
        )
    for side, identity in zip("AB", pair.identities, strict=True):
        if identity.chat_template_sha256 is UNKNOWN:
            sentences.append(f"{side} has no record of its prompt: whether both models saw the same one is not known")
    return sentences


def _sides(pair: Pair) -> tuple[tuple[str, Shards], tuple[str, Shards]]:
    return ("A", pair.a), ("B", pair.b)


def _computed_differently(pair: Pair) -> str:
    parts = []
    for name in _COMPUTED_WITH:
        a, b = pair.a.attributes.get(name), pair.b.attributes.get(name)
        if a != b:
            parts.append(f"{name} is {a} in A and {b} in B")
    a, b = (_stored_as(shards) for shards in (pair.a, pair.b))
    return ", ".join([*parts, *([f"vectors are stored as {a} in A and {b} in B"] if a != b else [])])


def _stored_as(shards: Shards) -> str:
    """Return the dtypes of the vectors on disk; the files of one run may differ."""
    found = set()
    for path in shards.files:
        with h5py.File(path, "r") as file:
            columns = file.get(COLUMNS, {})
            found |= {str(columns[name].dtype) for name in shards.representations if name in columns}
    return " and ".join(sorted(_ENCODINGS.get(name, name) for name in found)) or "float32"
