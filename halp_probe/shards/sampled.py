"""Sampled answers on disk: a group `samples` below the columns, with a dataset for each of their facts.

Legend: N questions, S sampled answers of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from halp_probe.records import SampledAnswers
from halp_probe.shards.texts import read_texts, write_texts

SAMPLES = "samples"  # the group's name; a table's column of this name is a dataset
DTYPES: dict[str, type[np.generic]] = {"logprob": np.float32, "tokens": np.int32, "finished": np.bool_}


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Answers that were sampled beside the greedy one, S of each of N questions."""

    answer: np.ndarray  # [N, S] str objects; "" without an answer
    logprob: np.ndarray  # [N, S] float32, nats at temperature 1, summed over the tokens; nan without an answer
    tokens: np.ndarray  # [N, S] int32, the end token counted; 0 without an answer
    finished: np.ndarray  # [N, S] bool, whether an end token came; False for an answer that was cut off

    def __len__(self) -> int:
        return len(self.answer)

    def take(self, index: np.ndarray) -> Samples:
        """Return the given rows, in this order."""
        return Samples(
            answer=self.answer[index],
            logprob=self.logprob[index],
            tokens=self.tokens[index],
            finished=self.finished[index],
        )


def concatenate_samples(blocks: Sequence[Samples]) -> Samples:
    """Concatenate blocks with the same S."""
    return Samples(
        answer=np.concatenate([block.answer for block in blocks]),
        logprob=np.concatenate([block.logprob for block in blocks]),
        tokens=np.concatenate([block.tokens for block in blocks]),
        finished=np.concatenate([block.finished for block in blocks]),
    )


def no_samples(rows: int, count: int) -> Samples:
    """Return the samples of questions that have none."""
    return Samples(
        answer=np.full((rows, count), "", dtype=object),
        logprob=np.full((rows, count), np.nan, dtype=np.float32),
        tokens=np.zeros((rows, count), dtype=np.int32),
        finished=np.zeros((rows, count), dtype=bool),
    )


def from_sampled(rows: Sequence[SampledAnswers]) -> Samples:
    """Convert what was captured, a row a question."""
    return Samples(
        answer=np.array([row.answers for row in rows], dtype=object),
        logprob=np.stack([row.logprobs for row in rows]).astype(np.float32),
        tokens=np.stack([row.tokens for row in rows]).astype(np.int32),
        finished=np.stack([row.finished for row in rows]),
    )


def has_samples(columns: h5py.Group) -> bool:
    """Return whether there are sampled answers below the columns."""
    return isinstance(columns.get(SAMPLES), h5py.Group)


def write_samples(columns: h5py.Group, samples: Samples) -> None:
    """Write the group below the columns."""
    group = columns.create_group(SAMPLES)
    write_texts(group, "answer", samples.answer.ravel().tolist(), shape=samples.answer.shape)
    for name in DTYPES:
        group.create_dataset(name, data=getattr(samples, name))


def read_samples(columns: h5py.Group) -> Samples:
    """Read the group below the columns. Raises KeyError for what is missing."""
    group = columns[SAMPLES]
    numbers = {name: group[name][()] for name in DTYPES}
    texts = np.array(read_texts(group["answer"]), dtype=object).reshape(group["answer"].shape)
    return Samples(answer=texts, **numbers)


def sample_problems(columns: h5py.Group, rows: int) -> list[str]:
    """List how the group departs from docs/shard-format.md."""
    group = columns[SAMPLES]
    missing = [name for name in ("answer", *DTYPES) if name not in group]
    if missing:
        return [f"{group.name}/{name} is missing" for name in missing]
    found = [f"{group.name}/{n} has dtype {group[n].dtype}" for n, dtype in DTYPES.items() if group[n].dtype != dtype]
    shapes = {name: group[name].shape for name in ("answer", *DTYPES)}
    if len(set(shapes.values())) > 1 or len(shapes["answer"]) != 2 or shapes["answer"][0] != rows:
        found.append(f"{group.name} has shapes {shapes}, expected [{rows}, S] of all")
    if found:
        return found
    samples = read_samples(columns)
    answered = samples.tokens > 0
    if (samples.tokens < 0).any() or not np.isfinite(samples.logprob[answered]).all():
        found.append(f"{group.name}: an answer's tokens or log-probability is not a number")
    if (samples.logprob[answered] > 1e-3).any():
        found.append(f"{group.name}/logprob is above 0")
    if not np.isnan(samples.logprob[~answered]).all() or samples.finished[~answered].any():
        found.append(f"{group.name}: a sample of no tokens has a log-probability, or is finished")
    return found
