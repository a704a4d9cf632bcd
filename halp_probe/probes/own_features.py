"""Add a user's own features to shards, so that they are judged like the representations there.

Legend: M samples in the shards, F width of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import ShardSource
from halp_probe.probes.files import SELECTED_STEM, file_stem

# An array [M, F] in the shards' order, or a function of the shards that makes one.
Feature: TypeAlias = "np.ndarray | Callable[[Any], np.ndarray]"


class ExtendedShards:
    """Shards with further representations, which are computed when they are asked for.

    Raises ProbeError for a feature that has the name of a representation, or a name that no file can have beside the
    others, and, when it is asked for, for one that is not a finite array [M, F] or has another number of rows.
    """

    def __init__(self, shards: ShardSource, features: Mapping[str, Feature]) -> None:
        self._shards, self._features = shards, dict(features)
        stems = {file_stem(name): name for name in shards.representations} | {SELECTED_STEM: SELECTED_STEM}
        for name in self._features:
            if not name.strip() or "\n" in name:
                raise ProbeError(f"a feature named {name!r}: give it a name of one line")
            if (other := stems.setdefault(file_stem(name), name)) != name or name in shards.representations:
                raise ProbeError(f"the feature {name!r} has the same file name as {other!r}; give it another name")

    @property
    def question_ids(self) -> tuple[str, ...]:
        """Ids of the shards' questions."""
        return self._shards.question_ids

    @property
    def representations(self) -> tuple[str, ...]:
        """Representations of the shards, then the features."""
        return (*self._shards.representations, *self._features)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Text columns of the shards."""
        return self._shards.text_columns

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the shards."""
        return self._shards.attributes

    def has(self, name: str) -> bool:
        """Check for a column of the shards."""
        return self._shards.has(name)

    def text(self, name: str) -> list[str]:
        """Return a text column of the shards."""
        return self._shards.text(name)

    def numbers(self, name: str) -> np.ndarray:
        """Return a number column of the shards."""
        return self._shards.numbers(name)

    def vectors(self, representation: str) -> np.ndarray:
        """Return [M, F] float32 of a feature, or [M, D] of a representation of the shards."""
        if representation not in self._features:
            return self._shards.vectors(representation)
        feature = self._features[representation]
        values = np.asarray(feature(self._shards) if callable(feature) else feature)
        if values.ndim == 1:
            values = values[:, None]
        rows = len(self.question_ids)
        if values.ndim != 2 or len(values) != rows or values.shape[1] == 0 or values.dtype.kind not in "fiub":
            raise ProbeError(
                f"the feature {representation!r} is an array of shape {values.shape} and dtype {values.dtype}; it "
                f"takes numbers of shape ({rows}, F), a row for each question in the shards' order"
            )
        return values.astype(np.float32)
