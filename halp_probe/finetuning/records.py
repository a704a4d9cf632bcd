"""Records of training data: conversations about a picture, and what was left out, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Turn:
    """Question of the user and the answer that is to be learned."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Training sample: turns about one picture, or about none."""

    source: str  # llava_instruct, text_vqa, viz_wiz, captions, shapes, …
    key: str  # unique within its source
    image: Path | None  # shown in the first turn, in front of the question
    turns: tuple[Turn, ...]  # at least one


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Sample that is not trained on."""

    source: str
    key: str
    stage: str  # read, image, tokens, or length for too many tokens
    reason: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Conversations of one data set, in its order."""

    name: str
    conversations: tuple[Conversation, ...]
    left_out: tuple[LeftOut, ...] = ()
