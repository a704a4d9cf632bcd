"""Find a checkpoint's chat template wherever it lies, and name its file.

vLLM and ms-swift take the processor's template, then the tokenizer's. Each is read from several files, which may
differ: the processor's own settings come before chat_template.json, and that before chat_template.jinja.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from halp_probe.models.checkpoint_files import CheckpointFiles
from halp_probe.models.errors import ModelError

TEMPLATE_FILE = "chat_template.jinja"
_JSON_FILES = ("processor_config.json", "chat_template.json")
_TOKENIZER_FILE = "tokenizer_config.json"
_log = logging.getLogger(__name__)


def settle_template(processor: Any, files: CheckpointFiles, name: str) -> str:
    """Give the processor the checkpoint's one chat template, and return the name of the file that it is from.

    If several files hold different ones, the log says which is used. A checkpoint may have none, which is refused when
    prompts are made. Raises ModelError if there are several templates and none is the default.
    """
    if not processor.chat_template:
        processor.chat_template = getattr(processor.tokenizer, "chat_template", None)
    if not processor.chat_template:
        return TEMPLATE_FILE
    processor.chat_template = _with_default(processor.chat_template, name)
    used, places = _plain(processor.chat_template), _places(files)
    chosen = next((file for file, text in places.items() if text == used), TEMPLATE_FILE)
    if others := [file for file, text in places.items() if text != used]:
        _log.warning(
            "Chat templates of %s differ: %s is used, not %s; make them the same.", name, chosen, " or ".join(others)
        )
    return chosen


def _with_default(template: str | Mapping[str, str], name: str) -> str | Mapping[str, str]:
    """Return a template of which one part is used if none is named."""
    if isinstance(template, str) or "default" in template:
        return template
    if len(template) == 1:
        return next(iter(template.values()))
    raise ModelError(
        f"{name} has chat templates named {', '.join(sorted(template))}, and none for everything else; save the one to "
        f"use as {TEMPLATE_FILE} in its folder"
    )


def _places(files: CheckpointFiles) -> dict[str, str]:
    """Return the template in each file that has one, in the order of precedence."""
    found: dict[str, Any] = {file: files.content(file).get("chat_template") for file in _JSON_FILES}
    found[TEMPLATE_FILE] = files.text(TEMPLATE_FILE)
    found[_TOKENIZER_FILE] = files.content(_TOKENIZER_FILE).get("chat_template")
    return {file: text for file, template in found.items() if template and (text := _plain(template))}


def _plain(template: Any) -> str:
    """Return the text of the default template; Jinja ignores one line break at its end."""
    if isinstance(template, list):  # as tokenizer_config.json writes several
        template = {entry["name"]: entry["template"] for entry in template}
    if isinstance(template, Mapping):
        template = template.get("default") or next(iter(template.values()), "")
    return str(template).removesuffix("\n")
