"""Option that a piece of text names first: by its letter, its text or its number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from halp_probe.labels.normalise import bare, plain
from halp_probe.labels.numerals import numerals

_LETTER = re.compile(
    r"""
    [\s"'{]* (?:(?:the\s+)? (?i:option|choice|letter) \s+ | 选项\s*)? ["']?
    (?: [\[(] \s* (?P<bracketed>[A-Za-z]) \s* [\])] | \(? (?P<upper>[A-Z]) (?![A-Za-z0-9_'&+])
      | \(? (?P<lower>[a-z]) (?= ["']? \s* (?:[.:)\]}。]|$) ) )
    (?P<rest> .* )
    """,
    re.VERBOSE,
)
_ANOTHER = re.compile(
    r"""
    ["')\]]* \s* (?: , | / | & | 、 | \b or \b | \b and \b | 或者? | 和 | 与 | 以及 | 还是 ) \s*
    (?: (?:or|and|maybe|perhaps|possibly) \s+ ){0,2} (?: (?:option|choice) \s+ | 选项?\s* )?
    (?: [\[(] \s* (?P<bracketed>[A-Z]) \s* [\])] | (?P<plain> [B-HJ-Z] | [AI] (?!\s+[a-z]) ) (?![A-Za-z0-9_']) )
    """,
    re.VERBOSE,
)
_GOES_ON = re.compile(  # what may follow the letter of an option
    r"""
    ["')\]}]* \s* (?: $ | [.,;:)\]}。、,;!] (?![A-Za-z]) | [—–-] \s | [(（] | [一-鿿]
    | (?:because|since|as|for|which|so|but|and|or|due|based|given) \b )
    """,
    re.VERBOSE,
)
_DENIED = re.compile(
    r"""
    ["')\]}]* \s* (?: (?: (?:is|seems|would\ be|can|must) (?:\s+(?:clearly|definitely))?
        \s* (?:not\b|n't\b|wrong|incorrect|false|ruled) ) | 是?(?:不|错) )
    """,
    re.VERBOSE,
)
_DENIED_TEXT = re.compile(
    r"""
    ["')\]]* \s* (?: [-–—:(] \s* (?: wrong | incorrect | not \s (?:visible|shown|seen|present|there|correct) )
      | (?:is|are|was) \s* (?: not | n't | wrong | incorrect ) ) \b
    """,
    re.VERBOSE,
)
_SUPPOSED = re.compile(r"[\"')\]}]*\s*\(?\s*(?:only\s)?if\b")
_AFTER_LETTER = re.compile(r"[\"')\]}]*\s*(?:[.:;,)\]。、]|[—–-]\s)*\s*")
_NUMBER = re.compile(r"[\s\"'{]*(?:(?:option|choice|选项)\s*)?[\[(]?([1-9]\d?)(?!\w)[\])]?(?P<rest>.*)", re.IGNORECASE)
_EITHER = re.compile(r"\s*(?:either|both|neither|not|n't|never|不|非)", re.IGNORECASE)


def letters(text: str, options: Sequence[str], *, declared: bool) -> frozenset[int]:
    """Return the options, from 0, whose letters stand at the beginning of `text`, a single line; mostly one or none.

    Letters beyond the options are included, for the caller to refuse. The article "a" and, unless the text is
    `declared` to be the answer, the pronoun "I" do not count. A letter followed by another option's text names both.
    """
    head = _LETTER.match(text)
    if head is None or _EITHER.match(text):
        return frozenset()
    letter, rest = head["bracketed"] or head["upper"] or head["lower"], head["rest"]
    index = ord(letter.upper()) - ord("A")
    another = _ANOTHER.match(rest)
    if another:
        return frozenset((index, ord(another["bracketed"] or another["plain"]) - ord("A")))
    rest_of_text = _AFTER_LETTER.sub("", rest, count=1)
    if _DENIED.match(rest) or _SUPPOSED.match(rest) or (index < len(options) and _denies(rest_of_text, options[index])):
        return frozenset()
    if index < len(options) and same_text(rest_of_text, options) == {index}:
        return frozenset((index,))
    pronoun = letter.upper() == "I" and not declared and not head["bracketed"]
    goes_on = head["bracketed"] or _GOES_ON.match(rest)
    if not goes_on or (pronoun and rest.strip() and not re.match(r"\s*[:)]", rest)):
        return frozenset()
    return frozenset((index,)) | same_text(rest_of_text, options)


def _denies(rest_of_text: str, option: str) -> bool:
    """Return whether the text after a letter is its option's text, said to be wrong."""
    return rest_of_text.casefold().startswith(option.casefold()) and bool(_DENIED_TEXT.match(rest_of_text, len(option)))


def number(text: str, options: Sequence[str]) -> frozenset[int]:
    """Return the option whose number, from 1, is all of `text` or precedes an option's text; both where they differ.

    Empty where an option holds a number: "2" may then mean a count.
    """
    head = _NUMBER.match(text)
    if head is None or not any(options) or any(numerals(option) for option in options):
        return frozenset()
    index = int(head[1]) - 1
    rest_of_text = _AFTER_LETTER.sub("", head["rest"], count=1).strip()
    other = same_text(rest_of_text, options)
    return frozenset((index,)) | other if index < len(options) and (other or not rest_of_text) else frozenset()


def same_text(text: str, options: Sequence[str]) -> frozenset[int]:
    """Return the options that equal `text` but for case; failing that, but for punctuation and articles."""
    said = _fold(text)
    if not said:
        return frozenset()
    same = frozenset(index for index, option in enumerate(options) if _fold(option) == said)
    return same or frozenset(index for index, option in enumerate(options) if _bare(option) == _bare(said))


@lru_cache(maxsize=1024)
def _fold(text: str) -> str:
    return plain(text).casefold().strip(" \n.。!\"'")


_bare = lru_cache(maxsize=1024)(bare)
