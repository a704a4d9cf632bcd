"""Statements that contradict a yes/no question without a negation: "the light is red", of "Is the light green?"."""

from __future__ import annotations

from collections.abc import Sequence

from halp_probe.labels.kinds import excludes
from halp_probe.labels.negation import NEUTRAL, RELATIONS, Clause
from halp_probe.labels.normalise import word_set
from halp_probe.labels.stems import same_word

_BE = word_set("is are was were appears seems looks")
_PRONOUNS = word_set("it they this that these those he she")
_PARTLY = word_set("half partly partially")
_ALL = word_set("all every each both everyone everybody")
_NOT_ALL = word_set("most some few several many half only")
_EQUAL = word_set("same equal identical")


def contradicts(clause: Clause, asked: Sequence[str], content: Sequence[str]) -> bool:
    """Return whether a clause without negation states what excludes a yes.

    `asked` are all words of the question, `content` those with content, in order.
    """
    words = clause.words
    if clause.negators() or not content:
        return False
    return (
        _says_another_value(words, asked, content)
        or _says_not_all(words, asked, content)
        or ("than" in asked and bool(_EQUAL & set(words)) and bool(_BE & set(words)))
    )


def _says_another_value(words: Sequence[str], asked: Sequence[str], content: Sequence[str]) -> bool:
    """Check for the question's subject, a form of *be*, and a value that excludes the one asked about."""
    *subject, value = content
    verb = next((place for place, word in enumerate(words) if word in _BE), None)
    if (
        verb is None
        or (not subject and not _PRONOUNS & set(asked[1:2]))
        or RELATIONS & set(asked) - {"of"}
        or asked[0] not in _BE
    ):
        return False
    before = [word for word in words[:verb] if word not in NEUTRAL and word not in RELATIONS]
    if len(before) != len(subject) or not all(same_word(one, own) for one, own in zip(before, subject, strict=True)):
        return False
    behind = words[verb + 1 :]
    if any(same_word(word, value) for word in behind):
        return bool(_PARTLY & set(behind))
    said = [word for word in behind if word not in NEUTRAL]
    return bool(said) and len(said) <= 2 and excludes(said[-1], value)


def _says_not_all(words: Sequence[str], asked: Sequence[str], content: Sequence[str]) -> bool:
    """Check for "most of the apples are red", of "Are all the apples red?"."""
    if not _ALL & set(asked) or not words or words[0] not in _NOT_ALL:
        return False
    rest = [own for own in content if own not in _ALL]
    return all(any(same_word(word, own) for word in words) for own in rest)
