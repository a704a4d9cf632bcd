"""Text of a prompt: system message, images and question through the model's own chat template.

A conversation has the images first, then questions and answers in turns; the last one is a question.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import jinja2
from PIL import Image

from halp_probe.engine.thoughts import tell_thoughts
from halp_probe.errors import InputError
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.loading import Checkpoint
from halp_probe.reply_text import after_thinking

_NOW = re.compile(r"""strftime_now\s*\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")
_REFUSALS = (jinja2.TemplateError, TypeError)  # TypeError: a template that adds a string to the content


class PromptError(InputError):
    """A sample that cannot be made into a prompt; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Chat template of a checkpoint, with its settings besides images and question; see `Prompter`.

    Raises InputError for a template, options or a system message that cannot be used.
    """

    checkpoint: Checkpoint
    date: str | None = None
    options: str | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        name = self.checkpoint.name
        if not self.checkpoint.processor.chat_template:
            raise ModelError(
                f"model {name!r} has no chat template in any of its files; save one as chat_template.jinja in its "
                "folder (of a hub model: in a copy of it)"
            )
        unknown = [option for option in self._options if not re.search(rf"\b{re.escape(option)}\b", self._source)]
        if unknown:
            raise InputError(
                f"`template_options`: the chat template of {name!r} does not use {', '.join(unknown)}; leave it out"
            )
        _ = self.prompt_date, self._system_turns
        tell_thoughts(self._render_trial, self._source, name)

    @cached_property
    def prompt_date(self) -> str | None:
        """Date in every prompt, YYYY-MM-DD; None if the template writes none."""
        if not re.search(r"strftime_now\s*\(", self._source):
            return None
        if re.search(r"strftime_now\s*\(", _NOW.sub("", self._source)):
            raise ModelError(
                f"the chat template of {self.checkpoint.name!r} writes the day's date in a format that it computes, so "
                "its prompts would change from day to day; write a date into the template"
            )
        return self.date or datetime.date.today().isoformat()

    def text(self, question: str, pictures: Sequence[Image.Image], history: Sequence[tuple[str, str]] = ()) -> str:
        """Return the whole prompt; `history` holds earlier questions and the model's answers to them.

        Raises PromptError for a special token in one of these texts, or a template that leaves one of them out.
        """
        texts = [text for turn in history for text in turn] + [question]  # a question, its answer, …, the question
        names = _names(len(history))
        for text, name in zip(texts, names, strict=True):
            self._check(text, name)
        as_strings = self._as_strings(len(pictures), len(history)) if history else (False, False)
        images = [{"type": "image", "image": picture} for picture in pictures]
        try:
            text = self._render([*self._system_turns, *_turns(texts, images, as_strings)])
        except _REFUSALS as error:
            raise PromptError(
                f"the model's {self.checkpoint.template_file} refuses the {names[-1]}: {error}"
            ) from error
        if lost := next(
            (name for name, present in zip(names, _find_texts(texts, text), strict=True) if not present), None
        ):
            raise PromptError(  # a template that reads another key leaves it out silently
                f"the model's chat template leaves the {lost} out: it does not read the key 'text' of a part of the "
                f"content, or changes it; fix the checkpoint's {self.checkpoint.template_file}"
            )
        repeated = sum(part.count(self.system.strip()) for part in texts) if self.system is not None else 0
        if self.system is not None and text.count(self.system.strip()) <= repeated:
            raise PromptError(
                "the model's chat template leaves the system message out of this prompt; fix the checkpoint's "
                f"{self.checkpoint.template_file}, or write the message into the question"
            )
        return text

    def _check(self, text: str, name: str) -> None:
        """Raise PromptError for invalid Unicode, and for a special token, which only the template may write."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(f"the {name} is not valid Unicode ({error.reason})") from error
        if token := self._special_token(text):
            raise PromptError(f"the {name} holds the model's special token {token!r}; remove it from the text")

    def _as_strings(self, pictures: int, earlier: int) -> tuple[bool, bool]:
        """Return whether the template takes later questions, and answers, as strings instead of lists of parts.

        It is tried with marks that no template contains: an answer such as "no" may stand in its text by chance. Raises
        PromptError if it takes earlier turns in neither form.
        """
        marks = [f"[[{k}]]" for k in range(2 * earlier + 1)]
        images = [{"type": "image"}] * pictures
        why = ""
        for as_strings in product((False, True), (False, True)):
            try:
                text = self._render([*self._system_turns, *_turns(marks, images, as_strings)])
            except _REFUSALS as error:
                why = why or f"refuses earlier turns ({one_line(error)})"
                continue
            if all(_find_texts(marks, text)) and not any(_is_printed_code(mark, text) for mark in marks):
                return as_strings
            why = why or "leaves earlier turns out"
        raise PromptError(
            f"the chat template of {self.checkpoint.name!r} {why}: ask without them, or fix the checkpoint's "
            f"{self.checkpoint.template_file}"
        )

    @cached_property
    def _system_turns(self) -> list[dict[str, Any]]:
        """Turn with the system message as the template takes it, as a list of parts or a string; empty without one."""
        if self.system is None:
            return []
        if not self.system.strip():
            raise InputError("a blank system message; leave it out")
        if token := self._special_token(self.system):
            raise InputError(f"the system message holds the model's special token {token!r}; remove it from the text")
        why = ""
        for content in ([_part(self.system)], self.system):
            turn = _turn("system", content)
            for user in ([{"type": "image"}, _part("?")], [_part("?")]):  # some take no system message with an image
                try:
                    text = self._render([turn, _turn("user", user)])
                except _REFUSALS as error:
                    why = f"refuses a system message ({one_line(error)})"
                    continue
                if self.system.strip() in text and not _is_printed_code(self.system, text):
                    return [turn]
                why = why or "leaves a system message out"
        raise InputError(
            f"the chat template of {self.checkpoint.name!r} {why}; write the message into the questions, or fix the "
            f"checkpoint's {self.checkpoint.template_file}"
        )

    def _render(self, messages: list[dict[str, Any]], **more: Any) -> str:
        text: str = self.checkpoint.processor.apply_chat_template(
            messages,
            chat_template=self._dated_template,
            tokenize=False,
            add_generation_prompt=True,
            **{**self._options, **more},
        )
        return text

    def _render_trial(self, **options: Any) -> str:
        """Render a prompt as any other, with these template options besides; empty if the template refuses it."""
        try:
            return self._render([*self._system_turns, _turn("user", [{"type": "image"}, _part("?")])], **options)
        except _REFUSALS:
            return ""

    @cached_property
    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = json.loads(self.options or "{}")
        return options

    @cached_property
    def _source(self) -> str:
        """Chat template that is used if none is named; a processor may have several."""
        template = self.checkpoint.processor.chat_template
        return str(template.get("default", "")) if isinstance(template, dict) else str(template)

    @cached_property
    def _dated_template(self) -> str | None:
        """Chat template with `prompt_date` in place of the current date; None: the processor's own template."""
        if self.prompt_date is None:
            return None
        day = datetime.date.fromisoformat(self.prompt_date)
        return _NOW.sub(lambda call: json.dumps(day.strftime(call["format"])), self._source)

    def _special_token(self, text: str) -> str | None:
        return next((token for token in self._special_tokens if token in text), None)

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        processor, tokenizer = self.checkpoint.processor, self.checkpoint.processor.tokenizer
        image_token = tokenizer.convert_ids_to_tokens(self.checkpoint.image_token_id)
        placeholders = (getattr(processor, name, image_token) for name in ("image_token", "image_placeholder_token"))
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        named = {*tokenizer.all_special_tokens, *added, image_token, *placeholders}
        return tuple(token for token in named if token)  # some tokenizers name an empty one


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _turn(role: str, content: str | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"role": role, "content": content}


def _turns(
    texts: Sequence[str], images: Sequence[Mapping[str, Any]], as_strings: tuple[bool, bool]
) -> list[dict[str, Any]]:
    """Return alternating turns of user and assistant; the images stand in the first."""
    turns = [_turn("user", [*images, _part(texts[0])])]
    for k, text in enumerate(texts[1:], start=1):
        turns.append(_turn(("user", "assistant")[k % 2], text if as_strings[k % 2] else [_part(text)]))
    return turns


def _names(earlier: int) -> list[str]:
    """Return a name for each text of a conversation: earlier questions and answers, then the question."""
    named = [f"{what} of turn {k}" for k in range(1, earlier + 1) for what in ("question", "answer")]
    return [*named, "question"]


def _find_texts(texts: Sequence[str], prompt: str) -> list[bool]:
    """Return for each of `texts` whether it stands in `prompt` after the previous one; thoughts may be missing."""
    present, at = [], 0
    for k, part in enumerate(texts):
        wanted = [part.strip(), after_thinking(part) if k % 2 else None]
        matches = [(prompt.find(words, at), words) for words in wanted if words is not None]
        place, words = next(((place, words) for place, words in matches if place >= 0), (-1, ""))
        present.append(place >= 0)
        at = max(at, place + len(words))
    return present


def _is_printed_code(message: str, text: str) -> bool:
    """Return whether a template that expects a string printed the list of parts as code."""
    return re.search(rf"""["']text["']:\s*["']{re.escape(message.strip())}""", text) is not None
