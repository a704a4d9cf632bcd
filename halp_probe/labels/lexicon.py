"""English words and what they mean: a part of WordNet 3.0 (Miller 1995, https://wordnet.princeton.edu), read once.

A word is looked up by its form, then by its singular. Its senses are ordered, the most frequent first; what is *said*
to hold of two words holds of frequent senses, what is *denied* holds of none that is known.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from halp_probe.labels.stems import base_forms

_FREQUENT = 2  # first senses that count where a relation is claimed


@dataclass(frozen=True)
class _Lexicon:
    senses: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, tuple[str, ...]]
    opposites: Mapping[str, tuple[str, ...]]


def is_word(word: str) -> bool:
    """Return whether the lexicon has the word, or the words of a name such as "teddy bear"."""
    return bool(_senses(word))


def mean_same(one: str, other: str) -> bool:
    """Return whether two words share a frequent sense: sofa, couch."""
    return any(
        mine == theirs and place + there < _FREQUENT
        for place, mine in _frequent(one)
        for there, theirs in _frequent(other)
    )


def is_a(one: str, other: str) -> bool:
    """Return whether the first word, in its first sense, names a kind of the second: puppy, dog."""
    general = {sense for _, sense in _frequent(other) if sense[0] != "a"}
    return any(general & _ancestors(sense) for place, sense in _frequent(one) if not place)


def is_other_compound(before: str, word: str) -> bool:
    """Return whether a word, with the one before it, is the name of another thing: "teddy bear" is no bear."""
    name = f"{before} {word}"
    own = set(_senses(word))
    kinds = any(own & _ancestors(sense) for sense in _senses(name))
    return is_word(name) and not kinds and not mean_same(name, word)


def are_opposites(one: str, other: str) -> bool:
    """Return whether two words, or adjectives like them, are antonyms in any sense: open, closed; wet, arid."""
    second = set(_with_heads(other))
    return any(second & set(_load().opposites.get(sense, ())) for sense in _with_heads(one))


def may_mean_same(one: str, other: str) -> bool:
    """Return whether the words share any sense, or one may be a kind of the other, in whatever sense."""
    first, second = set(_senses(one)), set(_senses(other))
    return bool(
        first & second
        or any(first & _ancestors(sense) for sense in second)
        or any(second & _ancestors(sense) for sense in first)
    )


def falls_under(word: str, roots: Iterable[str]) -> bool:
    """Return whether a frequent sense of the word is, or is a kind of, one of `roots`: "animal", "country#2".

    A root is a word's first sense as a noun, or the sense of the number behind "#". Raises KeyError for no such sense.
    """
    wanted = frozenset(_root(root) for root in roots)
    return any(sense in wanted or wanted & _ancestors(sense) for _, sense in _frequent(word))


def common_ancestors(one: str, other: str) -> frozenset[str]:
    """Return the senses of which frequent senses of both words, as nouns, are kinds."""
    return frozenset(
        shared
        for _, mine in _frequent(one)
        for _, theirs in _frequent(other)
        if mine[0] == theirs[0] == "n"
        for shared in (_ancestors(mine) | {mine}) & (_ancestors(theirs) | {theirs})
    )


def noun_sense(word: str) -> str:
    """Return the word's first sense as a noun, or that of the number behind "#". Raises KeyError if it has none."""
    return _root(word)


@lru_cache(maxsize=4096)
def _frequent(word: str) -> tuple[tuple[int, str], ...]:
    """Return the first senses of each form and part of speech, with their places."""
    senses = _load().senses
    found = []
    for form in base_forms(word.casefold()):
        for part in "nva":
            own = [sense for sense in senses.get(form, ()) if sense[0] == part]
            found += list(enumerate(own[:_FREQUENT]))
    return tuple(found)


def _with_heads(word: str) -> list[str]:
    """Return the word's senses, and those that its senses as an adjective are similar to."""
    senses = _senses(word)
    return [*senses, *(head for sense in senses if sense[0] == "a" for head in _load().parents.get(sense, ()))]


@cache
def _root(name: str) -> str:
    word, _, number = name.partition("#")
    senses = [sense for sense in _load().senses[word] if sense[0] == "n"]
    place = int(number or 1) - 1
    if place >= len(senses):
        raise KeyError(name)
    return senses[place]


@lru_cache(maxsize=4096)
def _senses(word: str) -> tuple[str, ...]:
    senses = _load().senses
    return tuple(sense for form in base_forms(word.casefold()) for sense in senses.get(form, ()))


@lru_cache(maxsize=4096)
def _ancestors(sense: str) -> frozenset[str]:
    parents = _load().parents
    found: set[str] = set()
    todo = [sense]
    while todo:
        new = [parent for parent in parents.get(todo.pop(), ()) if parent not in found]
        found.update(new)
        todo += new
    return frozenset(found)


@cache
def _load() -> _Lexicon:
    packed = files("halp_probe.labels").joinpath("wordnet", "senses.txt.gz").read_bytes()
    words, _, links = gzip.decompress(packed).decode().partition("\n\n")
    senses = {
        lemma: tuple(numbers.split()) for lemma, _, numbers in (line.partition("\t") for line in words.split("\n"))
    }
    parents, opposites = {}, {}
    for line in links.split("\n"):
        synset, up, against = line.split("\t")
        parents[synset], opposites[synset] = tuple(up.split()), tuple(against.split())
    return _Lexicon(senses, parents, opposites)
