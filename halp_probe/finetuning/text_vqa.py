"""TextVQA's JSON, version 0.5.1: questions about text in pictures, ten answers each.

{"dataset_name": "textvqa", …, "data": [{"question_id": 0, "image_id": "0054c91397f2fe05", "question": "what …",
                                         "answers": ["nous les gosses", … ten], …}, …]}
"""

from __future__ import annotations

from pathlib import Path

from halp_probe.engine.images import ImagesDir
from halp_probe.finetuning.annotations import Entry, Unusable, read_entries, source_of, turn
from halp_probe.finetuning.majority import majority
from halp_probe.finetuning.records import Source, Turn

NAME = "text_vqa"


def read(json_path: Path, images_dir: ImagesDir, name: str = NAME) -> Source:
    """Read one conversation of one turn a question, with the answer that most people gave; images are IMAGE_ID.jpg.

    Raises InputError for a file of another structure, such as the test split, which has no answers.
    """
    entries = read_entries(json_path, under="data")
    return source_of(name, images_dir, entries, lambda entry: entry.identity("question_id"), _image, _turns)


def _image(entry: Entry) -> str:
    return f"{entry.identity('image_id')}.jpg"


def _turns(entry: Entry) -> tuple[Turn, ...]:
    if (answer := majority(entry.texts("answers"))) is None:
        raise Unusable("no answer")
    return (turn(entry.text("question"), answer),)
