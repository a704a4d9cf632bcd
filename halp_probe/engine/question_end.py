"""Find the token with which the question's own text ends, in the text that the processor gave to its tokenizer.

The tokenizer's own offsets say which characters a token holds. Where the question stands among these characters is
told by the same prompt about a mark: what stands in front of the mark and behind it is not the question. Pure, but for
the tokenizer that checks the result.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MARK = "[[?]]"  # a question that no template or text of ours contains
_CHECKED = 12  # characters, without white space, in front of the end, which the decoded tokens must have too


class QuestionEndError(ValueError):
    """A prompt in which the question's end cannot be found for certain; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TokenizedText:
    """Text as a tokenizer took it, T tokens, and the characters [start, end) of each."""

    text: str
    input_ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]  # (0, 0) for a token that the tokenizer adds


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Text in front of the question and behind it, with all tokens of images written out."""

    before: str
    behind: str

    @classmethod
    def of_mark(cls, text: str) -> Surroundings:
        """Split the prompt about `MARK`. Raises QuestionEndError unless the mark stands in it once."""
        parts = text.split(MARK)
        if len(parts) != 2:
            raise QuestionEndError(f"a trial question stands {len(parts) - 1} times in its prompt")
        return cls(before=parts[0], behind=parts[1])

    def last_character(self, question: str, text: str) -> int:
        """Return the place in `text` of the question's last character that is not white space.

        Raises QuestionEndError unless `text` is the question between these surroundings, but for its own margins.
        """
        end = len(text) - len(self.behind)
        inside = text[len(self.before) : end]
        fits = len(self.before) <= end and text.startswith(self.before) and text.endswith(self.behind)
        if not fits or inside.strip() != question.strip():
            raise QuestionEndError("the prompt is not that of another question with this one in its place")
        if not question.strip():
            raise QuestionEndError("the question is blank")
        return len(self.before) + len(inside.rstrip()) - 1


def find_question_end(tokenized: TokenizedText, last_character: int, tokenizer: Any) -> int:
    """Return the index of the last token that holds the character.

    Raises QuestionEndError if no token does, or if the tokens up to it, decoded, do not end as the text does there.
    """
    holding = [k for k, (start, end) in enumerate(tokenized.offsets) if start <= last_character < end]
    if not holding:
        raise QuestionEndError("no token holds the question's last character")
    index = holding[-1]
    expected = _squeeze(tokenized.text[: tokenized.offsets[index][1]])[-_CHECKED:]
    decoded = tokenizer.decode(tokenized.input_ids[: index + 1], clean_up_tokenization_spaces=False)
    if not _squeeze(decoded).endswith(expected):
        raise QuestionEndError(f"its tokens, decoded, end in {decoded[-_CHECKED:]!r}, not in {expected!r}")
    return index


def _squeeze(text: str) -> str:
    """Return the text without white space, and without what a tokenizer's normaliser may change."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
