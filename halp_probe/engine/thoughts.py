"""Say it at the start if a chat template opens the model's thoughts, and which of its variables shuts them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import jinja2.meta

_OPEN = re.compile(r"(?:<think(?:ing)?>|◁think▷)\s*$")
_SWITCH = re.compile("think|reason")
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # a mark that transformers adds to Jinja
_log = logging.getLogger(__name__)


def tell_thoughts(render: Callable[..., str], template: str, name: str) -> None:
    """Log one line if the prompts of the model `name` end with the beginning of its thoughts.

    `render` makes a prompt, with further variables of the template; those that it reads are tried, set to false.
    """
    if not _OPEN.search(render()):
        return
    parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", template))
    names = sorted(found for found in jinja2.meta.find_undeclared_variables(parsed) if _SWITCH.search(found))
    shuts = next((found for found in names if (text := render(**{found: False})) and not _OPEN.search(text)), None)
    if shuts is None:
        remedy = "it has no variable that shuts them, so leave room for both"
    else:
        remedy = f"`template_options` {shuts}=false shuts them"
    _log.warning(
        "The chat template of %s opens the model's thoughts at the end of every prompt, so an answer begins with them: "
        "%s.",
        name,
        remedy,
    )
