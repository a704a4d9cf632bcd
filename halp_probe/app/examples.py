"""Pictures to try the page with: ShapesVQA scenes of fixed seeds, from easy to hard, with questions on them."""

from __future__ import annotations

import hashlib
from functools import cache

from halp_probe.app.conversation import Picture
from halp_probe.engine.images import LoadedImage
from halp_probe.shapes import questions, scenes

SEEDS = {"Easy": 113, "Medium": 18, "Hard": 27, "Very hard": 41}  # not seeds of training
_QUESTIONS = 4


@cache
def example(name: str) -> Picture:
    """Return the picture of one of SEEDS with questions and their true answers."""
    scene = scenes.make_scene(SEEDS[name])
    pixels = scenes.render(scene)
    image = LoadedImage(pixels, hashlib.sha256(pixels.tobytes()).hexdigest())
    truths = {question.text: question.answer for question in questions.ask(scene, _QUESTIONS)}
    return Picture(image=image, name=f"example {name.lower()} (scene {scene.seed})", truths=truths)
