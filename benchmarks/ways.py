"""Three ways from prompts to hidden states and answers, and how far two of them are apart.

Legend: D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flops
import numpy as np
from flops import ImageGroup
from three_passes import three_passes

from halp_probe.engine.batching import batches
from halp_probe.engine.engine import Engine
from halp_probe.engine.positions import probed_layers
from halp_probe.engine.prefix import group_by_image, shared_tokens
from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec

THREE_PASSES, PLAIN, OURS = "three passes", "plain batching", "ours"
COMPARED = ((OURS, THREE_PASSES), (PLAIN, THREE_PASSES), (OURS, PLAIN))


@dataclass(frozen=True, kw_only=True)
class Way:
    """`run` gives, for each of `rows` in order, an object with `vision_token`, `query_token` and `answer`."""

    rows: tuple[int, ...]  # of the table
    run: Callable[[], list[Any]]
    flops: int  # that one run needs


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two ways on the rows that both have: states at both tokens, all probed layers."""

    relative: float  # largest max |x - y| / max |y| of a vector
    cosine: float  # lowest
    same_answers: int
    rows: int


def make_ways(
    loaded: LoadedModel, prompts: Sequence[Prompt], new_tokens: int, batch_tokens: int, reference_rows: int
) -> dict[str, Way]:
    """The ways by name. Prompts on one image stand together; `three passes` runs over `reference_rows` of them."""
    layers = probed_layers(loaded.num_layers)
    config, spec = loaded.model.config, CaptureSpec(layers, new_tokens)
    every = tuple(range(len(prompts)))
    chosen = spread(len(prompts), reference_rows)
    plain, grouped = (list(batches(prompts, lambda: batch_tokens, share_prefix=share)) for share in (False, True))
    plain_engine = Engine(loaded, spec, share_prefix=False)
    engine = Engine(loaded, spec, share_prefix=True)

    def needed(count: Callable[[Any, ImageGroup, int], int], parts: Sequence[Sequence[Prompt]]) -> int:
        return sum(count(config, group, new_tokens) for part in parts for group in image_groups(part))

    return {
        THREE_PASSES: Way(
            rows=chosen,
            run=lambda: three_passes(loaded, [prompts[row] for row in chosen], layers, new_tokens),
            flops=needed(flops.three_passes, [[prompts[row]] for row in chosen]),
        ),
        PLAIN: Way(
            rows=every,
            run=lambda: [row for batch in plain for row in plain_engine.run(batch)],
            flops=needed(flops.plain_batching, plain),
        ),
        OURS: Way(
            rows=every,
            run=lambda: [row for batch in grouped for row in engine.run(batch)],
            flops=needed(flops.shared_prefix, grouped),
        ),
    }


def spread(rows: int, count: int) -> tuple[int, ...]:
    """About `count` of the rows, from all images and of all places among an image's questions."""
    step = max(1, rows // count)
    return tuple(start + (start // step) % step for start in range(0, rows - step + 1, step))[:count]


def image_groups(prompts: Sequence[Prompt]) -> Iterator[ImageGroup]:
    """The lengths of a batch, as operations are counted from them."""
    for rows in group_by_image(prompts).rows:
        group = [prompts[row] for row in rows]
        frames, height, width = group[0].images["image_grid_thw"][0].tolist()
        yield ImageGroup(
            grid=(frames, height, width), prompts=tuple(len(prompt) for prompt in group), shared=shared_tokens(group)
        )


def differences(ways: Mapping[str, Way], given: Mapping[str, Sequence[Any]]) -> dict[tuple[str, str], Difference]:
    """What the ways gave, in pairs, on the rows that both have."""
    by_row = {name: dict(zip(way.rows, given[name], strict=True)) for name, way in ways.items()}
    gaps = {}
    for left, right in COMPARED:
        common = sorted(by_row[left].keys() & by_row[right].keys())
        gaps[left, right] = difference([by_row[left][row] for row in common], [by_row[right][row] for row in common])
    return gaps


def difference(rows: Sequence[Any], reference: Sequence[Any]) -> Difference:
    """How far the rows are from their references, which stand in the same order."""
    relative, cosine, same = 0.0, 1.0, 0
    for row, expected in zip(rows, reference, strict=True):
        for states, right in ((row.vision_token, expected.vision_token), (row.query_token, expected.query_token)):
            for layer, vector in right.items():
                x, y = states[layer].astype(np.float64), vector.astype(np.float64)  # [D]
                relative = max(relative, float(np.abs(x - y).max() / np.abs(y).max()))
                cosine = min(cosine, float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
        same += row.answer == expected.answer
    return Difference(relative=relative, cosine=cosine, same_answers=same, rows=len(rows))
