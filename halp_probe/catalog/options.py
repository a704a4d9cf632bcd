"""Options of a question as lines "A. …", which the rule `choice` reads, and the letter of the right one."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase


def with_options(question: str, options: Sequence[str]) -> str:
    """Return the question with a line for each option; the question alone if there are none."""
    lines = [f"{letter}. {' '.join(option.split())}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question.strip(), *lines])


def letter_of(place: int) -> str:
    """Return the letter of an option, counted from 0."""
    return ascii_uppercase[place]


def letter_of_text(options: Sequence[str], text: str) -> str:
    """Return the letter of the one option with this text; the text itself where none or several have it."""
    places = [place for place, option in enumerate(options) if option == text]
    return letter_of(places[0]) if len(places) == 1 else text
