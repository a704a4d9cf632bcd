"""Conversation about one image, and what is kept of each question; it lives in one visitor's session only."""

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
    """State of a turn."""

    ANSWERING = "being answered"
    ANSWERED = "answered"
    ABSTAINED = "abstained"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Picture that the questions are about."""

    image: LoadedImage
    name: str
    truths: Mapping[str, str] = field(default_factory=dict)  # question -> true answer, known for a drawn scene


@dataclass(frozen=True, kw_only=True)
class RiskAssessment:
    """Assessment of a question before the first token of its answer."""

    risks: Mapping[str, float]  # by probe; empty without probes
    by: str  # name of the probe that decides, blank without probes
    threshold: float  # largest risk at which the model answers
    follow_up: bool  # its prompt holds earlier turns

    @property
    def risk(self) -> float | None:
        """Risk by the probe that decides; None without probes."""
        return self.risks.get(self.by)

    @property
    def too_risky(self) -> bool:
        """True if the risk exceeds the threshold."""
        return self.risk is not None and not self.risk <= self.threshold


@dataclass(frozen=True, kw_only=True)
class Question:
    """Question with its picture, model, probe and time."""

    text: str
    picture: str
    truth: str | None  # the true answer, where it is known
    model: str
    probe: str  # name of the probe that judges it, blank for none
    conversation: int
    time: datetime.datetime


@dataclass(kw_only=True)
class Turn:
    """Question with its risk and its outcome."""

    question: Question
    assessment: RiskAssessment | None = None  # None where the question could not be read
    asked: ProbedReply | None = None  # the model's cache of the prompt, until the answer is complete
    state: State = State.ANSWERING
    answered_anyway: bool = False
    answer: str = ""
    cut_off: bool = False  # by the limit on answers
    error: str = ""
    pieces: Iterator[str] | None = None  # the rest of an answer that has begun

    def __post_init__(self) -> None:
        if self.abstained:
            self.state = State.ABSTAINED

    @property
    def abstained(self) -> bool:
        """True if the model first abstained, even if it was asked to answer afterwards."""
        return self.assessment is not None and self.assessment.too_risky

    def answer_anyway(self) -> None:
        """Let an abstention be answered from the same reading of the question."""
        if self.state is State.ABSTAINED and self.asked is not None:
            self.state, self.answered_anyway = State.ANSWERING, True

    def finish(self) -> None:
        """Mark the answer as complete."""
        self.state, self.cut_off = State.ANSWERED, self.asked is not None and self.asked.cut_off
        self.forget()

    def fail(self, reason: str) -> None:
        """Mark the turn as failed, with the reason."""
        self.state, self.error = State.FAILED, reason
        self.forget()

    def forget(self) -> None:
        """Free the model's cache of the prompt."""
        self.asked = self.pieces = None


@dataclass(kw_only=True)
class Session:
    """Private state of one visitor."""

    picture: Picture | None = None
    turns: list[Turn] = field(default_factory=list)  # of the current conversation
    past: list[Turn] = field(default_factory=list)  # of earlier conversations
    conversation: int = 1

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """Question and answer of the turns in the next prompt: those with an answer."""
        return tuple((t.question.text, t.answer) for t in self.turns if t.state is State.ANSWERED and t.answer)

    @property
    def all_turns(self) -> list[Turn]:
        """Turns of all conversations, in order."""
        return [*self.past, *self.turns]

    def begin_anew(self) -> None:
        """Begin a conversation without earlier turns; those stay in the table of the visitor's questions."""
        if self.turns:
            for turn in self.turns:
                turn.forget()
            self.past += self.turns
            self.turns, self.conversation = [], self.conversation + 1

    def show(self, picture: Picture) -> None:
        """Take another picture and begin a conversation about it; the same picture changes nothing."""
        if self.picture is None or self.picture.image.sha256 != picture.image.sha256:
            self.begin_anew()
            self.picture = picture

    def forget_past(self) -> None:
        """Forget every question."""
        self.begin_anew()
        self.past.clear()
        self.conversation = 1

    def add(self, turn: Turn) -> None:
        """Append the next turn; those before it can no longer be answered."""
        for earlier in self.turns:
            earlier.forget()
        self.turns.append(turn)
