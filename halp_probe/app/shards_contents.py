"""Contents of a folder of shards for the page: facts, pages of questions, the riskiest by a probe, their pictures.

Legend: N questions, D width of a representation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from halp_probe.app.uploads import check_image
from halp_probe.engine.images import ImageError, LoadedImage, content_sha256, image_path
from halp_probe.errors import InputError
from halp_probe.probes.card import check_same_states
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.features import LOGPROB
from halp_probe.probes.files import SavedProbe, image_keys
from halp_probe.probes.split_units import image_names
from halp_probe.shards.columns import IMAGES, image_files
from halp_probe.shards.failures import read_failures
from halp_probe.shards.names import layer_of
from halp_probe.shards.reader import Shards, open_shards

_SHOWN = ("image_id", "question", "answer", "ground_truth_answer")  # of the texts


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """Question with its answer. A text that the shards lack is blank, a number None."""

    question_id: str
    image_id: str
    question: str
    answer: str  # the model's
    truth: str
    confidence: float | None  # probability of the likeliest first token
    risk: float | None = None  # by the chosen probe


@dataclass(frozen=True, kw_only=True)
class Riskiest:
    """Questions of highest risk, the highest first."""

    rows: tuple[QuestionRow, ...]
    scored: int  # number of questions with a risk
    unscored: int  # number of questions without a vector that could be scored
    trained_on: int | None  # number of the shards' images that the probe was trained on; None if images are not known


@dataclass(frozen=True, kw_only=True)
class ShardsContents:
    """Facts that the shards record, and access to their questions."""

    path: Path
    shards: Shards
    failures: int  # questions that the last run could not process

    @property
    def rows(self) -> int:
        """Number N of questions."""
        return len(self.shards.question_ids)

    @property
    def representations(self) -> tuple[str, ...]:
        """Names of the representations."""
        return self.shards.representations

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the representations, ascending."""
        return tuple(sorted({layer for name in self.representations if (layer := layer_of(name)) is not None}))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes such as that the run has not ended."""
        return self.shards.notes

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._fact("model_name")

    @property
    def dtype(self) -> str:
        """Dtype in which the model ran."""
        return self._fact("dtype")

    @property
    def created(self) -> str:
        """Creation time of the first shard, in ISO 8601."""
        return self._fact("created_at")

    def _fact(self, name: str) -> str:
        return str(self.shards.attributes.get(name) or "not recorded")


def open_shards_contents(path: Path) -> ShardsContents:
    """Open a shard or a folder of them. Raises what `open_shards` and `read_failures` raise."""
    shards = open_shards(path)
    return ShardsContents(path=path, shards=shards, failures=len(read_failures(shards.files[0].parent)))


def question_rows(contents: ShardsContents, start: int, count: int) -> list[QuestionRow]:
    """Read questions `start`, `start` + 1, … in shard order; fewer at the end. Only their files are read."""
    return _rows(contents, range(max(start, 0), min(start + count, contents.rows)))


def riskiest(contents: ShardsContents, probe: SavedProbe, count: int) -> Riskiest:
    """Return the questions of highest risk by the probe; of equal risks the first in shard order.

    Raises InputError when the probe reads other states than these.
    """
    shards = contents.shards
    check_same_states(probe.metadata, shards.attributes)
    missing = [name for name in probe.inputs if name not in shards.representations and not shards.has(name)]
    if missing:
        raise InputError(
            f"the probe reads {missing[0]}, which these shards do not have; choose a probe of one of "
            f"{', '.join(shards.representations)}"
        )
    for name, width in probe.widths.items():
        if not shards.has(name) and (here := shards.vectors(name).shape[1]) != width:
            raise InputError(
                f"the probe reads vectors of width {width}, {name} of these shards has {here}: it belongs to another "
                "model; choose one that was trained on this one"
            )
    risk = probe.risk_of(shards)  # [N]
    complete = np.flatnonzero(np.isfinite(risk))
    risk = risk[complete]
    order = np.argsort(-risk, kind="stable")[: max(count, 0)]
    rows = _rows(contents, complete[order].tolist())
    return Riskiest(
        rows=tuple(replace(row, risk=float(risk[place])) for row, place in zip(rows, order, strict=True)),
        scored=len(complete),
        unscored=contents.rows - len(complete),
        trained_on=_trained_on(shards, probe),
    )


def pictures(contents: ShardsContents, question_id: str, images_dir: Path) -> list[LoadedImage]:
    """Read the images of the question from this folder; [] for a question without an image.

    Only files that the shards name are served, from inside the folder, and only with the content that was captured.
    Raises ImageError otherwise.
    """
    row = _place(contents, question_id)
    path, first = _file_of(contents, row)
    part = open_shards(path)
    texts = {name: part.text(name)[row - first] for name in ("image_id", "image_sha256", IMAGES) if part.has(name)}
    image_id = texts.get("image_id", "")
    files = image_files(texts[IMAGES]) if texts.get(IMAGES) else (image_id,)
    shown = [picture_inside(images_dir, file) for file in files]
    captured = texts.get("image_sha256")
    if captured and shown and captured != content_sha256(image_id, [image.sha256 for image in shown]):
        raise ImageError(f"{', '.join(files)} has changed since it was captured; pass the folder with the original")
    return shown


def picture_inside(images_dir: Path, file: str) -> LoadedImage:
    """Read a file of the folder.

    Raises ImageError when it leads out of the folder, or is not a picture within the page's limits.
    """
    path = image_path(images_dir, file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error
    return check_image(content, file)


def _rows(contents: ShardsContents, wanted: Sequence[int]) -> list[QuestionRow]:
    """Return these rows, in this order; each file that holds one is read once."""
    found: dict[int, QuestionRow] = {}
    for path, first, end in zip(contents.shards.files, *_bounds(contents), strict=True):
        here = [row for row in wanted if first <= row < end]
        if not here:
            continue
        part = open_shards(path)
        if part.question_ids != contents.shards.question_ids[first:end]:
            raise InputError(f"{path} has changed since it was opened; open it again")
        texts = {name: part.text(name) if part.has(name) else [""] * (end - first) for name in _SHOWN}
        confidence = np.exp(part.numbers(LOGPROB)) if part.has(LOGPROB) else np.full(end - first, np.nan)
        for k in (row - first for row in here):
            found[first + k] = QuestionRow(
                question_id=part.question_ids[k],
                image_id=texts["image_id"][k],
                question=texts["question"][k],
                answer=texts["answer"][k],
                truth=texts["ground_truth_answer"][k],
                confidence=float(confidence[k]) if np.isfinite(confidence[k]) else None,
            )
    return [found[row] for row in wanted]


def _bounds(contents: ShardsContents) -> tuple[list[int], list[int]]:
    """Return the first row of each file, and the row after its last."""
    ends = list(accumulate(contents.shards.counts))
    return [0, *ends[:-1]], ends


def _place(contents: ShardsContents, question_id: str) -> int:
    if question_id not in contents.shards.question_ids:
        raise InputError(f"no question {question_id!r} in {contents.path}; choose one that is shown")
    return contents.shards.question_ids.index(question_id)


def _file_of(contents: ShardsContents, row: int) -> tuple[Path, int]:
    """Return the file that holds a row, and the file's first row."""
    bounds = zip(contents.shards.files, *_bounds(contents), strict=True)
    return next((path, first) for path, first, end in bounds if row < end)


def _trained_on(shards: Shards, probe: SavedProbe) -> int | None:
    try:
        names, _identified_by, _note = image_names(shards, np.arange(len(shards.question_ids)))
    except ProbeError:  # the shards do not identify their images
        return None
    return int(np.isin(image_keys(names), probe.training_images).sum())
