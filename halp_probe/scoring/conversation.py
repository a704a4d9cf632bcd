"""Conversation with a model whose states several probes read: each question's risks first, then its answer.

Risks and answer come from one prefill. Questions of several threads, and the tokens of their answers, wait for each
other: hooks read the states of whatever runs through the model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from halp_probe.engine.decoding import Step
from halp_probe.engine.engine import Engine, StartedAnswers
from halp_probe.engine.pictures import Picture, load_pictures
from halp_probe.engine.prompting import Prompter
from halp_probe.engine.streaming import answer_text, pieces
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.probes.files import SavedProbe
from halp_probe.records import CaptureSpec, Sample
from halp_probe.scoring.compatibility import check_fits, check_same_prompts, check_shows, positions_to_read
from halp_probe.shards.names import layer_of
from halp_probe.state_identity import StateIdentity

_ONE_AT_A_TIME = threading.RLock()  # of all models: two chats may have one model


class ProbedReply:
    """Risks of a question, known before its first token, and the answer, which may come later or never.

    Until the answer has ended, or this is dropped, the prompt's cache stays in the device's memory.
    """

    def __init__(
        self, started: StartedAnswers, risks: Mapping[str, float], tokenizer: Any, guard: AbstractContextManager[Any]
    ):
        (prompt,), readings = started.computed.prompts, started.computed.readings
        self.risks = dict(risks)  # by the probe's name, calibrated, of a wrong answer
        self.follow_up = bool(prompt.sample.history)  # the probes were trained on prompts without earlier turns
        self.first_token_entropy = float(readings.first_token_entropy[0])  # nats
        self.prompt_tokens = len(prompt)
        self._tokenizer, self._guard = tokenizer, guard
        self._steps: Iterator[Step] = started.steps
        self._end_ids = started.end_ids
        self._ids: list[int] = []
        self._streamed = False

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Token ids of the answer so far, its end token included."""
        return tuple(self._ids)

    @property
    def cut_off(self) -> bool:
        """True if the answer so far lacks its end; once the answer has ended, this means that it was too long."""
        return bool(self._ids) and self._ids[-1] not in self._end_ids

    def stream(self) -> Iterator[str]:
        """Yield the answer's text in pieces, as its tokens come. Raises InputError when called a second time."""
        if self._streamed:
            raise InputError("this answer was streamed already; `answer` gives its text")
        self._streamed = True
        return pieces(self._tokenizer, self._tokens())

    def answer(self) -> str:
        """Return the whole text, computing what is missing; blank where no answer was asked for."""
        for _ in self._tokens():
            pass
        return answer_text(self._tokenizer, self._ids)

    def _tokens(self) -> Iterator[int]:
        """Yield the tokens that are not computed yet."""
        while True:
            with self._guard:
                step = next(self._steps, None)
            if step is None:
                return
            self._ids += step.tokens
            yield step.tokens[0]


class ProbedChat:
    """A model and probes of its states, asked in a conversation; without a probe it only answers.

    Images are resized as they were for the probes' training rows.

    Parameters
    ----------
    loaded
        The model, such as `RiskScorer.loaded`.
    probes
        Saved probes, by any names.
    allow_other_model
        Let probes of another model, revision or chat template pass. Their risks may mean nothing.

    Raises
    ------
    InputError
        When a probe was not fitted on such states of this model, and when two of them were fitted on prompts that were
        made otherwise.

    Examples
    --------
    >>> import halp_probe
    >>> loaded = halp_probe.RiskScorer("shapes", "shapes").loaded
    >>> chat = halp_probe.ProbedChat(loaded, halp_probe.load_probes("probes"))
    >>> history = [("How many shapes are there?", "2")]
    >>> asked = chat.ask("images/scene_000000.png", "Is there a red circle?", history)
    >>> 0 <= asked.risks["selected_probe"] <= 1  # before the first token of the answer
    True
    >>> text = "".join(asked.stream())  # goes on from the same prefill
    >>> text == asked.answer()
    True
    """

    def __init__(
        self, loaded: LoadedModel, probes: Mapping[str, SavedProbe], *, allow_other_model: bool = False
    ) -> None:
        self.loaded, self.probes = loaded, dict(probes)
        check_same_prompts({name: probe.metadata for name, probe in self.probes.items()})
        for probe in self.probes.values():
            check_fits(probe, loaded, allow_other_model=allow_other_model)
        card = next((probe.metadata for probe in self.probes.values()), {})
        read = {name for probe in self.probes.values() for name in probe.inputs}
        self._positions = positions_to_read(read)
        self._prompter = Prompter.for_identity(
            loaded.checkpoint, StateIdentity.of_card(card), question_end="question-end" in self._positions
        )
        layers = set(map(layer_of, read))
        self._layers = tuple(sorted(layer for layer in layers if layer is not None))

    def ask(
        self,
        images: Picture | Sequence[Picture] | None,
        question: str,
        history: Sequence[tuple[str, str]] = (),
        *,
        max_new_tokens: int = 128,
    ) -> ProbedReply:
        """Read the images, earlier questions with their answers, and the question, in one prefill.

        Parameters
        ----------
        images
            As in `RiskScorer.score`, or None.
        question
            What is asked now.
        history
            Earlier questions with their answers, oldest first.
        max_new_tokens
            The longest answer in tokens; with 0 there is none.

        Returns
        -------
        ProbedReply
            Its `risks` are known; the answer comes when it is asked for.

        Raises
        ------
        InputError
            For what cannot be made into such a prompt, for images where the probes were trained on text alone or the
            other way round, and where a state of the model is not finite.
        """
        if not question.strip():
            raise InputError("the question is blank, and no probe was trained on blank questions; ask one")
        pictures = load_pictures(images)
        for probe in self.probes.values():
            check_shows(probe.metadata, images=bool(pictures))
        sample = Sample(
            question_id="question",
            image_id="image",
            question=question,
            answer="",
            history=tuple((earlier, reply) for earlier, reply in history),
        )
        engine = Engine(self.loaded, CaptureSpec(self._layers, max_new_tokens, positions=self._positions))
        with _ONE_AT_A_TIME:
            prompt = replace(self._prompter, answer_tokens=max_new_tokens).prompt(sample, *pictures)
            started = engine.begin([prompt])
        risks = {name: _risk(probe, started) for name, probe in self.probes.items()}
        return ProbedReply(started, risks, self.loaded.checkpoint.processor.tokenizer, _ONE_AT_A_TIME)


def _risk(probe: SavedProbe, started: StartedAnswers) -> float:
    (risk,) = probe.risk_of(started.computed)
    if not np.isfinite(risk):
        raise InputError(f"what {probe.title} reads of the model is not finite; try dtype float32 or bfloat16")
    return float(risk)
