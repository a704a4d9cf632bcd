"""Answers that do not say the truth: wrong where they name another value or deny it, else unknown.

That a text lacks a word proves nothing: it may say it in other words.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from halp_probe.labels.kinds import PLAIN_COLOURS, another_value, echoed_words, may_be
from halp_probe.labels.lexicon import are_opposites, common_ancestors, is_word, may_mean_same, noun_sense
from halp_probe.labels.negation import NEGATORS, NEUTRAL, RELATIONS, clauses, strip_scene
from halp_probe.labels.normalise import bare, sentences, word_set, words_of
from halp_probe.labels.stems import same_word
from halp_probe.labels.verdict import ABSENT, Verdict, unknown, wrong

_JUDGEABLE_WORDS = 3  # a longer truth can be said in other words
_READING = re.compile(
    r"\b(?:say|says|said|read|reads|written|write|spell|spelled|brand|logo|title|name|named|called|word|words|text|slogan"
    r"|company|license plate|number plate|street sign|label|team|airline|store|shop|restaurant|hotel|bank|manufacturer"
    r"|author|artist|letter)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'&-]*(?: [A-Z][\w'&-]*)*")  # capitals within a sentence
_QUOTED = re.compile(r"\"([^\"\n]{1,60})\"|(?<!\w)'([^'\n]{2,60})'(?!\w)")
_SHORT = 3  # words of an answer that is nothing but a name
_ALIKE = 0.5  # of two spellings, from which on one may be a slip of the other
_ANYTHING = word_set("anything anyone anybody nothing nobody none")
_DOING = re.compile(r"\b(?:is|are|was|were) (?:\w+ly |currently )?(\w{3,}ing)\b", re.IGNORECASE)
_CODE = re.compile(r"(?=\w*\d)(?=\w*[a-z])\w{4,}")  # of letters and digits, as on a number plate
_VAGUE = word_set(  # says little of what somebody does
    """
    playing working standing sitting being looking having doing going getting making taking holding wearing appearing
    seeming showing posing resting lying waiting moving enjoying using trying performing participating engaging facing
    leaning smiling
    """
)
_TOO_GENERAL = (
    *("entity", "physical entity", "abstraction", "physical object", "whole", "artifact", "living thing", "organism"),
    *("causal agent", "matter", "psychological feature"),
)
_EMPTY = word_set("thing things object objects item items something someone person image one kind type color colour")


def judge_absence(answer: str, said: str, wanted: str, question: str) -> Verdict:
    """Judge an answer in which the truth was not found; `said` and `wanted` are the bare texts."""
    if denied := _denies_all(answer, question):
        return wrong("contains", said, wanted, denied)
    if len(wanted.split()) > _JUDGEABLE_WORDS:
        return unknown("contains", wanted, "not said in these words", said)
    if found := another_value(_relevant(answer, question), wanted, question):
        return wrong("contains", said, wanted, f"names another {found[1]}: {found[0]}")
    if _opposite(answer, wanted, question):
        return wrong("contains", said, wanted, "says the contrary")
    if _READING.search(question) and _other_text(answer, wanted, question):
        return wrong("contains", said, wanted, "reads another text")
    if doing := _other_activity(answer, wanted):
        return wrong("contains", said, wanted, f"names another activity: {doing}")
    if thing := _other_thing(answer, wanted, question):
        return wrong("contains", said, wanted, f"names another thing: {thing}")
    return unknown("contains", wanted, ABSENT, said)


def _relevant(answer: str, question: str) -> str:
    """Return the first sentence that takes up a word of the question; the first one, if none does.

    Later ones describe the rest of the picture.
    """
    asked = [word for word in words_of(question) if word not in NEUTRAL and word not in RELATIONS and len(word) > 2]
    parts = sentences(answer) or [""]
    return next(
        (part for part in parts if any(same_word(word, own) for word in words_of(part) for own in asked)), parts[0]
    )


def _denies_all(answer: str, question: str) -> str:
    """Return how the answer denies that there is anything to name: "he wears nothing"; "" if it does not."""
    asked = [word for word in words_of(question) if word not in NEUTRAL and word not in RELATIONS]
    first = sentences(answer)[:1]
    for sentence in clauses(strip_scene(first[0])) if first else ():
        for clause in sentence:
            negated = clause.negators()
            rest = clause.words[negated[0] + 1 :] if negated else ()
            things = [word for word in rest if word not in NEUTRAL]
            restated = any(same_word(word, own) for word in clause.words for own in asked)
            if negated and restated and _ANYTHING.intersection((*rest, clause.words[negated[0]])):
                return "says that there is none"
            existential = (
                negated and clause.words[negated[0]] in ("no", "not") and "there" in clause.words[: negated[0]]
            )
            if existential and things and any(same_word(things[0], own) for own in asked):
                return "says that there is no such thing"
    return ""


def _opposite(answer: str, wanted: str, question: str) -> bool:
    if len(wanted.split()) != 1:
        return False
    left = _left_over(answer, wanted, question)
    return any(are_opposites(word, wanted) for word in left) and not any(may_be(word, wanted) for word in left)


def _other_text(answer: str, wanted: str, question: str) -> bool:
    """Return whether what the answer quotes, all of it if it is short, or its names are quite unlike the truth."""
    texts = [bare(one or other) for one, other in _QUOTED.findall(answer)]
    if not texts and len(bare(answer).split()) <= _SHORT and "\n" not in answer:
        texts = [bare(answer)]
    if not texts:
        asked = words_of(question)
        names = [bare(name) for name in _NAME.findall(answer)]
        texts = [name for name in names if not any(same_word(word, own) for word in name.split() for own in asked)]
    return bool(texts) and all(_is_unlike(text, wanted) for text in texts)


def _is_unlike(text: str, wanted: str) -> bool:
    together, target = text.replace(" ", ""), wanted.replace(" ", "")
    if _CODE.fullmatch(together) and _CODE.fullmatch(target):
        return together != target
    shared = any(same_word(one, other) for one in text.split() for other in wanted.split())
    initials = any(
        "".join(word[0] for word in long.split()) == short for long, short in ((text, target), (wanted, together))
    )
    within = together in target or target in together
    return not (shared or initials or within) and SequenceMatcher(None, together, target).ratio() < _ALIKE


def _other_thing(answer: str, wanted: str, question: str) -> str:
    """Return the one thing that a short answer names, if it is surely none that the truth names; else ""."""
    left = _left_over(answer, wanted, question)
    if not 1 <= len(left) <= 2 or not is_word(left[-1]) or NEGATORS.intersection(words_of(answer)):
        return ""
    name = " ".join(left)
    thing, true = name if is_word(name) else left[-1], wanted.split()[-1]
    if (
        _EMPTY & {thing, true}
        or thing in PLAIN_COLOURS
        or any(may_be(one, other) for one in left for other in wanted.split())
    ):
        return ""
    if thing.endswith("ing") and true.endswith("ing") and not _VAGUE & {thing, true}:
        return thing
    shared = common_ancestors(thing, true)
    general = {noun_sense(name) for name in _TOO_GENERAL}
    return thing if shared and shared <= general else ""


def _other_activity(answer: str, wanted: str) -> str:
    """Return what the answer says that somebody is doing, where the truth is another activity of one word; else ""."""
    match = _DOING.search(answer)
    if match is None or not wanted.endswith("ing") or " " in wanted or _VAGUE & {match[1].lower(), wanted}:
        return ""
    said = match[1].lower()
    known = is_word(said) and is_word(wanted)
    return said if known and not may_mean_same(said, wanted) and "and" not in words_of(answer) else ""


def _left_over(answer: str, wanted: str, question: str) -> list[str]:
    """Return the words of the answer's first sentence that the question lacks and that have content."""
    first = strip_scene((sentences(answer) or [""])[0])
    asked = echoed_words(question, wanted)
    return [
        word
        for word in words_of(re.split(r"[,;:(]", first)[0])
        if word not in NEUTRAL and word not in RELATIONS and not any(same_word(word, own) for own in asked)
    ]
