"""English negation: which words negate, which words a negation looks through, how text splits into clauses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from halp_probe.labels.normalise import sentences, word_set, words_of

NEGATORS = word_set("not no never without neither nor none nothing nobody nowhere zero")
_NO_NEGATION = re.compile(  # they look like negations but are not
    r"\b(?:not (?:only|just|merely|simply|to mention)|(?:there(?:'s| is) )?no (?:doubt|question|wonder|problem)"
    r"|without (?:a |any )?(?:doubt|question))\b",
    re.IGNORECASE,
)
_NEGATING_PHRASE = re.compile(
    r"\b(?:rather than|instead of|as opposed to|(?:a )?lack of|lack(?:s|ing)?|absence of|free (?:of|from)"
    r"|devoid of|far from|anything but|fail(?:s|ed|ing)? to|unable to|non(?=-))\b",
    re.IGNORECASE,
)
_NO_MATTER = re.compile(r"\bat all\b|\bto(?= (?:be|have|show|contain|include)\b)", re.IGNORECASE)
_X_FREE = re.compile(
    r"\b(\w{3,})-free\b|\b(?!(?:un|regard|use|neverthe|nonethe|doubt|need)less\b)(\w{4,})less\b", re.IGNORECASE
)

# Words without content of their own: a negation reaches through them to what it negates.
NEUTRAL = word_set(
    """
    a an the any some this that these those it its they them their he him his she her hers there here i we you me my our
    is are was were be been being am do does did done has have had having can will shall must and or also as really
    actually currently clearly directly visibly appear appears appeared appearing seem seems seemed seeming look looks
    looked looking see sees seen seeing show shows shown showing depict depicts depicted display displays displayed
    contain contains containing include includes including feature features featuring present visible noticeable
    discernible find detect apparent evident evidence sign signs trace traces indication indications indicate indicates
    suggest suggests believe think say observe observed existence presence exist exists which who what
    so then yes indeed such
    obvious sort kind form single longer scene image picture photo photograph
    """
)
# Who is where: words that shift a statement to another thing or place.
RELATIONS = word_set(
    """
    in on at to under above below behind beside near inside outside over beneath underneath left right front back top
    bottom before after up down into through across around onto off out along against towards toward next by with of
    from for between among than more less fewer within while during about
    """
)
_SCENE = re.compile(
    r"\b(?:according to|based on|judging (?:by|from)|as (?:seen|shown|depicted) in|looking at|in|from|within|on|of)"
    r" (?:this|the|that|your|my) (?:given |provided |above )?(?:image|picture|photo(?:graph)?|scene|frame)\b",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"\s*(?:[,;:()]|[—–]|\s-\s|--|\b(?:but|while|whereas|although|though|however|because|since|yet|except|besides)\b)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Clause:
    """Words of a clause, in lower case.

    `after` is what separates it from the clause before ("" at a sentence's start).
    """

    words: tuple[str, ...]
    after: str

    def negators(self) -> list[int]:
        """Places of the words that negate."""
        return [i for i, word in enumerate(self.words) if word in NEGATORS]


def strip_scene(text: str) -> str:
    """Remove words about the picture itself, such as "in this image" and "based on the photo"."""
    return _SCENE.sub(" ", text)


def spell_out(text: str) -> str:
    """Write every negation as one of NEGATORS, and remove idioms that negate nothing ("not only", "no doubt")."""
    text = _NO_MATTER.sub(" ", _NO_NEGATION.sub(" ", text))
    text = _X_FREE.sub(lambda m: f"no {m[1] or m[2]}", text)
    return _NEGATING_PHRASE.sub(" without ", text)


def clauses(text: str) -> list[list[Clause]]:
    """Split each sentence into its clauses."""
    return [_clauses_of(sentence) for sentence in sentences(text)]


def _clauses_of(sentence: str) -> list[Clause]:
    sentence = re.sub(r"(?<=\d),(?=\d)", "", spell_out(sentence))
    found: list[Clause] = []
    start, after = 0, ""
    for stop in [*_BREAK.finditer(sentence), None]:
        words = tuple(words_of(sentence[start : stop.start() if stop else len(sentence)]))
        if words:
            found.append(Clause(words, after))
            after = ""
        if stop:
            # ", but" is two breaks: the word says more than the comma
            after = stop[0].strip().lower() if stop[0].strip().isalpha() or not after else after
            start = stop.end()
    return found
