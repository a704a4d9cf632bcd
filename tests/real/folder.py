"""One folder with a real checkpoint's settings, and what its template is written with.

A text that begins with @ stands for the id of that token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from real.tokenizers import Words

SMALL = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 2}
GQA = {**SMALL, "num_key_value_heads": 1}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Content of a folder, by file."""

    words: Words
    config: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]  # of the processor and the image processor
    generation: Mapping[str, Any]
    template: str

    def save(self, folder: Path) -> Path:
        tokenizer = self.words.build()
        tokenizer.save_pretrained(folder)
        files = {"config.json": self.config, "generation_config.json": self.generation, **self.files}
        for name, content in files.items():
            (folder / name).write_text(json.dumps(_with_ids(content, tokenizer)))
        (folder / "chat_template.jinja").write_text(self.template)
        return folder

    def changed(self, file: str, content: Mapping[str, Any]) -> Folder:
        """The same with another file beside, or in place of, its own."""
        return replace(self, files={**self.files, file: content})


def _with_ids(content: Any, tokenizer: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _with_ids(value, tokenizer) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_ids(value, tokenizer) for value in content]
    return tokenizer.convert_tokens_to_ids(content[1:]) if isinstance(content, str) and content[:1] == "@" else content


def turns(user: str, image: str) -> str:
    """A template's turns; each part of the content is an image or a text."""
    parts = f"{{% if part.type == 'image' %}}{image}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    content = f"{{% for part in message.content %}}{parts}{{% endfor %}}"
    return f"{{% for message in messages %}}{user.replace('CONTENT', content)}{{% endfor %}}"


CHATML = turns("<|im_start|>{{ message.role }}\nCONTENT<|im_end|>\n", "IMAGE")
BEGIN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML_ENDS = {"eos_token_id": ["@<|im_end|>", "@<|endoftext|>"], "pad_token_id": "@<|endoftext|>"}
SAMPLED = {"bos_token_id": "@<|endoftext|>", "do_sample": True, **CHATML_ENDS}
