"""Tokens of a conversation as the model reads it; learned are the answers and the token that ends each.

Legend: T tokens of one unpadded conversation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter, PromptError
from halp_probe.finetuning.records import Conversation
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import Checkpoint
from halp_probe.records import Sample

IGNORED = -100  # label of a token that is not learned


class TooLongError(PromptError):
    """The conversation has more tokens than are allowed; nothing is ever cut off."""


@dataclass(frozen=True, kw_only=True)
class TokenizedConversation:
    """Conversation ready for a batch."""

    input_ids: torch.Tensor  # [T] int64
    labels: torch.Tensor  # [T] int64: the token's own id where it is learned, else IGNORED (the model shifts them)
    token_types: torch.Tensor | None  # [T] int64, by the family's row; None for families without
    images: dict[str, torch.Tensor]  # pixel_values, image_sizes, …, of one image; empty without
    answer_tokens: int  # number of learned tokens

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class _AnswerPiece:
    """Answer of a turn, and what the chat template writes between it and the next answer (at the last: its end)."""

    answer: str
    suffix: str


@dataclass(frozen=True)
class ConversationTokenizer:
    """Callable that makes samples for one checkpoint, through extraction's prompts, from one conversation each.

    `max_tokens` limits a conversation, image tokens included; None: only the model's context does.
    """

    checkpoint: Checkpoint
    max_tokens: int | None = None

    def __call__(self, conversation: Conversation, image: LoadedImage | None) -> TokenizedConversation:
        """Tokenize the whole conversation; `image` is its picture, decoded, or None where it has none.

        The tokens up to the first answer are those of extraction's prompt for the same image and question. An answer is
        tokenized alone, so that no token spans prompt and answer. Raises PromptError for texts with special tokens or
        that the template drops, and for a picture of extreme shape; TooLongError; and ModelError for a chat template
        that cannot be learned from.
        """
        if (image is None) != (conversation.image is None):
            raise ValueError(
                f"{conversation.key}: an image must be given where the conversation has one, and only there"
            )
        pieces = self._pieces(conversation)
        prompt = self._prompt(conversation, image)
        ids, labels = prompt.input_ids.tolist(), [IGNORED] * len(prompt)
        for number, piece in enumerate(pieces, start=1):
            answer, suffix = self._ids(piece.answer), self._ids(piece.suffix)
            self._check_answer(number, answer, suffix)
            if number == len(pieces):
                suffix = suffix[:1]  # a line break may follow the end token; it is not learned
            ids += [*answer, *suffix]
            labels += [*answer, suffix[0], *[IGNORED] * (len(suffix) - 1)]
        self._check_length(len(ids))
        return TokenizedConversation(
            input_ids=torch.tensor(ids),
            labels=torch.tensor(labels),
            token_types=self._token_types(prompt, len(ids)),
            images=prompt.images,
            answer_tokens=sum(label != IGNORED for label in labels),
        )

    def _prompt(self, conversation: Conversation, image: LoadedImage | None) -> Prompt:
        name, question = conversation.key, conversation.turns[0].question
        if image is None:
            return self._prompter.prompt(
                Sample(question_id=name, image_id=name, question=question, answer="", images=())
            )
        return self._prompter.prompt(Sample(question_id=name, image_id=name, question=question, answer=""), image)

    @cached_property
    def _prompter(self) -> Prompter:
        prompter = Prompter(checkpoint=self.checkpoint)
        if prompter.prompt_date is not None:
            raise ModelError(
                f"the chat template of {self.checkpoint.name!r} writes the day's date, which would be learned; write a "
                "date into the template"
            )
        return prompter

    def _pieces(self, conversation: Conversation) -> list[_AnswerPiece]:
        """Return the texts that follow the prompt."""
        messages: list[dict[str, Any]] = []
        before = ""  # all text up to and including the previous answer
        pieces: list[_AnswerPiece] = []
        for number, turn in enumerate(conversation.turns, start=1):
            shown = [{"type": "image"}] if number == 1 and conversation.image is not None else []
            messages.append({"role": "user", "content": [*shown, _part(turn.question)]})
            prompt = self._render(messages, generation_prompt=True)
            if pieces:  # the prompt checks the first question itself
                self._check_special(f"question {number}", self._ids(turn.question))
                pieces[-1] = self._answer_piece(pieces[-1].answer, before, prompt)
                if turn.question.strip() not in pieces[-1].suffix:
                    raise PromptError(f"the model's chat template leaves question {number} out, or changes it")
            messages.append({"role": "assistant", "content": [_part(turn.answer)]})
            pieces.append(_AnswerPiece(turn.answer, ""))
            before = prompt + turn.answer
        pieces[-1] = self._answer_piece(pieces[-1].answer, before, self._render(messages, generation_prompt=False))
        return pieces

    def _answer_piece(self, answer: str, before: str, text: str) -> _AnswerPiece:
        if not text.startswith(before):
            raise ModelError(
                f"the chat template of {self.checkpoint.name!r} does not write a conversation as the prompt for an "
                f"answer and then the answer ({answer[:40]!r}), so what is learned would differ from later prompts; "
                f"correct the checkpoint's {self.checkpoint.template_file}"
            )
        return _AnswerPiece(answer, text[len(before) :])

    def _render(self, messages: list[dict[str, Any]], *, generation_prompt: bool) -> str:
        text: str = self.checkpoint.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt
        )
        return text

    def _check_special(self, what: str, ids: list[int]) -> None:
        """Raise PromptError where a token of a text alone is a special one."""
        if found := self._special_ids.intersection(ids):
            token = self.checkpoint.processor.tokenizer.convert_ids_to_tokens(min(found))
            raise PromptError(f"{what} holds the model's special token {token!r}; remove it from the text")

    def _check_answer(self, number: int, answer: list[int], suffix: list[int]) -> None:
        self._check_special(f"answer {number}", answer)
        if not answer:
            raise PromptError(f"answer {number} has no tokens")
        if not suffix or suffix[0] not in self._special_ids:
            raise ModelError(
                f"the chat template of {self.checkpoint.name!r} does not end an answer with a special token, so the "
                f"model could not learn where to stop; correct the checkpoint's {self.checkpoint.template_file}"
            )

    def _check_length(self, tokens: int) -> None:
        context = getattr(self.checkpoint.config.get_text_config(), "max_position_embeddings", None)
        limits = [(self.max_tokens, "`max_tokens`"), (context, "the model's context")]
        for limit, whose in limits:
            if limit is not None and tokens > limit:
                raise TooLongError(f"{tokens} tokens, {whose} allows {limit}")

    def _token_types(self, prompt: Prompt, tokens: int) -> torch.Tensor | None:
        """Return the prompt's token types, followed by that of plain text for the rest."""
        types = self.checkpoint.family.token_types
        if types is None or prompt.token_types is None:
            return None
        types_of_all = torch.full((tokens,), types.padding)
        types_of_all[: len(prompt)] = torch.from_numpy(prompt.token_types)
        return types_of_all

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.checkpoint.processor.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        tokenizer = self.checkpoint.processor.tokenizer
        added = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
        return frozenset([*tokenizer.all_special_ids, *added, self.checkpoint.image_token_id])


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
