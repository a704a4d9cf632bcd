"""ChatML, Qwen's prompt format, with a default system turn; the caller chooses the mark of an image."""

from __future__ import annotations

SYSTEM_PROMPT = "You are a helpful assistant."


def chat_template(image: str) -> str:
    """Return a Jinja template for turns whose content is a text or a list of parts; an image part becomes `image`.

    Nothing but an image part writes that mark. Every turn ends in `<|im_end|>` and a line break.
    """
    return (
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + SYSTEM_PROMPT + "<|im_end|>\n"
        "{% endif %}"
        "<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}"
        "{% else %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
