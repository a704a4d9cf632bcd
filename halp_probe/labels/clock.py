"""Times of day in a text: "4:45", "a quarter to five", "ten past three"."""

from __future__ import annotations

import re

from halp_probe.labels.stems import NUMBER_WORDS

_HOURS = {word: n for word, n in NUMBER_WORDS.items() if 1 <= n <= 12}
_NUMBER = "|".join((*_HOURS, "twenty[- ]five", "twenty", r"\d{1,2}"))
_DIGITS = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2})(?!\d)")
_WORDS = re.compile(
    rf"\b(?:a )?(?P<minutes>quarter|half|{_NUMBER})(?: minutes?)? (?P<side>past|after|to|before) (?P<hour>{_NUMBER})\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"\b(?P<hour>{_NUMBER}) o'?clock\b", re.IGNORECASE)
_HALF_DAY = 12 * 60
_HALF = re.compile(r"(?<=[\d ])([ap])\.?\s?m\b", re.IGNORECASE)


def times_of_day(text: str) -> set[int]:
    """Return the times that a text names, in minutes from twelve o'clock on a dial."""
    found = {int(hour) * 60 + int(minute) for hour, minute in _DIGITS.findall(text) if int(minute) < 60}
    for match in _WORDS.finditer(text):
        minutes = {"quarter": 15, "half": 30}.get(match["minutes"].lower()) or _value(match["minutes"])
        after = match["side"].lower() in ("past", "after")
        found.add(_value(match["hour"]) * 60 + (minutes if after else -minutes))
    found |= {_value(match["hour"]) * 60 for match in _WHOLE.finditer(text)}
    return {time % _HALF_DAY for time in found}


def is_time_of_day(text: str) -> bool:
    """Return whether the whole text is one time of day."""
    bare = re.sub(r"\s*\b(?:a\.?m|p\.?m)\b\.?", "", text, flags=re.IGNORECASE).strip(" .")
    return any(pattern.fullmatch(bare) for pattern in (_DIGITS, _WORDS, _WHOLE))


def half_of_day(text: str) -> str:
    """Return "a" or "p" for the only half of the day that a text names, as "10:15 pm" does; else ""."""
    found = {match[1].lower() for match in _HALF.finditer(text)}
    return found.pop() if len(found) == 1 else ""


def _value(word: str) -> int:
    word = word.lower().replace("-", " ")
    if word.isdigit():
        return int(word)
    return {"twenty": 20, "twenty five": 25}.get(word) or _HOURS[word]
