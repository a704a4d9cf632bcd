"""Risk of a wrong answer before its first token, and the answer when the risk may be taken."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.engine.engine import ComputedBatch, Gate
from halp_probe.engine.pictures import Picture
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.probes.files import SavedProbe, load_probe
from halp_probe.scoring.compatibility import trained_adapters, trained_revision
from halp_probe.scoring.conversation import ProbedChat

CARD_THRESHOLD = "threshold"
_PROBE = "probe"  # name of the only probe in the conversation


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer of the model, unless it abstained, with its risk."""

    risk: float  # of a wrong answer, known before its first token
    text: str | None  # None when it abstained
    token_ids: tuple[int, ...]  # of the answer, its end token included

    @property
    def abstained(self) -> bool:
        """True if the model was not asked to answer."""
        return self.text is None


class RiskScorer:
    """A model and a probe of its states: the risk of a wrong answer before its first token.

    Images are resized as they were for the probe's training rows.

    Parameters
    ----------
    model
        A hub name, a folder, `shapes` or a loaded model; None for the one that the probe's card names, at its revision,
        with the adapters and the quantization that it names.
    probe
        A saved probe, or the path of one.
    device
        `auto`, `cpu`, `cuda` or `cuda:N`, for a model that is not loaded yet.
    dtype
        `auto` (bfloat16 on CUDA, else float32), `float32`, `bfloat16` or `float16`, for such a model.
    cache_dir
        Where downloaded models lie.
    allow_other_model
        Let a probe of another model, revision or chat template pass. Its risks may mean nothing.

    Raises
    ------
    InputError
        When the probe was not fitted on such states of this model, and what `load_model` and `load_probe` raise.

    Examples
    --------
    >>> import halp_probe
    >>> scorer = halp_probe.RiskScorer("shapes", "probes/probes/selected_probe")
    >>> risk = scorer.score("images/scene_000000.png", "Is there a red circle?")
    >>> 0 <= risk <= 1
    True
    >>> scorer.answer("images/scene_000000.png", "Is there a red circle?", abstain_above=risk / 2).text is None
    True
    """

    def __init__(
        self,
        model: str | LoadedModel | None,
        probe: str | os.PathLike[str] | SavedProbe,
        *,
        device: str = "auto",
        dtype: str = "auto",
        cache_dir: str = "./model_cache",
        allow_other_model: bool = False,
    ) -> None:
        self.probe = probe if isinstance(probe, SavedProbe) else load_probe(probe)
        self.loaded = model if isinstance(model, LoadedModel) else _load(model, self.probe, device, dtype, cache_dir)
        self._chat = ProbedChat(self.loaded, {_PROBE: self.probe}, allow_other_model=allow_other_model)

    def score(self, image: Picture | Sequence[Picture] | None, question: str) -> float:
        """Return the calibrated risk, from 0 to 1, that the model's greedy answer would be wrong, from one prefill.

        Parameters
        ----------
        image
            A file's name or its bytes, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W] or what `load_image` gave,
            several of them in order, or None for a probe of prompts of text alone.
        question
            What is asked.

        Raises
        ------
        InputError
            For an image or question that cannot be made into such a prompt, and where the model's state is not finite.
        """
        return self._chat.ask(image, question, max_new_tokens=0).risks[_PROBE]

    def answer(
        self,
        image: Picture | Sequence[Picture] | None,
        question: str,
        *,
        abstain_above: float | str | None = None,
        max_new_tokens: int = 64,
    ) -> Answer:
        """Return the risk, and the greedy answer, which goes on from the same prefill unless the risk is too high.

        Parameters
        ----------
        image
            As in `score`.
        question
            What is asked.
        abstain_above
            A risk between 0 and 1, `"threshold"` for the one in the probe's card, or None to answer always.
        max_new_tokens
            The longest answer in tokens, at least 1.

        Raises
        ------
        InputError
            As `score` does, for a risk outside of 0 to 1, and where the card has no threshold.
        """
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens {max_new_tokens}: an answer has at least one token; `score` gives none")
        highest = abstention_level(self.probe, abstain_above)
        reply = self._chat.ask(image, question, max_new_tokens=max_new_tokens)
        risk = reply.risks[_PROBE]
        if highest is not None and risk > highest:
            return Answer(risk=risk, text=None, token_ids=())
        text = reply.answer()
        return Answer(risk=risk, text=text, token_ids=reply.token_ids)


def risk_gate(probe: SavedProbe, abstain_above: float) -> Gate:
    """Return a gate for the prompts whose risk is at most `abstain_above`; never for one whose state is not finite."""

    def gate(computed: ComputedBatch) -> np.ndarray:
        return probe.risk_of(computed) <= abstain_above  # [B]; false for nan

    return gate


def abstention_level(probe: SavedProbe, abstain_above: float | str | None) -> float | None:
    """Return the highest risk at which to answer; None = always.

    Raises InputError when the card has no threshold.
    """
    if abstain_above is None:
        return None
    if abstain_above == CARD_THRESHOLD:
        if probe.threshold is None or not probe.threshold.found:
            why = f" ({probe.threshold.reason})" if probe.threshold else ""
            raise InputError(
                f"the probe's card has no threshold{why}; pass a risk, or set one: halp-probe set-threshold"
            )
        return probe.threshold.risk
    try:
        level = float(abstain_above)
    except ValueError:
        level = np.nan
    if not 0 <= level <= 1:
        raise InputError(f"abstain above {abstain_above!r}: pass a risk between 0 and 1, or {CARD_THRESHOLD!r}")
    return level


def _load(model: str | None, probe: SavedProbe, device: str, dtype: str, cache_dir: str) -> LoadedModel:
    card = probe.metadata
    name = model or card.get("model_name")
    if name is None:
        raise InputError("the probe's card names no model; pass one")
    adapters, quantization = (trained_adapters(card), card.get("quantization")) if model is None else ([], None)
    revision = trained_revision(card, name)
    checkpoint = open_checkpoint(name, adapters=adapters, cache_dir=cache_dir, revision=revision)
    return load_weights(checkpoint, cache_dir=cache_dir, device=device, dtype=dtype, quantization=quantization)
