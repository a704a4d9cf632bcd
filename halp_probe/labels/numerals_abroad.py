"""Numbers from two to ten in Chinese, Spanish, French and German, written as digits."""

from __future__ import annotations

import re

from halp_probe.labels.normalise import word_set, words_of

_CHINESE = "零一二三四五六七八九"
_COUNTED = re.compile(r"([零一二两三四五六七八九十]{1,3})(?=[只个条张辆把位棵朵本头匹支座名人])")
_LANGUAGES = tuple(  # small words by which a text is known to be of a language, and its numbers from two to ten
    (word_set(small), {word: str(place) for place, word in enumerate(numbers.split(), start=2)})
    for small, numbers in (
        ("hay el los las una en del está son", "dos tres cuatro cinco seis siete ocho nueve diez"),
        ("il y des sur dans une est les du sont", "deux trois quatre cinq six sept huit neuf dix"),
        ("es sind der das auf im ein eine stehen", "zwei drei vier fünf sechs sieben acht neun zehn"),
    )
)


def numbers_abroad(text: str) -> str:
    """Return the text with such numbers as digits: Chinese ones before a counting word, others in their own language.

    A number that is all of the text needs no other word to tell its language.
    """
    words = words_of(text)
    for small, numbers in _LANGUAGES:
        if small.intersection(words) or (len(words) == 1 and words[0] in numbers):
            pattern = rf"\b(?:{'|'.join(numbers)})\b"
            text = re.sub(pattern, lambda match, own=numbers: own[match[0].lower()], text, flags=re.IGNORECASE)  # type: ignore[misc]
    return _COUNTED.sub(lambda match: f" {_value(match[1])} ", text)


def _value(digits: str) -> int:
    tens, ten, ones = digits.replace("两", "二").rpartition("十")
    return (_CHINESE.index(tens) if tens else 1) * 10 * bool(ten) + (_CHINESE.index(ones) if ones else 0)
