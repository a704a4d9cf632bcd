"""`halp-probe audit`: re-tokenise every row of the shards, one by one, and check the stored token positions.

Makes each prompt anew from the original image files, with the model's processor and without its weights, and finds the
positions by a search of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.records import Sample
from halp_probe.shards.columns import IMAGES, image_files
from halp_probe.shards.reader import Shards, open_shards

_NUMBERS = ("token_index/vision", "token_index/query", "token_id/vision", "token_id/query", "prompt_tokens")


@dataclass(frozen=True)
class Mismatch:
    """A stored number that is not what the prompt's own ids say."""

    question_id: str
    name: str
    stored: int
    found: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards, or one")
    parser.add_argument("--images-dir", type=Path, help="the images that were captured (none for text alone)")
    parser.add_argument("--model", help="hub name or folder (what the shards name)")
    parser.add_argument("--cache-dir", default="./model_cache", help="where downloaded models are kept (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print how many rows agree; exit status 1 when one does not."""
    shards = open_shards(args.shards)
    mismatches = list(audit(shards, args.images_dir, args.model, args.cache_dir))
    rows = len(shards.question_ids)
    for mismatch in mismatches[:10]:
        print(f"{mismatch.question_id}: {mismatch.name} is {mismatch.stored}, the prompt says {mismatch.found}")
    wrong = len({mismatch.question_id for mismatch in mismatches})
    print(f"{rows - wrong} of {rows} rows: stored token positions and ids are those of the prompt's input ids")
    return 1 if mismatches else 0


def audit(
    shards: Shards, images_dir: Path | None, model: str | None, cache_dir: str | None = None
) -> Iterator[Mismatch]:
    """Every stored position, id or length that differs from the re-tokenised prompt.

    Raises InputError when the shards store no positions (files of other code), show images that lie in no folder, an
    image's content has changed, or a row cannot be made into a prompt any more.
    """
    from halp_probe.engine.images import content_sha256, image_path, load_image
    from halp_probe.engine.prompting import Prompter
    from halp_probe.models.loading import open_checkpoint

    missing = [name for name in _NUMBERS if not shards.has(name)]
    if missing:
        raise InputError(f"{shards.files[0]} stores no {missing[0]}: it cannot be audited, capture it anew")
    stored_revision = str(shards.attributes["revision"])
    revision = None if stored_revision.startswith("local-") else stored_revision
    checkpoint = open_checkpoint(model or str(shards.attributes["model_name"]), cache_dir=cache_dir, revision=revision)
    attributes = shards.attributes
    prompter = Prompter(
        checkpoint,
        attributes.get("min_pixels"),
        attributes.get("max_pixels"),
        date=attributes.get("prompt_date"),
        template_options=attributes.get("template_options"),
        system=attributes.get("system_prompt"),
    )
    stored = {name: shards.numbers(name) for name in _NUMBERS}
    for row, (sample, sha256) in enumerate(zip(_samples(shards), shards.text("image_sha256"), strict=True)):
        question_id = sample.question_id
        if sample.files and images_dir is None:
            raise InputError(f"`images_dir` is missing: question {question_id!r} shows {', '.join(sample.files)}")
        images = [load_image(image_path(images_dir or Path(), file)) for file in sample.files]
        if content_sha256(sample.image_id, [image.sha256 for image in images]) != sha256:
            files = ", ".join(sample.files) or sample.image_id
            raise InputError(f"{files} in {images_dir} is not the file that was captured for question {question_id!r}")
        ids = prompter.prompt(sample, *images).input_ids
        (image_tokens,) = (ids == checkpoint.image_token_id).nonzero()
        found = {
            "token_index/vision": int(image_tokens[-1]) if images else -1,
            "token_index/query": len(ids) - 1,
            "token_id/vision": int(ids[image_tokens[-1]]) if images else -1,
            "token_id/query": int(ids[-1]),
            "prompt_tokens": len(ids),
        }
        for name, value in found.items():
            if int(stored[name][row]) != value:
                yield Mismatch(question_id, name, int(stored[name][row]), value)


def _samples(shards: Shards) -> Iterator[Sample]:
    """The stored rows, as far as a prompt shows them."""
    shown = shards.text(IMAGES) if shards.has(IMAGES) else [None] * len(shards.question_ids)
    rows = zip(shards.question_ids, shards.text("image_id"), shards.text("question"), shown, strict=True)
    for question_id, image_id, question, files in rows:
        yield Sample(question_id, image_id, question, "", images=None if files is None else image_files(files))
