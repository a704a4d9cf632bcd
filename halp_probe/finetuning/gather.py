"""Gathering of a run's conversations: read from their data sets, split into training and held-out part, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.finetuning import llava_instruct, mixing, shapes_samples, text_vqa, viz_wiz
from halp_probe.finetuning.options import DataOptions
from halp_probe.finetuning.records import Conversation, LeftOut, Source
from halp_probe.progress import Progress, silent

SHAPES_FOLDER = "shapes_images"  # folder of the drawn pictures


@dataclass(frozen=True)
class Parts:
    """Training part of a stage's sources, and the part held out for evaluation."""

    train: tuple[Source, ...]
    held_out: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class GatheredData:
    """Conversations of every stage, by its number."""

    stages: Mapping[int, Parts]
    contents: Mapping[Path, bytes]  # result of `content_of` for every picture
    left_out: tuple[LeftOut, ...]


# conversations -> those that can be used, and the others
Checker = Callable[[Sequence[Conversation]], tuple[list[Conversation], list[LeftOut]]]


def gather(
    data: DataOptions,
    stages: Sequence[int],
    folder: Path,
    seed: int,
    check: Checker,
    progress: Progress = silent,
) -> GatheredData:
    """Read, split by picture and check the sources of these stages; pictures of ShapesVQA are drawn into `folder`.

    Raises InputError for files that cannot be used, and for a source with nothing left to train on.
    """
    left_out: list[LeftOut] = []
    by_stage, contents = {}, dict[Path, bytes]()
    for stage in stages:
        sources = [_check_source(_read(name, data, folder, progress), check) for name in data.names(stage)]
        left_out += [sample for source in sources for sample in source.left_out]
        shown = {each.image for source in sources for each in source.conversations if each.image is not None}
        contents |= {image: mixing.content_of(image) for image in shown - contents.keys()}
        splits = [mixing.split(source, data.held_out, seed, contents) for source in sources]
        for part in splits:
            if not part.train.conversations:
                raise InputError(f"{part.train.name} has no conversation to train on; lower `held_out`")
        by_stage[stage] = Parts(tuple(part.train for part in splits), tuple(part.held_out for part in splits))
    return GatheredData(stages=by_stage, contents=contents, left_out=tuple(left_out))


def _read(name: str, data: DataOptions, folder: Path, progress: Progress) -> Source:
    if name == "shapes_captions":
        return shapes_samples.read_captions(folder, data.shapes or 0, progress=progress)
    if name == "shapes":
        return shapes_samples.read_questions(folder, data.shapes or 0, progress=progress)
    files = data.files[name]
    if name == "text_vqa":
        return text_vqa.read(*files)
    if name == "viz_wiz":
        return viz_wiz.read(*files)
    return llava_instruct.read(*files, name=name, text_alone=name != "captions")  # no text alone for a connector


def _check_source(source: Source, check: Checker) -> Source:
    usable, others = check(source.conversations)
    return Source(name=source.name, conversations=tuple(usable), left_out=(*source.left_out, *others))
