"""Scenes told in words: conversations in ChatML whose first turn describes the scene, as a picture would show it.

How a scene is told changes from one conversation to the next (the order of the things and of their words, with or
without the cells' numbers, as a list or cell by cell), so that a language model does not come to rely on one form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halp_probe.shapes import questions, scenes

SEPARATORS = ("", " ", "\n", ". ")  # between a description and the question on it; "" as behind image tokens
UNDESCRIBED = 0.05  # share of the conversations in which the scene is not told, so that answers are guesses
ALONE = 0.75  # share of the scenes whose questions are asked one by one, without the other questions' words in between
PATTERNS = ("{cell} {colour} {shape}", "{colour} {shape} {cell}", "{cell} {shape} {colour}", "{colour} {shape}")


@dataclass(frozen=True)
class Exchange:
    """A user's turn and the assistant's answer."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Telling:
    """A scene in words, in front of the first question, and what is asked on it."""

    description: str  # with what separates it from the question; empty where the scene is not told
    exchanges: tuple[Exchange, ...]
    alone: bool  # each question on its own behind the description; otherwise turns of one conversation


def describe(scene: scenes.Scene, rng: np.random.Generator) -> tuple[str, bool]:
    """The scene in words, and whether they tell where things are."""
    if rng.random() < 0.35:
        return _by_cell(scene), True
    things = sorted(scene.things, key=lambda thing: thing.cell)
    if rng.random() < 0.5:
        things = [things[k] for k in rng.permutation(len(things))]
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    joint = ", " if rng.random() < 0.5 else " "
    told = (pattern.format(cell=thing.cell, colour=thing.colour, shape=thing.shape) for thing in things)
    return joint.join(told), "{cell}" in pattern


def _by_cell(scene: scenes.Scene) -> str:
    """All cells in reading order between commas, empty ones as nothing: `,,red circle,,blue square,…`."""
    cells = [""] * scenes.GRID**2
    for thing in scene.things:
        cells[thing.cell] += f"{' ' if cells[thing.cell] else ''}{thing.colour} {thing.shape}"
    return ",".join(cells)


def tell(scene: scenes.Scene, n_questions: int) -> Telling:
    """Questions on the scene with true answers, the caption asked for among them where the description tells it."""
    rng = np.random.default_rng([scene.seed, 3])
    asked = [Exchange(q.text, q.answer) for q in questions.ask(scene, n_questions)]
    alone = rng.random() < ALONE
    if rng.random() < UNDESCRIBED:
        return Telling("", tuple(asked), alone)
    description, tells_places = describe(scene, rng)
    if tells_places:
        asked.insert(int(rng.integers(len(asked) + 1)), Exchange(questions.CAPTION_PROMPT, scenes.caption(scene)))
    separator = SEPARATORS[int(rng.integers(len(SEPARATORS)))]
    return Telling(description + separator, tuple(asked), alone)
