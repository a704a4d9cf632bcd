"""An answer's text, whole or in pieces while its tokens come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of one byte: a run of them is read as a whole, or not at all
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of an answer's tokens, without special tokens and outer space."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()


def pieces(tokenizer: Any, ids: Iterable[int]) -> Iterator[str]:
    """`answer_text` of the tokens, piece by piece as they come; none is empty or ends in half a character.

    What later tokens may change is held back: space that may be the last, characters of several tokens, and the last
    two words with a tokenizer that takes out spaces before punctuation.
    """
    so_far: list[int] = []
    shown = 0  # characters
    cleans = _cleans(tokenizer)
    for token in ids:
        so_far.append(token)
        text = _settled(tokenizer, so_far)
        if cleans:  # "do n ' t" becomes "don't"
            *settled, _, _ = ["", "", "", *text.rsplit(maxsplit=2)]
            text = settled[-1]
        if len(text) > shown:
            yield text[shown:]
            shown = len(text)
    if rest := answer_text(tokenizer, so_far)[shown:]:
        yield rest


def _settled(tokenizer: Any, ids: Sequence[int]) -> str:
    """The beginning of an answer that no later token changes, where the tokenizer cleans nothing up."""
    end = len(ids)
    while end and _is_open(tokenizer, ids[end - 1]):
        end -= 1
    return answer_text(tokenizer, ids[:end]).rstrip(_REPLACEMENT).rstrip()


def _is_open(tokenizer: Any, token: int) -> bool:
    """Whether it is a byte, or nothing that is shown, so that a byte may come before it and one behind."""
    named = str(tokenizer.convert_ids_to_tokens(token))
    return _BYTE.fullmatch(named) is not None or not tokenizer.decode([token], skip_special_tokens=True)


def _cleans(tokenizer: Any) -> bool:
    """Whether the tokenizer takes out spaces before punctuation; some only say so."""
    ids = tokenizer("a .", add_special_tokens=False).input_ids
    return bool(tokenizer.decode(ids) != tokenizer.decode(ids, clean_up_tokenization_spaces=False))
