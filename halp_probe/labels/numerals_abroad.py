"""Numbers from two to ten in Chinese, Spanish, French and German, written as digits."""

from __future__ import annotations

import re

_CHINESE = "零一二三四五六七八九"
_COUNTED = re.compile(r"([零一二两三四五六七八九十]{1,3})(?=[只个条张辆把位棵朵本头匹支座名人])")
_WORDS = {
    word: str(place + 2)
    for words in (
        "dos tres cuatro cinco seis siete ocho nueve diez",
        "deux trois quatre cinq six sept huit neuf dix",
        "zwei drei vier fünf sechs sieben acht neun zehn",
    )
    for place, word in enumerate(words.split())
}
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)


def numbers_abroad(text: str) -> str:
    """Return the text with such numbers as digits; Chinese ones where a counting word follows."""
    text = _WORD.sub(lambda match: _WORDS[match[0].lower()], text)
    return _COUNTED.sub(lambda match: f" {_value(match[1])} ", text)


def _value(digits: str) -> int:
    tens, ten, ones = digits.replace("两", "二").rpartition("十")
    return (_CHINESE.index(tens) if tens else 1) * 10 * bool(ten) + (_CHINESE.index(ones) if ones else 0)
