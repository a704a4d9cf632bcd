"""Claims about a yes/no question in an answer that has no yes or no.

Only a clause that restates all of the question, in its order, with nothing foreign in between, is evidence; so is a
negation right before what the question is about. Everything else says nothing: a missed claim costs one label, a
misread one makes a wrong label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from halp_probe.labels.comparing import compared_polarity, counted_polarity, is_reversed_place
from halp_probe.labels.contrary import contradicts
from halp_probe.labels.lexicon import is_other_compound
from halp_probe.labels.negation import NEGATORS, NEUTRAL, RELATIONS, Clause, clauses, spell_out, strip_scene
from halp_probe.labels.normalise import sentences, word_set, words_of
from halp_probe.labels.stems import NUMBER_WORDS, same_word

_AUXILIARIES = word_set("is are was were do does did has have had can could will would should")
_LINKS = word_set("between of with by from for about")  # an existential's prepositions, which a restatement may change
_CONDITIONS = word_set(  # a sentence with one of them states nothing
    """
    if whether unless might may maybe perhaps possibly could would should asks asked asking question like resembling
    resembles suggesting false incorrect incorrectly untrue wrong inaccurate mistaken misleading unlikely improbable
    doubtful supposedly allegedly supposed doubt doubts suspect suspects guess assume assumes imagine glance initially
    """
)
_DEGREES_OF_DOUBT = word_set(  # a clause with one of them is neither a plain yes nor a plain no
    """
    hardly barely scarcely rarely seldom almost nearly partially partly absent missing gone used formerly previously
    avoid avoids avoiding toy statue painting drawing sculpture poster stuffed fake reflection shadow
    """
)
_FINITE = word_set("is are was were has have had do does did appears seems shows can")
_POSTURES = word_set("lying laying sitting standing resting sleeping located placed positioned situated")
_ING_NOUNS = word_set(
    """
    railing building ceiling painting clothing string ring wing king spring crossing lighting flooring opening covering
    carving drawing landing housing parking racing fishing riding boarding dining swimming shopping cleaning setting
    """
)
_DEGREES = word_set("very too quite particularly especially rather so extremely")
_QUANTIFIERS = word_set("most few half many several both each every other another")
_BOUNDS = word_set("or to than least most nor and")  # before a number: "one or two", "more than two"
_INSTRUCTION = re.compile(r"\b(?:yes\s*(?:or|/)\s*no|single word|one word|short phrase|briefly)\b", re.IGNORECASE)
_LONGEST_REACH = 4  # words from a negation to what it negates; all of them must be neutral


@dataclass(frozen=True, kw_only=True)
class YesNoQuestion:
    """Content words of a yes/no question, in order, and the words whose direct negation denies the whole."""

    words: tuple[str, ...]
    heads: tuple[str, ...]
    existential: bool
    related: bool  # asks where, or to compare: "on the sofa", "higher than"
    any_order: bool

    def index(self, word: str) -> int | None:
        """Return the place of a content word, in any of its forms; None if the question lacks it."""
        return next((i for i, own in enumerate(self.words) if same_word(own, word)), None)


def parse_question(question: str) -> YesNoQuestion | None:
    """Parse a yes/no question.

    Returns None where claims cannot be judged: for any other question, a negated one, or one with "or".
    """
    parts = [s for s in sentences(question) if not _INSTRUCTION.search(s)]
    questions = [s for s in parts if s.endswith("?")] or parts
    if not questions:
        return None
    words = words_of(strip_scene(spell_out(questions[-1])))
    if len(words) < 2 or words[0] not in _AUXILIARIES or "or" in words or NEGATORS & set(words):
        return None
    existential = words[1] == "there"
    content = [w for w in words[1:] if w not in NEUTRAL and not (existential and w in _LINKS)]
    if not content:
        return None
    related = bool(RELATIONS & set(content))
    return YesNoQuestion(
        words=tuple(content),
        heads=_heads(words, content, existential, related),
        existential=existential,
        related=related,
        any_order="between" in words if existential else len(content) == 2 and not related,
    )


def _heads(words: list[str], content: list[str], existential: bool, related: bool) -> tuple[str, ...]:
    if not existential:
        # "Is the floor dirty": its last word; with a relation or comparison the last word is not what is asked
        return () if related or (RELATIONS & set(words[1:])) else (content[-1],)
    before = next((i for i, w in enumerate(words) if w in RELATIONS), len(words))
    nouns = [w for w in words[2:before] if w in content]
    return (nouns[-1],) if nouns else ()


def claimed_polarities(answer: str, question: str) -> set[str]:
    """Return the polarities ("yes", "no") of the answer's claims on the question; empty if it makes none."""
    about = parse_question(question)
    if about is None:
        return set()
    found: set[str] = set()
    stated = "\n".join(s for s in sentences(strip_scene(answer)) if not s.endswith("?"))
    for sentence in clauses(stated):
        if sentence and not _states_nothing(sentence):
            found |= _of_sentence(sentence, about)
            found |= _compared(sentence, question, about)
    if not found and (said := counted_polarity(stated, question)):
        found.add(said)
    return found


def _compared(sentence: list[Clause], question: str, about: YesNoQuestion) -> set[str]:
    asked = words_of(question)
    found = {said for clause in sentence if (said := compared_polarity(clause, asked))}
    contrary = any(contradicts(clause, asked, about.words) for clause in sentence)
    reversed_place = any(is_reversed_place(clause, asked, about.words) for clause in sentence)
    return found | ({"no"} if contrary or reversed_place else set())


def _states_nothing(sentence: list[Clause]) -> bool:
    return any(_CONDITIONS & set(clause.words) for clause in sentence)


def _of_sentence(sentence: list[Clause], about: YesNoQuestion) -> set[str]:
    found: set[str] = set()
    negated = False
    for clause, following in zip(sentence, [*sentence[1:], None], strict=False):
        if following and following.after == ":":
            continue  # a heading ("Beach: not visible") claims nothing
        # "no cats, dogs or birds": a verbless clause after a comma shares the negation before it
        shares = negated and clause.after == "," and ("or" in clause.words or not _FINITE & set(clause.words))
        if not shares:
            negated = bool(clause.negators())
            found |= _of_clause(clause, about)
    return found


def _of_clause(clause: Clause, about: YesNoQuestion) -> set[str]:
    if _DEGREES_OF_DOUBT & set(clause.words):
        return set()
    spots = _restatement(clause.words, about)
    negators = clause.negators()
    if any(_denies(clause.words, at, about) for at in negators):
        return {"no"}
    if spots is None or any(_names_other_thing(clause.words, spot) for spot in spots):
        return set()
    inside = [at for at in negators if at < spots[-1]]
    if inside:
        aims = _target(clause.words, inside[-1])
        hits = len(inside) == 1 and aims is not None and about.index(clause.words[aims]) is not None
        placed = about.existential and any(w in RELATIONS for w in clause.words[: spots[0]])
        return {"no"} if hits and not placed and _same_place(clause.words[spots[-1] + 1 :], about) else set()
    trailing = [at for at in negators if at > spots[-1]]
    if not trailing:
        return {"yes"}
    if clause.words[trailing[0]] in ("without", "no"):
        return {"yes"}  # "a dog on the sofa without a collar"
    return {"no"} if _target(clause.words, trailing[0]) is None else set()  # "a dog on the sofa is not visible"


def _names_other_thing(words: tuple[str, ...], spot: int) -> bool:
    return spot > 0 and is_other_compound(words[spot - 1], words[spot])


def _target(words: tuple[str, ...], negator: int) -> int | None:
    """Return the place of the first word that a negation is about; None if it ends the clause ("is not visible")."""
    rest = range(negator + 1, len(words))
    return next((i for i in rest if words[i] not in NEUTRAL and words[i] not in _LINKS | {"in"}), None)


def _denies(words: tuple[str, ...], at: int, about: YesNoQuestion) -> bool:
    """Check that the negation at `at` is directly on what the question is about, in a clause about nothing else."""
    last_too = about.existential and words[at] in ("no", "without", "neither", "nor")
    heads = (*about.heads, about.words[-1]) if last_too else about.heads
    reach = range(at + 1, min(len(words), at + 1 + _LONGEST_REACH))
    spot = next((i for i in reach if any(same_word(words[i], head) for head in heads)), None)
    if spot is None or any(w in NEGATORS for w in words[max(0, at - 2) : at]):
        return False
    between = words[at + 1 : spot]
    if not all(w in NEUTRAL or w in _LINKS or about.index(w) is not None for w in between):
        return False
    return (
        _ends_phrase(words, spot)
        and _same_subject(words[:at], spot, words, about)
        and _same_place(words[spot + 1 :], about)
    )


def _same_subject(before: tuple[str, ...], spot: int, words: tuple[str, ...], about: YesNoQuestion) -> bool:
    """Check that nothing foreign precedes the negation, unless all of the question does.

    An example of the latter is "the floor is clean with no dirt".
    """
    strange = [w for w in before if about.index(w) is None and w not in NEUTRAL and not _adverb(w)]
    if not strange:
        return True
    others = [own for own in about.words if not same_word(own, words[spot])]
    subject = next((i for i, w in enumerate(before) if about.index(w) is not None), None)
    return (
        subject is not None
        and all(any(same_word(own, w) for w in before) for own in others)
        and not any(w in RELATIONS or w not in NEUTRAL for w in before[:subject])
    )


def _same_place(after: tuple[str, ...], about: YesNoQuestion) -> bool:
    """Check that no foreign place or partner follows: "no dirt on the wall" says nothing of the floor."""
    preposition = next((i for i, w in enumerate(after) if w in RELATIONS), len(after))
    free = _LINKS if about.related else _LINKS | {"in", "on", "to"}
    return all(w in NEUTRAL or w in free or about.index(w) is not None for w in after[preposition:])


def _restatement(words: tuple[str, ...], about: YesNoQuestion) -> list[int] | None:
    """Return the sorted places where the clause restates each of the question's words.

    Returns None if it does not, or says more in between.
    """
    spots: list[int] = []
    start = 0
    for own in about.words:
        spot = next((i for i in range(start, len(words)) if i not in spots and same_word(own, words[i])), None)
        if spot is None:
            return None
        spots.append(spot)
        start = 0 if about.any_order else spot + 1
    in_order = all(a < b for a, b in pairwise(spots))
    spots.sort()
    first, last = spots[0], spots[-1]
    if words[last] in RELATIONS and not all(w in NEUTRAL for w in words[last + 1 :]):
        return None  # "the TV is on the wall" does not say that it is on
    gap = [w for i, w in enumerate(words[first:last], first) if i not in spots]
    if not all(_passes(w, about, in_order) for w in gap) or not _ends_phrase(words, last):
        return None
    if any(words[i] in NUMBER_WORDS and i and (words[i - 1] in _BOUNDS or _numeric(words[i - 1])) for i in spots):
        return None
    return spots if _fits_subject(words[:first], about) else None


# Before a thing's name, these speak of it without saying that it is there: "let me look for a beach".
_NOT_SEEN = frozenset(
    {"let", "lets", "look", "looks", "looking", "check", "search", "expect", "similar", "prevents", "away"}
)


def _passes(word: str, about: YesNoQuestion, in_order: bool) -> bool:
    if word in NEUTRAL or word in NEGATORS or word in _POSTURES | _DEGREES or _adverb(word):
        return True
    if about.existential and "contact" in about.words:
        return word in ("in", "with", "between", "of")
    return word in ("on", "in", "of") and not in_order  # "dirt on the floor"


def _fits_subject(before: tuple[str, ...], about: YesNoQuestion) -> bool:
    """Check the words before the restatement.

    None may make it about another thing ("the owner of the dog is running").
    """
    foreign = [w for w in before if w not in NEUTRAL and w not in NEGATORS and not _adverb(w)]
    if about.existential:
        return not _NOT_SEEN & set(before)
    if any(w in _QUANTIFIERS or _numeric(w) for w in foreign):
        return False  # "most people are wearing hats"
    return not foreign or (len(about.words) > 1 and not RELATIONS & set(foreign))


def _ends_phrase(words: tuple[str, ...], spot: int) -> bool:
    """Check that no noun follows that makes the word its modifier ("beach umbrella", "stair railing")."""
    if spot + 1 >= len(words):
        return True
    follower = words[spot + 1]
    return (
        follower in NEUTRAL
        or follower in RELATIONS
        or follower in NEGATORS
        or (follower.endswith("ing") and follower not in _ING_NOUNS)
        or _adverb(follower)
        or (words[spot].endswith("s") and not words[spot].endswith("ss"))
    )


def _adverb(word: str) -> bool:
    return len(word) > 4 and word.endswith("ly") and word not in ("family", "butterfly", "belly", "jelly", "reply")


def _numeric(word: str) -> bool:
    return word.isdigit() or word in NUMBER_WORDS or word in ("thirty", "forty", "fifty")
