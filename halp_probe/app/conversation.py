"""A conversation about one image, and what is kept of each question; it lives in one visitor's session only."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halp_probe.engine.images import LoadedImage
    from halp_probe.scoring.conversation import ProbedReply


class State(Enum):
    ANSWERING = "being answered"
    ANSWERED = "answered"
    ABSTAINED = "abstained"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the questions are about."""

    image: LoadedImage
    name: str
    truths: Mapping[str, str] = field(default_factory=dict)  # question -> true answer, known of a drawn scene


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was known of a question before the first token of its answer."""

    risks: Mapping[str, float]  # of all probes, by name; empty without probes
    by: str  # the name of the probe that decides, blank without probes
    threshold: float  # answered up to this risk
    follow_up: bool  # earlier turns stand in its prompt

    @property
    def risk(self) -> float | None:
        return self.risks.get(self.by)

    @property
    def too_risky(self) -> bool:
        return self.risk is not None and not self.risk <= self.threshold


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, of whom, about what and when."""

    text: str
    picture: str
    truth: str | None  # its true answer, where that is known
    model: str
    probe: str  # the name of what judges it, blank for nothing
    conversation: int
    time: datetime.datetime


@dataclass(kw_only=True)
class Turn:
    """A question, its risk and what became of it."""

    question: Question
    judged: Judged | None = None  # None where the question could not be read
    asked: ProbedReply | None = None  # the model's memory of the prompt, until the answer is there
    state: State = State.ANSWERING
    answered_anyway: bool = False
    answer: str = ""
    cut_off: bool = False  # at the longest answer that was allowed
    error: str = ""
    pieces: Iterator[str] | None = None  # an answer that has begun goes on from here

    def __post_init__(self) -> None:
        if self.abstained:
            self.state = State.ABSTAINED

    @property
    def abstained(self) -> bool:
        """Whether the model first kept silent, whatever was asked of it afterwards."""
        return self.judged is not None and self.judged.too_risky

    def answer_anyway(self) -> None:
        """Let an abstention be answered from the same reading of the question."""
        if self.state is State.ABSTAINED and self.asked is not None:
            self.state, self.answered_anyway = State.ANSWERING, True

    def finish(self) -> None:
        """The answer is whole."""
        self.state, self.cut_off = State.ANSWERED, self.asked is not None and self.asked.cut_off
        self.forget()

    def fail(self, reason: str) -> None:
        self.state, self.error = State.FAILED, reason
        self.forget()

    def forget(self) -> None:
        """Free what the model kept of the prompt."""
        self.asked = self.pieces = None


@dataclass(kw_only=True)
class Session:
    """All that is private to one visitor."""

    picture: Picture | None = None
    turns: list[Turn] = field(default_factory=list)  # of the conversation that goes on
    past: list[Turn] = field(default_factory=list)  # of those before
    conversation: int = 1

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """Question and answer of the turns that stand in the next prompt: those with an answer."""
        return tuple((t.question.text, t.answer) for t in self.turns if t.state is State.ANSWERED and t.answer)

    @property
    def all_turns(self) -> list[Turn]:
        return [*self.past, *self.turns]

    def begin_anew(self) -> None:
        """Begin a conversation without earlier turns; those stay in the table of the visitor's questions."""
        if self.turns:
            for turn in self.turns:
                turn.forget()
            self.past += self.turns
            self.turns, self.conversation = [], self.conversation + 1

    def show(self, picture: Picture) -> None:
        """Take another picture, about which a conversation begins; the same one changes nothing."""
        if self.picture is None or self.picture.image.sha256 != picture.image.sha256:
            self.begin_anew()
            self.picture = picture

    def forget_past(self) -> None:
        """Forget every question."""
        self.begin_anew()
        self.past.clear()
        self.conversation = 1

    def add(self, turn: Turn) -> None:
        """The next turn; those before it can be answered no more."""
        for earlier in self.turns:
            earlier.forget()
        self.turns.append(turn)
