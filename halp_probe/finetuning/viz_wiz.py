"""VizWiz-VQA's JSON: questions that blind people asked about their photos, ten answers each.

[{"image": "VizWiz_train_00000000.jpg", "question": "What's …?", "answer_type": "other", "answerable": 1,
  "answers": [{"answer": "basil leaves", "answer_confidence": "yes"}, … ten]}, …]
"""

from __future__ import annotations

from pathlib import Path

from halp_probe.engine.images import ImagesDir
from halp_probe.finetuning.annotations import Entry, Unusable, read_entries, source_of, turn
from halp_probe.finetuning.majority import majority
from halp_probe.finetuning.records import Source, Turn

NAME = "viz_wiz"


def read(json_path: Path, images_dir: ImagesDir, name: str = NAME) -> Source:
    """Read one conversation of one turn an image, with the answer that most people gave, even if it is `unanswerable`.

    The key is the image's name. Raises InputError for a file of another structure, such as the test split, which has no
    answers.
    """
    return source_of(name, images_dir, read_entries(json_path), _image, _image, _turns)


def _image(entry: Entry) -> str:
    return entry.identity("image")


def _turns(entry: Entry) -> tuple[Turn, ...]:
    if (answer := majority(each.text("answer") for each in entry.entries("answers"))) is None:
        raise Unusable("no answer")
    return (turn(entry.text("question"), answer),)
