"""CaptionQA as the input of the tasks `qa` and `caption`, and the files that both write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.json_files import read_json
from halp_probe.labels.letters import Choice
from halp_probe.task_files.captionqa_rows import read_rows
from halp_probe.tasks import caption_qa_results as results
from halp_probe.tasks import captions
from halp_probe.tasks.caption_qa import CAPTION_QA, CAPTION_QA_ON_CAPTIONS, QaItem
from halp_probe.tasks.caption_qa_items import AskingOptions, QaRow, make_items
from halp_probe.tasks.task import TaskInput


def read_questions(
    dataset: str, split: str, pictures: Path, *, shuffle: str, seed: int, captions_file: Path | None
) -> TaskInput[QaItem, Choice]:
    """Read the split's questions, on images or on the captions of a file.

    The images are written into the folder `pictures`.

    Raises InputError for a data set or captions that cannot be read, and for a split without rows.
    """
    caption_texts = None if captions_file is None else read_captions(captions_file)
    rows = list(read_rows(dataset, split, None if caption_texts is not None else pictures))
    _check_rows(rows, dataset, split)
    if caption_texts is not None and not any(row.image_id in caption_texts for row in rows):
        raise InputError(
            f"`captions` {captions_file} holds none of the images of `split` {split} (first: {rows[0].image_id!r}); "
            "pass the file that `halp-probe caption` wrote for this split"
        )
    items, failures = make_items(rows, AskingOptions(shuffle=shuffle, seed=seed, captions=caption_texts))
    task = CAPTION_QA if caption_texts is None else CAPTION_QA_ON_CAPTIONS
    about = {
        "split": split,
        "shuffle": shuffle,
        "shuffle_seed": seed,
        "shows": "image" if caption_texts is None else "caption",
    }
    return TaskInput(task=task, items=items, failures=failures, images_dir=pictures, about=about)


def read_images(dataset: str, split: str, pictures: Path, prompt: str) -> TaskInput[captions.CaptionItem, str]:
    """Read the split's images, each with the same prompt. Raises as `read_questions` does."""
    rows = list(read_rows(dataset, split, pictures))
    _check_rows(rows, dataset, split)
    items, failures = captions.make_caption_items(rows, prompt)
    return TaskInput(
        task=captions.CAPTION,
        items=items,
        failures=failures,
        images_dir=pictures,
        about={"split": split, "prompt": prompt},
    )


def read_captions(path: Path) -> Mapping[str, str]:
    """Read captions by image id. Raises InputError for a file that holds something else."""
    found = read_json(path, "`halp-probe caption` writes such a file")
    if not isinstance(found, dict):
        raise InputError(f"`captions` {path} is not a JSON object of image ids and captions")
    if wrong := [image_id for image_id, caption in found.items() if not isinstance(caption, str)]:
        raise InputError(f"`captions` {path}: {len(wrong)} captions are not text (first: that of {wrong[0]!r})")
    return found


def write_results(output: Path, answers: Iterable[tuple[QaItem, str]], model: str, split: str) -> Mapping[str, Any]:
    """Write the results and, beside them, their metrics; return the metrics."""
    found = results.results(answers)
    metrics = results.metrics(found, model, split)
    for path, value in ((output, found), (metrics_path(output), metrics)):
        with atomic_text(path) as file:
            file.write(results.as_json(value))
    return metrics


def metrics_path(output: Path) -> Path:
    """Return the path of the metrics that belong to a file of results."""
    return output.with_name(f"{output.name.removesuffix('.json')}_metrics.json")


def write_captions(output: Path, answers: Iterable[tuple[captions.CaptionItem, str]]) -> Mapping[str, str]:
    """Write and return the captions by image id; empty ones are left out."""
    found = captions.captions(answers)
    with atomic_text(output) as file:
        file.write(captions.as_json(found))
    return found


def _check_rows(rows: Sequence[QaRow], dataset: str, split: str) -> None:
    if not rows:
        raise InputError(f"`dataset` {dataset} has no rows in the split {split}")
