"""Frozen dataclasses that travel between modules. Legend: L probed layers, D decoder width, V vision width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

VISION_ONLY = "vision_only_representation"
VISION_ENCODER = "vision_encoder_representation"
VISION_TOKEN = "vision_token_representation"
QUERY_TOKEN = "query_token_representation"
QUESTION_END = "question_end_representation"
IMAGE_MEAN = "image_mean_representation"

POSITIONS = {"vision": VISION_TOKEN, "query": QUERY_TOKEN, "question-end": QUESTION_END, "image-mean": IMAGE_MEAN}
USUAL_POSITIONS = ("vision", "query")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One row of the VQA table, or one prompt of a task. `answer` is the ground truth, `extra` the further columns.

    `images` are the files that the prompt shows, in order, if that is not the one file `image_id`: none for a prompt
    of text alone, or several. `image_id` then names what the prompt is about: rows with the same name stay together.

    `history` are the earlier turns of the conversation, oldest first, each a question and the model's answer. The
    images stand in the first turn.
    """

    question_id: str
    image_id: str
    question: str
    answer: str
    extra: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] | None = None  # None: the one file `image_id`
    history: tuple[tuple[str, str], ...] = ()  # never in a shard, which has no column for it

    @property
    def files(self) -> tuple[str, ...]:
        """Image files of the prompt, in order."""
        return (self.image_id,) if self.images is None else self.images

    @property
    def subject(self) -> tuple[str, ...]:
        """Key of samples on the same images: the files, or `image_id` if there are none."""
        return self.files or (self.image_id,)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A sample that could not be processed: the stage (`table`, `image`, `prompt`, `forward`) and the reason."""

    question_id: str
    stage: str
    reason: str


@dataclass(frozen=True)
class CaptureSpec:
    """Layers and positions to read of each prompt, and the longest answer in tokens (0 = no answers).

    Without layers there are answers alone. `positions` are keys of `POSITIONS`, in its order.
    """

    layers: tuple[int, ...]
    max_new_tokens: int = 64
    positions: tuple[str, ...] = field(default=USUAL_POSITIONS, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class SampledAnswers:
    """S answers to one question that were sampled beside the greedy one."""

    answers: tuple[str, ...]
    logprobs: np.ndarray  # [S] float32, nats at temperature 1, summed over the answer's tokens; nan without an answer
    tokens: np.ndarray  # [S] int32, the end token counted; 0 without an answer
    finished: np.ndarray  # [S] bool, whether the answer reached an end token


@dataclass(frozen=True, kw_only=True)
class Captured:
    """Results of one sample's forward pass. Positions count from the first token of the unpadded prompt.

    Examples
    --------
    >>> import halp_probe
    >>> captured = halp_probe.capture("shapes", "images/scene_000000.png", "How many shapes are there?")
    >>> captured.vision_only.shape, captured.vision_index < captured.query_index == captured.prompt_tokens - 1
    ((128,), True)
    """

    sample: Sample
    image_sha256: str
    image_difference_hash: str  # of each image, separated by spaces: nearly the same for a picture encoded anew
    vision_only: np.ndarray | None  # [D] float32; None where the prompt shows no image
    vision_encoder: np.ndarray | None  # [V] float32; None likewise
    vision_token: Mapping[int, np.ndarray]  # layer -> [D] float32; empty likewise, or if it is no position to read
    query_token: Mapping[int, np.ndarray]  # layer -> [D] float32; empty if it is no position to read
    question_end: Mapping[int, np.ndarray] = field(default_factory=dict)  # layer -> [D] float32; likewise
    image_mean: Mapping[int, np.ndarray] = field(default_factory=dict)  # layer -> [D] float32; as `vision_token`
    vision_index: int  # -1 where the prompt shows no image; `vision_id` likewise
    vision_id: int
    query_index: int
    query_id: int
    question_end_index: int = -1  # -1 if the question's end is no position to read; `question_end_id` likewise
    question_end_id: int = -1
    prompt_tokens: int
    first_token_logprob: float  # nats, of the likeliest first token, before any repetition penalty
    first_token_entropy: float  # nats
    answer: str  # "" if no answers were requested
    answer_logprob: float  # nats, summed over the answer's tokens; nan without an answer
    answer_tokens: int  # the end token counted
    finished: bool  # whether the answer reached an end token: False if it was cut off, or there is no answer
    sampled: SampledAnswers | None = None  # None if none were requested
