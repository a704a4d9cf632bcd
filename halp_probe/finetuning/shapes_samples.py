"""ShapesVQA for training: captions and questions on scenes that the demo and the tests never use."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from halp_probe.engine.images import load_image
from halp_probe.errors import InputError
from halp_probe.files import write_bytes
from halp_probe.finetuning.records import Conversation, Source, Turn
from halp_probe.progress import Counter, Progress, silent
from halp_probe.shapes import questions, scenes
from halp_probe.shapes.dataset import FIRST_TUNING_SEED

CAPTIONS, QUESTIONS = "shapes_captions", "shapes"


def read_captions(
    folder: Path, n_scenes: int, first_seed: int = FIRST_TUNING_SEED, progress: Progress = silent
) -> Source:
    """Return one conversation a scene, which lists its shapes by place. See `draw` for the pictures and errors."""
    drawn = draw(folder, n_scenes, first_seed, progress)
    conversations = [
        Conversation(
            source=CAPTIONS, key=path.stem, image=path, turns=(Turn(questions.CAPTION_PROMPT, scenes.caption(scene)),)
        )
        for scene, path in drawn
    ]
    return Source(name=CAPTIONS, conversations=tuple(conversations))


def read_questions(
    folder: Path,
    n_scenes: int,
    questions_a_scene: int = 6,
    *,
    one_turn: bool = False,
    first_seed: int = FIRST_TUNING_SEED,
    progress: Progress = silent,
) -> Source:
    """Return one conversation a scene with a turn a question, in the scene's order; with `one_turn` one a question.

    See `draw` for the pictures and errors.
    """
    conversations: list[Conversation] = []
    for scene, path in draw(folder, n_scenes, first_seed, progress):
        turns = tuple(Turn(each.text, each.answer) for each in questions.ask(scene, questions_a_scene))
        if one_turn:
            named = ((f"{path.stem}_{number}", (each,)) for number, each in enumerate(turns))
            conversations += (Conversation(source=QUESTIONS, key=key, image=path, turns=alone) for key, alone in named)
        else:
            conversations.append(Conversation(source=QUESTIONS, key=path.stem, image=path, turns=turns))
    return Source(name=QUESTIONS, conversations=tuple(conversations))


def draw(
    folder: Path, n_scenes: int, first_seed: int = FIRST_TUNING_SEED, progress: Progress = silent
) -> list[tuple[scenes.Scene, Path]]:
    """Return scenes `first_seed … first_seed + n_scenes - 1` and draw their pictures, `scene_SEED.png` in `folder`.

    Existing pictures are kept. Raises InputError for seeds of the demo's and the tests' scenes, and for a folder whose
    first picture is of another scene.
    """
    if first_seed < FIRST_TUNING_SEED:
        raise InputError(
            f"scenes from {first_seed} on are for evaluation, or known to the bundled parts: training takes "
            f"{FIRST_TUNING_SEED} and up"
        )
    folder = folder.resolve()
    drawn = [
        (scene, folder / f"scene_{scene.seed}.png")
        for scene in (scenes.make_scene(seed, scenes.MILD) for seed in range(first_seed, first_seed + n_scenes))
    ]
    _check_kept(drawn)
    if missing := [(scene, path) for scene, path in drawn if not path.is_file()]:
        counter = Counter(progress, len(missing), unit="picture", note="drawn")
        for scene, path in missing:
            write_bytes(path, _png(scene))
            counter.advance(1, note="drawn")
    return drawn


def _check_kept(drawn: list[tuple[scenes.Scene, Path]]) -> None:
    """Raise InputError where the first existing picture is not its scene's, as from another release."""
    there = next((each for each in drawn if each[1].is_file()), None)
    if there is not None:
        scene, path = there
        if not np.array_equal(np.asarray(load_image(path).pixels), np.asarray(scenes.render(scene))):
            raise InputError(f"{path} is not the picture of scene {scene.seed}; remove the folder or choose another")


def _png(scene: scenes.Scene) -> bytes:
    content = io.BytesIO()
    scenes.render(scene).save(content, format="PNG")
    return content.getvalue()
