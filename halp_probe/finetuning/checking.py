"""Before training: every image decoded, every conversation tokenized and measured, so that none fails on the way."""

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
class Measured:
    """A conversation that can be trained on."""

    conversation: Conversation
    tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class Checked:
    """Both in the order in which they came in."""

    usable: tuple[Measured, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        return tuple(each.conversation for each in self.usable)


@dataclass(frozen=True)
class _Counts:
    tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class _Refused:
    stage: str
    reason: str


_Results: TypeAlias = list[_Counts | _Refused]  # without the conversations, which need no way back


def check(
    conversations: Sequence[Conversation],
    tokenizer: ConversationTokenizer,
    workers: int = 0,
    progress: Progress = silent,
) -> Checked:
    """Try every conversation once, in so many processes (0: in this one). No pixels are kept.

    Raises InputError for a checkpoint that cannot be trained on, and when a process dies.
    """
    usable: list[Measured] = []
    left_out: list[LeftOut] = []
    in_turn = iter(conversations)
    counter = Counter(progress, len(conversations), unit="conversation", note="checked")
    for results in _checked(conversations, tokenizer, workers):
        before = len(left_out)
        for result in results:
            conversation = next(in_turn)
            if isinstance(result, _Counts):
                usable.append(
                    Measured(conversation=conversation, tokens=result.tokens, answer_tokens=result.answer_tokens)
                )
            else:
                left_out.append(
                    LeftOut(source=conversation.source, key=conversation.key, stage=result.stage, reason=result.reason)
                )
        counter.advance(len(results), failed=len(left_out) - before, note="checked")
    return Checked(tuple(usable), tuple(left_out))


def write_left_out(path: Path, left_out: Iterable[LeftOut]) -> None:
    """Replace the file: a CSV with a row for each conversation that is not trained on. None left out, no file."""
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
        except InputError as error:  # as a value: an exception comes back with its traceback in the message
            return error


def _try_all(conversations: Sequence[Conversation], tokenizer: ConversationTokenizer) -> _Results:
    results: _Results = []
    path: Path | None = None
    image: LoadedImage | ImageError | None = None  # of `path`: conversations on one image mostly follow each other
    for conversation in conversations:
        if conversation.image != path:
            path = conversation.image
            image = None if path is None else _loaded(path)
        results.append(_tried(conversation, image, tokenizer))
    return results


def _loaded(path: Path) -> LoadedImage | ImageError:
    try:
        return load_image(path)
    except ImageError as error:
        return error


def _tried(
    conversation: Conversation, image: LoadedImage | ImageError | None, tokenizer: ConversationTokenizer
) -> _Counts | _Refused:
    try:
        if isinstance(image, ImageError):
            raise image
        sample = tokenizer(conversation, image)
    except ImageError as error:
        return _Refused("image", str(error))
    except PromptError as error:
        return _Refused("length" if isinstance(error, TooLongError) else "tokens", str(error))
    return _Counts(len(sample), sample.answer_tokens)


def _checked(
    conversations: Sequence[Conversation], tokenizer: ConversationTokenizer, workers: int
) -> Iterator[_Results]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: as was asked
        loader = DataLoader(
            _Chunks(conversations, tokenizer), batch_size=None, num_workers=workers, worker_init_fn=begin_worker
        )
        with report_worker_death("checks the data", "with fewer `workers`"):
            for results in loader:
                if isinstance(results, InputError):
                    raise results
                yield results
