"""Write ShapesVQA to disk: a folder of pictures and the CSV table that `extract.py` reads."""

from __future__ import annotations

import csv
from pathlib import Path

from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.shapes import questions, scenes

FIRST_TRAINING_SEED = 1_000_000  # scenes from this seed on trained the bundled model
FIRST_TUNING_SEED = 2_000_000  # and scenes from this seed on, for `train-vlm`, trained no bundled model or part
COLUMNS = ("question_id", "image_id", "question", "answer", "kind", "difficulty")


def write_dataset(folder: Path, *, n_scenes: int, questions_a_scene: int = 6, seed: int = 0) -> int:
    """Write `images/scene_NNNNNN.png` and `vqa.csv` for scenes `seed … seed + n_scenes - 1`.

    Return the number of questions. The same arguments give the same bytes. Raises InputError for seeds whose scenes
    trained the bundled model.
    """
    if seed < 0 or seed + n_scenes > FIRST_TRAINING_SEED:
        raise InputError(
            f"scenes {seed} to {seed + n_scenes - 1}: seeds from {FIRST_TRAINING_SEED} on trained the bundled model, "
            "choose smaller ones"
        )
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in map(scenes.make_scene, range(seed, seed + n_scenes)):
        image_id = f"scene_{scene.seed:06d}.png"
        scenes.render(scene).save(images / image_id)
        for number, question in enumerate(questions.ask(scene, questions_a_scene)):
            question_id = f"shapes_{scene.seed:06d}_{number}"
            difficulty = f"{scene.difficulty:.3f}"
            rows.append((question_id, image_id, question.text, question.answer, question.kind, difficulty))
    with atomic_text(folder / "vqa.csv") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)
