"""Missions of a quality check: what to look at in an image, and when a group of images passes."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from halp_probe.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Mission:
    """Mission of a quality check, with texts in Chinese.

    `focus`: what to look at in an image; `requirement`: when the whole group passes.
    """

    name: str  # in Unicode's NFC
    focus: str
    requirement: str


@cache
def missions() -> Mapping[str, Mission]:
    """Return missions by name, in the order of the data file."""
    text = resources.files("halp_probe.tasks").joinpath("missions.json").read_text(encoding="utf-8")
    return MappingProxyType({name: Mission(name=name, **texts) for name, texts in json.loads(text).items()})


def mission(name: str) -> Mission:
    """Return the mission of this name, in any Unicode normal form.

    Raises InputError for an unknown name, with the nearest known one.
    """
    found = missions().get(nfc(name))
    if found is None:
        raise InputError(f"no mission {name!r}{did_you_mean(name, missions())}; supported are {', '.join(missions())}")
    return found


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ", did you mean …?" with the most similar name; "" where none is similar.

    Full-width and half-width brackets and letters look alike but make different names.
    """
    folded = {_fold(each): each for each in names}
    same = folded.get(_fold(name))
    if same is not None:
        return f", did you mean {same!r}? (letters, brackets or spaces differ in width)"
    near = difflib.get_close_matches(_fold(name), folded, n=1)
    return f", did you mean {folded[near[0]]!r}?" if near else ""


def nfc(name: str) -> str:
    """Return the name in the normal form in which names are compared: a file system may hold it decomposed."""
    return unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
