"""Numbers in a text, in digits or in English words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from halp_probe.labels.normalise import plain, word_set, words_of
from halp_probe.labels.stems import NUMBER_WORDS
from halp_probe.labels.units import PERCENT, unit_after

_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SMALL = NUMBER_WORDS | _TENS
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_UNIT = r"(?:km|cm|mm|m|mi|kg|mg|g|lbs?|oz|ft|in|mph|kmh|ml|l|px|c|f|°|%|x|min|s|h|hrs?|am|pm|usd|k|bn)"
_WORD = "|".join([*_SMALL, *_SCALES])
_NUMBER = re.compile(
    rf"""
    (?P<digits>
        (?<![\w/]) (?<!\d[.,:]) (?<![^\W\d]-)                    # not inside "A4", "COVID-19", "1.2.3", "10:30"
        -? (?: \d{{1,3}} (?:,\d{{3}})+ | \d+ ) (?:\.\d+)?
        (?! [.,:/]?\d ) (?! \w*(?:st|nd|rd|th)\b ) (?= {_UNIT}?\b | \W | $ )
    ) (?: \ ? (?P<scale>hundred|thousand|million|billion) \b )?
    | (?P<words> \b (?: half\ a\ dozen | (?:a\ )? dozen
        | (?:a\ (?=hundred|thousand|million|billion))? (?:{_WORD}) (?: (?:[ -]|\ and\ ) (?:{_WORD}) )* ) \b (?!-) )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_ONE_BEFORE = word_set("the this that which each every another no any other some")
_COUNTS_ONE = word_set("is are was only just exactly see count answer has have about around total contains shows")
_NO_NOUN_AFTER_ONE = word_set(
    """of another is are was were has can could may might would should who which that on at by with near to and or"""
)
_NEAR = 40  # characters around a "one" that show if it is a number or a pronoun
_PICTURE = word_set("image picture photo scene total")
_MINUS = re.compile(r"(?<![\d)] )\b(?:minus|negative)\s+$", re.IGNORECASE)
_FRACTION = re.compile(r"(?:(?P<whole>-?\d+)\s+)?(?P<above>-?\d+)\s*/\s*(?P<below>\d+)")


@dataclass(frozen=True, kw_only=True)
class Numeral:
    """Number at text[start:end], with its `value`.

    `scaled` is true with thousand, million … or a percent sign. `unit` is the name of the unit behind it, or "".
    """

    value: Decimal
    start: int
    end: int
    scaled: bool
    unit: str = ""

    @property
    def text(self) -> str:
        """Value in plain digits: "1200", "3", "0.5"."""
        text = f"{self.value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text


def numerals(text: str) -> list[Numeral]:
    """Find all numbers of the text; no ordinals, no parts of names (COVID-19), no "one" that is a pronoun."""
    found = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is None or (match[0].lower() == "one" and not _counts(text, match)):
            continue
        if match[0].lower().endswith("dozen") and re.search(r"\bbaker'?s $", text[: match.start()], re.IGNORECASE):
            value = Decimal(13)
        unit, _ = unit_after(text, match.end())
        percent = unit == PERCENT or re.match(r"\s?(?:k\b|bn\b)", text[match.end() :], re.IGNORECASE)
        scaled = bool(match["scale"] or percent or (match["words"] and set(words_of(match["words"])) & set(_SCALES)))
        if _MINUS.search(text, max(0, match.start() - _NEAR), match.start()) and value > 0:
            value = -value
        found.append(Numeral(value=value, start=match.start(), end=match.end(), scaled=scaled, unit=unit))
    return found


def fraction(text: str) -> Fraction | None:
    """Return the value of a text that is a fraction or a mixed number and nothing else: "3/4", "1 1/2"."""
    match = _FRACTION.fullmatch(plain(text).strip(" .()"))
    if match is None or not int(match["below"]):
        return None
    part = Fraction(int(match["above"]), int(match["below"]))
    whole = int(match["whole"] or 0)
    return whole + part if whole >= 0 else whole - part


def whole_numeral(text: str) -> Numeral | None:
    """Return the number that the whole text is, with a currency sign or a unit or without; None for any other text."""
    text = re.sub(r"^[$€£]\s*", "", plain(text).strip(" .!"))
    negative = re.match(r"(?:minus|negative)\s+", text, re.IGNORECASE)
    body = text[negative.end() :] if negative else text
    match = _NUMBER.match(body)
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    unit, end = unit_after(body, match.end())
    if end != len(body):
        return None
    scaled = bool(match["scale"] or unit == PERCENT)
    return Numeral(value=-value if negative else value, start=0, end=len(text), scaled=scaled, unit=unit)


def _value(match: re.Match[str]) -> Decimal | None:
    if match["digits"]:
        return Decimal(match["digits"].replace(",", "")) * _SCALES.get((match["scale"] or "").lower(), 1)
    return _value_of_words(match["words"])


def _counts(text: str, match: re.Match[str]) -> bool:
    """Check if this "one" is the number 1, not "the red one", "one of them", "one on the left"."""
    left, right = text[max(0, match.start() - _NEAR) : match.start()], text[match.end() : match.end() + _NEAR]
    before, after = words_of(left), words_of(right)
    last = before[-1] if before and re.search(r"\w\s*$", left) else ""
    following = after[0] if after and re.match(r"\s*\w", right) else ""
    if last in _NOT_ONE_BEFORE or following in _NO_NOUN_AFTER_ONE:
        return False
    if following == "in":
        return last in _COUNTS_ONE and bool(set(after[1:3]) & _PICTURE)
    return bool(following) or not last or last in _COUNTS_ONE


def _value_of_words(text: str) -> Decimal | None:
    """Convert twenty-one -> 21, "one hundred and five" -> 105; None for words of no single number ("two and three")."""
    words = text.lower().replace("-", " ").split()
    if words[-1] == "dozen":
        return Decimal(6 if words[0] == "half" else 12)
    if set(words) <= set(_SCALES):
        return None  # "(thousand tonnes)" is a unit, not a number
    total, part, before = 0, 0, ""
    for word in (w for w in words if w not in ("a", "and")):
        if word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            total, part = total + max(part, 1) * _SCALES[word], 0
        else:
            follows_tens = _SMALL.get(before, 0) >= 20 and 1 <= _SMALL[word] <= 9
            if before in _SMALL and not follows_tens:
                return None
            part += _SMALL[word]
        before = word
    return Decimal(total + part)
