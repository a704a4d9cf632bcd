"""Ask a model about its own answers, and about its questions without their pictures: the table `asked.csv`.

It is written anew, whole, after every few questions; a run that is started again asks only for what is missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from halp_probe.errors import InputError
from halp_probe.extraction.asked_passes import Passes, PassResult
from halp_probe.extraction.options import NO_IMAGE, OTHER_IMAGE, P_TRUE, VERBALISED
from halp_probe.json_files import read_json, write_json
from halp_probe.records import Failure, Sample
from halp_probe.rivals.asked import (
    ASKED_FILE,
    how_confident,
    image_columns,
    option_ids,
    p_true,
    parse_confidence,
    true_or_false,
)
from halp_probe.rivals.table import read_rivals, write_rivals
from halp_probe.settings import differences
from halp_probe.shards.failures import read_failures, write_failures
from halp_probe.shards.reader import Shards, open_shards

FAILURES = "asked_failures.csv"
_SETTINGS_FILE = "asked.json"
_TOGETHER = 64  # questions between two writes of the table
_COLUMNS = {
    P_TRUE: ("p_true", "p_true_mass"),
    VERBALISED: ("verbalised_confidence",),
    NO_IMAGE: ("no_image_kl", "no_image_tv"),
    OTHER_IMAGE: ("other_image_kl", "other_image_tv"),
}
_log = logging.getLogger(__name__)


def ask_rivals(
    passes: Passes,
    folder: Path,
    images: Sequence[Sequence[Sample]],
    rivals: Sequence[str],
    seed: int,
    *,
    should_stop: Callable[[], bool],
) -> None:
    """Ask about the questions that are in the folder's shards; `images` holds the run's samples, by image.

    Raises InputError if a rival is not possible here, or the folder's table was made with another seed.
    """
    shards = open_shards(folder)
    answers = dict(zip(shards.question_ids, shards.text("answer"), strict=True))
    samples = [sample for image in images for sample in image if sample.question_id in answers]
    others = _other_images(shards, seed) if OTHER_IMAGE in rivals else {}
    _check_settings(folder, rivals, seed)
    if NO_IMAGE in rivals:
        passes.check([replace(sample, images=()) for sample in samples[:1]])
    columns = _read(folder / ASKED_FILE, shards.question_ids, rivals)
    place = {question_id: row for row, question_id in enumerate(shards.question_ids)}
    # Failures of rivals that are not asked about now stay listed.
    failures = [each for each in read_failures(folder, FAILURES) if each.stage.split(": ")[0] not in rivals]
    for rival in rivals:
        ask = _asker(rival, passes, answers, others)
        first = columns[_COLUMNS[rival][0]]
        missing = [sample for sample in samples if math.isnan(first[place[sample.question_id]])]
        for part in _parts(missing):
            found, failed = ask(part)
            failures += [replace(each, stage=f"{rival}: {each.stage}") for each in failed]
            for question_id, values in found.items():
                for name, value in values.items():
                    columns[name][place[question_id]] = value
            write_rivals(folder / ASKED_FILE, shards.question_ids, columns)
            write_failures(folder, failures, FAILURES)
            if should_stop():
                return
        blank = int(np.isnan([first[place[sample.question_id]] for sample in samples]).sum())
        if blank:
            _log.warning("%s: %d of %d questions have no value (see %s).", rival, blank, len(samples), FAILURES)


_Found = tuple[Mapping[str, Mapping[str, float]], Sequence[Failure]]  # columns by question id, and what failed


def _asker(
    rival: str, passes: Passes, answers: Mapping[str, str], others: Mapping[str, str]
) -> Callable[[Sequence[Sample]], _Found]:
    """Return the function that asks one rival's prompts about some samples."""
    if rival == P_TRUE:
        ids = option_ids(passes.loaded.checkpoint.processor.tokenizer)

        def ask_true(samples: Sequence[Sample]) -> _Found:
            read = passes.read([_about(true_or_false, sample, answers) for sample in samples])
            shares = {key: p_true(logprobs, ids) for key, logprobs in read.first_logprobs.items()}
            names = _COLUMNS[P_TRUE]
            return {key: dict(zip(names, share, strict=True)) for key, share in shares.items()}, read.failures

        return ask_true
    if rival == VERBALISED:

        def ask_confidence(samples: Sequence[Sample]) -> _Found:
            read = passes.read([_about(how_confident, sample, answers) for sample in samples], reply=True)
            (name,) = _COLUMNS[VERBALISED]
            parsed = {key: {name: parse_confidence(reply)} for key, reply in read.replies.items()}
            return parsed, [*read.failures, *_unparsable(read)]

        return ask_confidence

    def ask_without(samples: Sequence[Sample]) -> _Found:
        shown = passes.read(samples)
        other = passes.read([replace(sample, images=_shown_instead(rival, sample, others)) for sample in samples])
        both = shown.first_logprobs.keys() & other.first_logprobs.keys()
        name = rival.replace("-", "_")
        pairs = {key: (shown.first_logprobs[key], other.first_logprobs[key]) for key in both}
        return {key: image_columns(name, *pair) for key, pair in pairs.items()}, [*shown.failures, *other.failures]

    return ask_without


def _about(prompt: Callable[[str, str], str], sample: Sample, answers: Mapping[str, str]) -> Sample:
    return replace(sample, question=prompt(sample.question, answers[sample.question_id]))


def _unparsable(read: PassResult) -> list[Failure]:
    return [
        Failure(question_id=key, stage="reply", reason=f"{reply!r} names no confidence from 0 to 100")
        for key, reply in read.replies.items()
        if math.isnan(parse_confidence(reply))
    ]


def _shown_instead(rival: str, sample: Sample, others: Mapping[str, str]) -> tuple[str, ...]:
    return () if rival == NO_IMAGE else (others[sample.image_id],)


def _other_images(shards: Shards, seed: int) -> dict[str, str]:
    """Choose for each picture another one of different content, by the seed; the questions on it share the choice."""
    if shards.has("images"):
        raise InputError("`rivals` other-image needs questions on one picture each; leave it out")
    contents = dict(zip(shards.text("image_id"), shards.text("image_sha256"), strict=True))
    names = sorted(contents)
    chosen = {}
    for name, content in contents.items():
        digest = hashlib.sha256(json.dumps([seed, name]).encode()).digest()
        different = [other for other in names if contents[other] != content]
        if not different:
            raise InputError("`rivals` other-image needs a second picture of another content; leave it out")
        chosen[name] = different[int.from_bytes(digest[:8], "big") % len(different)]
    return chosen


def _check_settings(folder: Path, rivals: Sequence[str], seed: int) -> None:
    """Raise InputError if another seed chose the other pictures; record this one."""
    path = folder / _SETTINGS_FILE
    now = {"seed": seed} if OTHER_IMAGE in rivals else {}
    stored = read_json(path, "remove it and asked.csv") if path.exists() else {}
    if stored and now and (found := differences(stored, now)):
        raise InputError(f"{folder / ASKED_FILE} was made with another setting: {found}; remove it to ask anew")
    if now and not stored:
        write_json(path, now)


def _read(path: Path, question_ids: Sequence[str], rivals: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the table as far as there is one, with columns of nan for what was never asked."""
    stored = read_rivals(path, question_ids) if path.exists() else {}
    wanted = [name for rival in rivals for name in _COLUMNS[rival]]
    return {name: stored.get(name, np.full(len(question_ids), np.nan)) for name in dict.fromkeys([*stored, *wanted])}


def _parts(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), _TOGETHER):
        yield samples[start : start + _TOGETHER]
