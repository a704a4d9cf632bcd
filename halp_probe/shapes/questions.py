"""Ask questions on a scene, with true answers: existence, colour, shape, count, and false premises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from halp_probe.shapes.scenes import COLOURS, SHAPES, Scene

KINDS = ("exists", "colour", "shape", "count", "false_premise")
NOTHING = "none"  # the true answer where the thing asked about is not there
CAPTION_PROMPT = "List the shapes."
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question on a scene, with its kind and its true answer."""

    kind: str
    text: str
    answer: str


def ask(scene: Scene, n: int) -> list[Question]:
    """Ask `n` different questions on the scene, of each kind in turn; fewer only if the scene allows no more.

    `yes` and `no` are equally likely, and so are questions on things that are in the scene and on others.
    """
    rng = np.random.default_rng([scene.seed, 2])
    kinds = [KINDS[k] for k in rng.permutation(len(KINDS))]
    questions: dict[str, Question] = {}
    for turn in range(20 * n):
        if len(questions) == n:
            break
        question = _ask_one(scene, kinds[turn % len(kinds)], rng)
        if question is not None and question.text not in questions:
            questions[question.text] = question
    return list(questions.values())


def _ask_one(scene: Scene, kind: str, rng: np.random.Generator) -> Question | None:
    by_shape = Counter(t.shape for t in scene.things)
    by_colour = Counter(t.colour for t in scene.things)
    pairs = {(t.colour, t.shape) for t in scene.things}
    if kind == "exists":
        if rng.random() < 0.5:
            colour, shape = _pick(rng, sorted(pairs))
            return Question(kind=kind, text=_exists(colour, shape), answer="yes")
        absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in pairs]
        near = [(c, s) for c, s in absent if c in by_colour or s in by_shape]  # half right: the model must look at both
        colour, shape = _pick(rng, near if rng.random() < 0.7 else absent)
        return Question(kind=kind, text=_exists(colour, shape), answer="no")
    if kind == "count":
        counts, names, noun = (
            (by_shape, list(SHAPES), "{}") if rng.random() < 0.5 else (by_colour, list(COLOURS), "{} shape")
        )
        number = _pick(rng, sorted({counts[name] for name in names}))  # 0, 1, 2 … as likely as the scene allows
        name = _pick(rng, [name for name in names if counts[name] == number])
        return Question(kind=kind, text=_count(noun.format(name)), answer=str(number))
    asks_colour = kind == "colour" or (kind == "false_premise" and rng.random() < 0.5)
    counts, names = (by_shape, list(SHAPES)) if asks_colour else (by_colour, list(COLOURS))
    candidates = [name for name in names if counts[name] == (0 if kind == "false_premise" else 1)]
    if not candidates:
        return None
    name = _pick(rng, candidates)
    text = f"What colour is the {name}?" if asks_colour else f"What shape is the {name} one?"
    if kind == "false_premise":
        return Question(kind=kind, text=text, answer=NOTHING)
    thing = next(t for t in scene.things if name in (t.shape, t.colour))
    return Question(kind=kind, text=text, answer=thing.colour if asks_colour else thing.shape)


def every_text() -> Iterator[str]:
    """Yield every possible question and answer (for the tokenizer, and to check that none is unknown)."""
    for shape in SHAPES:
        yield f"What colour is the {shape}?"
        yield _count(shape)
        for colour in COLOURS:
            yield _exists(colour, shape)
    for colour in COLOURS:
        yield f"What shape is the {colour} one?"
        yield _count(f"{colour} shape")
    yield from (*COLOURS, *SHAPES, "yes", "no", NOTHING, CAPTION_PROMPT)


def _exists(colour: str, shape: str) -> str:
    return f"Is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}?"


def _count(what: str) -> str:
    return f"How many {what}{'es' if what.endswith('s') else 's'} are there?"


def _pick(rng: np.random.Generator, options: list[_T]) -> _T:
    return options[int(rng.integers(len(options)))]
