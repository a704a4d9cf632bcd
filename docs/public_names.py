"""Page of the public names, made from `halp_probe.__all__`: a table of all of them, and a section for each."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import halp_probe


def public_names() -> list[str]:
    """Return all names that `import halp_probe` offers, in alphabetic order regardless of case."""
    return sorted((name for name in halp_probe.__all__ if not name.startswith("_")), key=str.lower)


def summary(public: Any) -> str:
    """Return the first paragraph of the object's docstring, on one line."""
    paragraph = (inspect.getdoc(public) or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def markdown() -> str:
    """Return two tables, functions and types, followed by a section for each name, which mkdocstrings fills."""
    objects = {name: getattr(halp_probe, name) for name in public_names()}
    types = [name for name, public in objects.items() if inspect.isclass(public)]
    functions = [name for name in objects if name not in types]
    parts = [_table("Functions", functions, objects), _table("Types", types, objects)]
    parts += [f"::: halp_probe.{name}\n" for name in (*functions, *types)]
    return "\n".join(parts)


def _table(title: str, names: Sequence[str], objects: dict[str, Any]) -> str:
    rows = [f"| [`{name}`](#halp_probe.{name}) | {_cell(summary(objects[name]))} |" for name in names]
    return "\n".join([f"| {title} | |", "| --- | --- |", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[")
