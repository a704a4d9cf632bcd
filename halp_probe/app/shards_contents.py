"""A folder of shards as the page shows it: facts, pages of questions, the riskiest by a probe, and their pictures.

Legend: N questions, D width of a representation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from halp_probe.app.uploads import checked_image
from halp_probe.engine.images import ImageError, LoadedImage, content_sha256, image_path
from halp_probe.errors import InputError
from halp_probe.probes.card import check_same_states
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import LOGPROB, image_names
from halp_probe.probes.files import SavedProbe, image_keys
from halp_probe.shards.columns import IMAGES, image_files
from halp_probe.shards.failures import read_failures
from halp_probe.shards.names import layer_of
from halp_probe.shards.reader import Shards, open_shards

_SHOWN = ("image_id", "question", "answer", "ground_truth_answer")  # of the texts


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """One question. A text that the shards lack is blank, a number None."""

    question_id: str
    image_id: str
    question: str
    answer: str  # the model's
    truth: str
    confidence: float | None  # probability of the likeliest first token
    risk: float | None = None  # by the probe that was asked


@dataclass(frozen=True, kw_only=True)
class Riskiest:
    """The questions of highest risk, the highest first."""

    rows: tuple[QuestionRow, ...]
    scored: int  # questions
    unscored: int  # questions without a vector that could be scored
    trained_on: int | None  # images of the shards that the probe was trained on; None where images cannot be told


@dataclass(frozen=True, kw_only=True)
class ShardsFound:
    """What the shards say of themselves, and the way to their questions."""

    path: Path
    shards: Shards
    failures: int  # questions that the last run could not process

    @property
    def rows(self) -> int:
        """N."""
        return len(self.shards.question_ids)

    @property
    def representations(self) -> tuple[str, ...]:
        return self.shards.representations

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({layer for name in self.representations if (layer := layer_of(name)) is not None}))

    @property
    def notes(self) -> tuple[str, ...]:
        """Such as that the run has not ended."""
        return self.shards.notes

    @property
    def model(self) -> str:
        return self._fact("model_name")

    @property
    def dtype(self) -> str:
        """In which the model ran."""
        return self._fact("dtype")

    @property
    def created(self) -> str:
        """Of the first shard, in ISO 8601."""
        return self._fact("created_at")

    def _fact(self, name: str) -> str:
        return str(self.shards.attributes.get(name) or "not told")


def shards_found(path: Path) -> ShardsFound:
    """A shard or a folder of them. Raises what `open_shards` and `read_failures` raise."""
    shards = open_shards(path)
    return ShardsFound(path=path, shards=shards, failures=len(read_failures(shards.files[0].parent)))


def question_rows(found: ShardsFound, start: int, count: int) -> list[QuestionRow]:
    """Questions `start`, `start` + 1, … in shard order; fewer at the end. Only their files are read."""
    return _rows(found, range(max(start, 0), min(start + count, found.rows)))


def riskiest(found: ShardsFound, probe: SavedProbe, count: int) -> Riskiest:
    """By the probe's risk over its representation; of equal risks the first in shard order.

    Raises InputError when the probe reads other states than these.
    """
    shards, representation = found.shards, str(probe.metadata.get("representation"))
    check_same_states(probe.metadata, shards.attributes)
    if representation not in shards.representations:
        raise InputError(
            f"the probe reads {representation}, which these shards do not have; choose a probe of one of "
            f"{', '.join(shards.representations)}"
        )
    vectors = shards.vectors(representation)  # [N, D]
    if vectors.shape[1] != probe.width:
        raise InputError(
            f"the probe reads vectors of width {probe.width}, {representation} of these shards has {vectors.shape[1]}: "
            "it is of another model; choose one that was trained on this one"
        )
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    risk = probe.risk(vectors[known]) if len(known) else np.empty(0)
    order = np.argsort(-risk, kind="stable")[: max(count, 0)]
    rows = _rows(found, known[order].tolist())
    return Riskiest(
        rows=tuple(replace(row, risk=float(risk[place])) for row, place in zip(rows, order, strict=True)),
        scored=len(known),
        unscored=found.rows - len(known),
        trained_on=_trained_on(shards, probe),
    )


def pictures(found: ShardsFound, question_id: str, images_dir: Path) -> list[LoadedImage]:
    """The images that the question was asked about, out of this folder; none for a question without an image.

    Only files that the shards name are served, from inside the folder, and only with the content that was captured.
    Raises ImageError otherwise.
    """
    row = _place(found, question_id)
    path, first = _file_of(found, row)
    part = open_shards(path)
    texts = {name: part.text(name)[row - first] for name in ("image_id", "image_sha256", IMAGES) if part.has(name)}
    image_id = texts.get("image_id", "")
    files = image_files(texts[IMAGES]) if texts.get(IMAGES) else (image_id,)
    shown = [picture_inside(images_dir, file) for file in files]
    captured = texts.get("image_sha256")
    if captured and shown and captured != content_sha256(image_id, [image.sha256 for image in shown]):
        raise ImageError(f"{', '.join(files)} has changed since it was captured; pass the folder of that time")
    return shown


def picture_inside(images_dir: Path, file: str) -> LoadedImage:
    """A file of the folder; ImageError when it leads out of it, or is no picture within the page's limits."""
    path = image_path(images_dir, file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error
    return checked_image(content, file)


def _rows(found: ShardsFound, wanted: Sequence[int]) -> list[QuestionRow]:
    """These rows, in this order; each file that holds one is read once."""
    made: dict[int, QuestionRow] = {}
    for path, first, end in zip(found.shards.files, *_bounds(found), strict=True):
        here = [row for row in wanted if first <= row < end]
        if not here:
            continue
        part = open_shards(path)
        if part.question_ids != found.shards.question_ids[first:end]:
            raise InputError(f"{path} has changed since it was opened; open it again")
        texts = {name: part.text(name) if part.has(name) else [""] * (end - first) for name in _SHOWN}
        confidence = np.exp(part.numbers(LOGPROB)) if part.has(LOGPROB) else np.full(end - first, np.nan)
        for k in (row - first for row in here):
            made[first + k] = QuestionRow(
                question_id=part.question_ids[k],
                image_id=texts["image_id"][k],
                question=texts["question"][k],
                answer=texts["answer"][k],
                truth=texts["ground_truth_answer"][k],
                confidence=float(confidence[k]) if np.isfinite(confidence[k]) else None,
            )
    return [made[row] for row in wanted]


def _bounds(found: ShardsFound) -> tuple[list[int], list[int]]:
    """The first row of each file, and the row behind its last."""
    ends = list(accumulate(found.shards.counts))
    return [0, *ends[:-1]], ends


def _place(found: ShardsFound, question_id: str) -> int:
    if question_id not in found.shards.question_ids:
        raise InputError(f"no question {question_id!r} in {found.path}; choose one that is shown")
    return found.shards.question_ids.index(question_id)


def _file_of(found: ShardsFound, row: int) -> tuple[Path, int]:
    """The file that holds a row, and the file's first row."""
    bounds = zip(found.shards.files, *_bounds(found), strict=True)
    return next((path, first) for path, first, end in bounds if row < end)


def _trained_on(shards: Shards, probe: SavedProbe) -> int | None:
    try:
        names, _told_by, _note = image_names(shards, np.arange(len(shards.question_ids)))
    except ProbeError:  # nothing tells the images of these shards apart
        return None
    return int(np.isin(image_keys(names), probe.training_images).sum())
