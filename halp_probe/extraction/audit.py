"""Re-tokenise every row of the shards, one by one, and check the stored token positions (`halp-probe audit`).

Each prompt is made again from the original image files, with the model's processor and without its weights, and the
positions are found by an independent search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from halp_probe.engine.images import ImagesDir
from halp_probe.errors import InputError
from halp_probe.records import Sample
from halp_probe.shards.columns import FURTHER_NUMBERS, IMAGES, image_files
from halp_probe.shards.reader import Shards
from halp_probe.state_identity import AUDITED, StateIdentity

if TYPE_CHECKING:
    from halp_probe.engine.prompting import Prompter

_NUMBERS = ("token_index/vision", "token_index/query", "token_id/vision", "token_id/query", "prompt_tokens")


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A stored number that differs from that of the prompt's own ids."""

    question_id: str
    name: str
    stored: int
    found: int


def audit(
    shards: Shards, images_dir: ImagesDir | None, model: str | None, cache_dir: str | None = None
) -> Iterator[Mismatch]:
    """Yield every stored position, id or length that differs from the re-tokenised prompt.

    Raises InputError if the model makes other prompts than those that were captured (because of another revision or
    chat template, for example), the shards store no positions (files of other code), an image is missing or its content
    has changed, or a row can no longer be made into a prompt.
    """
    from halp_probe.engine.images import content_sha256, image_path, load_image

    missing = [name for name in _NUMBERS if not shards.has(name)]
    if missing:
        raise InputError(f"{shards.files[0]} stores no {missing[0]}: it cannot be audited; capture it again")
    prompter = _prompter(shards, model, cache_dir)
    checkpoint = prompter.checkpoint
    stored = {name: shards.numbers(name) for name in (*_NUMBERS, *FURTHER_NUMBERS) if shards.has(name)}
    for row, (sample, sha256) in enumerate(zip(_samples(shards), shards.text("image_sha256"), strict=True)):
        question_id = sample.question_id
        if sample.files and images_dir is None:
            raise InputError(f"`images_dir` is missing: question {question_id!r} shows {', '.join(sample.files)}")
        images = [load_image(image_path(images_dir or Path(), file)) for file in sample.files]
        if content_sha256(sample.image_id, [image.sha256 for image in images]) != sha256:
            files = ", ".join(sample.files) or sample.image_id
            raise InputError(f"{files} in {images_dir} is not the file that was captured for question {question_id!r}")
        prompt = prompter.prompt(sample, *images)
        ids = prompt.input_ids
        (image_tokens,) = (ids == checkpoint.image_token_id).nonzero()
        found = {
            "token_index/vision": int(image_tokens[-1]) if images else -1,
            "token_index/query": len(ids) - 1,
            "token_id/vision": int(ids[image_tokens[-1]]) if images else -1,
            "token_id/query": int(ids[-1]),
            "prompt_tokens": len(ids),
        }
        if prompter.question_end:
            found["token_index/question_end"] = prompt.positions.question_end_index
            found["token_id/question_end"] = int(ids[prompt.positions.question_end_index])
        for name, value in found.items():
            if int(stored[name][row]) != value:
                yield Mismatch(question_id=question_id, name=name, stored=int(stored[name][row]), found=value)


def _prompter(shards: Shards, model: str | None, cache_dir: str | None) -> Prompter:
    """Return the prompter of the shards' prompts. Raises InputError for a model that would make other prompts."""
    from halp_probe.engine.identity import add_prompts, identity_of_checkpoint
    from halp_probe.engine.prompting import Prompter
    from halp_probe.models.loading import open_checkpoint

    stored = StateIdentity.of_shards(shards.attributes)
    revision = str(stored.revision)
    checkpoint = open_checkpoint(
        model or str(stored.model_name),
        cache_dir=cache_dir,
        revision=None if revision.startswith("local-") else revision,
        trust_lookup=stored.family_looked_up is True,
    )
    here = identity_of_checkpoint(checkpoint)
    _check_same_prompts(stored, here)  # before prompts are made: another model may not accept these options
    prompter = Prompter.for_identity(checkpoint, stored, question_end=all(map(shards.has, FURTHER_NUMBERS)))
    _check_same_prompts(stored, add_prompts(here, prompter, shows_images=stored.shows_images))
    return prompter


def _check_same_prompts(stored: StateIdentity, here: StateIdentity) -> None:
    if found := stored.differences(here, AUDITED):
        raise InputError(
            f"{here.model_name} does not make the prompts that were captured: "
            f"{'; '.join(each.between('in the shards', 'here') for each in found)}. Pass `model` as at that time "
            f"({stored.model_name})"
        )


def _samples(shards: Shards) -> Iterator[Sample]:
    """Yield the stored rows, with the fields that prompts are made of."""
    shown = shards.text(IMAGES) if shards.has(IMAGES) else [None] * len(shards.question_ids)
    rows = zip(shards.question_ids, shards.text("image_id"), shards.text("question"), shown, strict=True)
    for question_id, image_id, question, files in rows:
        yield Sample(
            question_id=question_id,
            image_id=image_id,
            question=question,
            answer="",
            images=None if files is None else image_files(files),
        )
