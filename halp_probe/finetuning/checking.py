"""Checks before training: every image decoded, every conversation tokenized and measured, so that none fails later."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch.utils.data import DataLoader, Dataset

from halp_probe.engine.images import ImageError, LoadedImage, load_image
from halp_probe.engine.preparing import begin_worker, report_worker_death
from halp_probe.engine.prompting import PromptError
from halp_probe.errors import InputError
from halp_probe.files import atomic_text
from halp_probe.finetuning.records import Conversation, LeftOut
from halp_probe.finetuning.tokens import ConversationTokenizer, TooLongError
from halp_probe.progress import Counter, Progress, silent

_CHUNK = 32  # conversations that a process gets at a time
_COLUMNS = ("source", "key", "stage", "reason")


@dataclass(frozen=True, kw_only=True)
class MeasuredConversation:
    """Conversation that can be trained on, with its numbers of tokens."""

    conversation: Conversation
    tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class CheckResult:
    """Result of a check; both parts in the order of the input."""

    usable: tuple[MeasuredConversation, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """Conversations that can be trained on."""
        return tuple(each.conversation for each in self.usable)


@dataclass(frozen=True)
class _Counts:
    tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class _Refusal:
    stage: str
    reason: str


_Results: TypeAlias = list[_Counts | _Refusal]  # without the conversations, which the parent process has


def check(
    conversations: Sequence[Conversation],
    tokenizer: ConversationTokenizer,
    workers: int = 0,
    progress: Progress = silent,
) -> CheckResult:
    """Try every conversation once, in `workers` processes (0: in this one). No pixels are kept.

    Raises InputError for a checkpoint that cannot be trained on, and when a process dies.
    """
    usable: list[MeasuredConversation] = []
    left_out: list[LeftOut] = []
    in_turn = iter(conversations)
    counter = Counter(progress, len(conversations), unit="conversation", note="checked")
    for results in _check_chunks(conversations, tokenizer, workers):
        before = len(left_out)
        for result in results:
            conversation = next(in_turn)
            if isinstance(result, _Counts):
                usable.append(
                    MeasuredConversation(
                        conversation=conversation, tokens=result.tokens, answer_tokens=result.answer_tokens
                    )
                )
            else:
                left_out.append(
                    LeftOut(source=conversation.source, key=conversation.key, stage=result.stage, reason=result.reason)
                )
        counter.advance(len(results), failed=len(left_out) - before, note="checked")
    return CheckResult(tuple(usable), tuple(left_out))


def write_left_out(path: Path, left_out: Iterable[LeftOut]) -> None:
    """Replace the CSV: a row for each conversation that is not trained on. Remove the file if there is none."""
    rows = [(each.source, each.key, each.stage, each.reason) for each in left_out]
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)


class _Chunks(Dataset[_Results | InputError]):
    def __init__(self, conversations: Sequence[Conversation], tokenizer: ConversationTokenizer) -> None:
        self._conversations, self._tokenizer = conversations, tokenizer

    def __len__(self) -> int:
        return -(-len(self._conversations) // _CHUNK)

    def __getitem__(self, index: int) -> _Results | InputError:
        chunk = self._conversations[index * _CHUNK : (index + 1) * _CHUNK]
        try:
            return _try_all(chunk, self._tokenizer)
        except InputError as error:  # returned: raised, its message would hold the traceback
            return error


def _try_all(conversations: Sequence[Conversation], tokenizer: ConversationTokenizer) -> _Results:
    results: _Results = []
    path: Path | None = None
    image: LoadedImage | ImageError | None = None  # of `path`: conversations on one image are mostly adjacent
    for conversation in conversations:
        if conversation.image != path:
            path = conversation.image
            image = None if path is None else _load(path)
        results.append(_try(conversation, image, tokenizer))
    return results


def _load(path: Path) -> LoadedImage | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error


def _try(
    conversation: Conversation, image: LoadedImage | ImageError | None, tokenizer: ConversationTokenizer
) -> _Counts | _Refusal:
    try:
        if isinstance(image, ImageError):
            raise image
        sample = tokenizer(conversation, image)
    except ImageError as error:
        return _Refusal("image", str(error))
    except PromptError as error:
        return _Refusal("length" if isinstance(error, TooLongError) else "tokens", str(error))
    return _Counts(len(sample), sample.answer_tokens)


def _check_chunks(
    conversations: Sequence[Conversation], tokenizer: ConversationTokenizer, workers: int
) -> Iterator[_Results]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores, as requested
        loader = DataLoader(
            _Chunks(conversations, tokenizer), batch_size=None, num_workers=workers, worker_init_fn=begin_worker
        )
        with report_worker_death("checks the data", "with fewer `workers`"):
            for results in loader:
                if isinstance(results, InputError):
                    raise results
                yield results
