"""Decode an answer's tokens to text, as a whole or in pieces while they arrive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of one byte: a run of them is read as a whole, or not at all
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of an answer's tokens, stripped and without special tokens."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()


def pieces(tokenizer: Any, ids: Iterable[int]) -> Iterator[str]:
    """Yield `answer_text` of the tokens, piece by piece as they arrive; no piece is empty or ends inside a character.

    Text that later tokens may change is held back: trailing space, characters of several tokens, and the last two
    words with a tokenizer that removes spaces before punctuation.
    """
    received: list[int] = []
    n_sent = 0  # characters
    cleans = _cleans_up(tokenizer)
    for token in ids:
        received.append(token)
        text = _stable_text(tokenizer, received)
        if cleans:  # "do n ' t" becomes "don't"
            *stable, _, _ = ["", "", "", *text.rsplit(maxsplit=2)]
            text = stable[-1]
        if len(text) > n_sent:
            yield text[n_sent:]
            n_sent = len(text)
    if rest := answer_text(tokenizer, received)[n_sent:]:
        yield rest


def _stable_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the beginning of an answer that no later token changes, unless the tokenizer cleans text up."""
    end = len(ids)
    while end and _is_open(tokenizer, ids[end - 1]):
        end -= 1
    return answer_text(tokenizer, ids[:end]).rstrip(_REPLACEMENT).rstrip()


def _is_open(tokenizer: Any, token: int) -> bool:
    """Return whether a token is a byte or has no text, so that it may stand inside a run of bytes."""
    named = str(tokenizer.convert_ids_to_tokens(token))
    return _BYTE.fullmatch(named) is not None or not tokenizer.decode([token], skip_special_tokens=True)


def _cleans_up(tokenizer: Any) -> bool:
    """Return whether the tokenizer really removes spaces before punctuation; some only claim to."""
    ids = tokenizer("a .", add_special_tokens=False).input_ids
    return bool(tokenizer.decode(ids) != tokenizer.decode(ids, clean_up_tokenization_spaces=False))
