"""Numbers and judgements as a reader sees them. An estimate is {"value", "low", "high", "note"}, numbers or None."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from halp_probe.report.colours import CHANCE

_MOST_NAMED = 4
_MINUS = "\N{MINUS SIGN}"
_THIN = "\N{NARROW NO-BREAK SPACE}"


def is_known(number: float | None) -> bool:
    """Check for a number that is neither None nor nan nor infinite."""
    return number is not None and math.isfinite(number)


def decimal(number: float, signed: bool = False) -> str:
    """Format with three decimals and a real minus sign.

    `signed` puts a plus before what is above 0. Zero never has a sign.
    """
    text = f"{abs(number):.3f}"
    if float(text) == 0:
        return text
    return (_MINUS if number < 0 else "+" if signed else "") + text


def points(share: float, signed: bool = False) -> str:
    """Format a share of 1 in hundredths, with one decimal."""
    text = f"{100 * abs(share):.1f}"
    if float(text) == 0:
        return text
    return (_MINUS if share < 0 else "+" if signed else "") + text


def percent(share: float) -> str:
    """Format a share of 1 in percent, with one decimal."""
    return points(share) + _THIN + "%"


def count(number: int) -> str:
    """Format with a comma between thousands."""
    return f"{number:,}"


def tally(values: Sequence[str]) -> str:
    """List each value once, in order of appearance, with how often it came if more than once."""
    return ", ".join(f"{value} (×{n})" if n > 1 else value for value, n in Counter(values).items())


def span(numbers: Sequence[int]) -> str:
    """Format the range from the smallest to the largest."""
    low, high = min(numbers), max(numbers)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def against_chance(auroc: Mapping[str, Any]) -> str:
    """Say what an AUROC's interval says of guessing."""
    if not is_known(auroc["value"]):
        return ""
    pairs = f"Of 100 pairs of a wrong and a right answer it ranks {round(100 * auroc['value'])} rightly"
    if not (is_known(auroc["low"]) and is_known(auroc["high"])):
        return f"{pairs}; guessing ranks 50."
    if auroc["low"] > CHANCE:
        return f"{pairs}; guessing ranks 50, below the whole interval."
    if auroc["high"] < CHANCE:
        return f"{pairs}; guessing ranks 50, above the whole interval: it ranks the wrong way round."
    return f"{pairs}; guessing ranks 50, which lies in the interval: it may be no better."


def against_baseline(difference: Mapping[str, Any]) -> str:
    """Say what the interval of a paired difference, probe minus baseline, says."""
    if not all(is_known(difference[key]) for key in ("value", "low", "high")):
        return ""
    if difference["value"] == difference["low"] == difference["high"] == 0:
        return "The probe is that baseline: both have the same scores, so it adds nothing."
    if difference["low"] > 0:
        return "The probe is better: the whole interval lies above 0."
    if difference["high"] < 0:
        return "The baseline is better: the whole interval lies below 0."
    return "No clear difference: the interval holds 0."


def added(found: Mapping[str, Any]) -> str:
    """Say what the interval of a stack's gain by the probe says."""
    gain = found["gain"]
    if not all(is_known(gain[key]) for key in ("value", "low", "high")):
        return ""
    p = found["p_value"]
    chance = "" if not is_known(p) else " (p < .001)" if p < 0.001 else f" (p = {p:.2g})"
    if found["joined"] == 0:
        return "In no fold did the training folds favour the probe: it adds nothing to them."
    if gain["low"] > 0:
        return f"The probe adds something that none of them has{chance}."
    if gain["high"] < 0:
        return f"With the probe they do worse{chance}: it adds noise."
    return f"The interval holds 0{chance}: nothing shows that the probe adds anything to them."


def gain_over_baseline(gain: Mapping[str, Any]) -> str:
    """Say what abstaining by the probe gains over abstaining by its best baseline; `gain` is a share of 1."""
    if not is_known(gain["value"]):
        return ""
    if gain["value"] == gain["low"] == gain["high"] == 0:
        return "The probe is that baseline."
    told = f"The probe's gain over it is {points(gain['value'], signed=True)} points"
    if not (is_known(gain["low"]) and is_known(gain["high"])):
        return f"{told}."
    told += f" ({points(gain['low'], signed=True)} to {points(gain['high'], signed=True)})"
    if gain["low"] > 0:
        return f"{told}."
    return f"{told}: {'the baseline does it better' if gain['high'] < 0 else 'none is shown'}."


def rivals(layers: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """Say than which representations the highest is not shown to be better, all pairs judged at once."""
    titles = {result["name"]: result["title"] for result in results if result["kind"] == "representation"}
    if len(titles) < 2:
        return ""
    best, names = titles[layers["best"]], [titles[name] for name in layers["rivals"]]
    if not names:
        return f"The highest, {best}, is shown to be better than each other one."
    if len(names) == len(titles) - 1:
        return f"The highest, {best}, is not shown to be better than any other one."
    beaten, others = len(titles) - 1 - len(names), len(titles) - 1
    few = ", ".join(names[:_MOST_NAMED]) + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")
    return f"The highest, {best}, is shown to be better than {beaten} of the other {others}, but not than {few}."


class Footnotes:
    """Notes of one table, each shown once and lettered by first appearance."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letter(self, text: str) -> str:
        """Return a, b, …, z, aa, ab, …: the same letter for the same text."""
        return self._letters.setdefault(text, _letters(len(self._letters)))

    def __iter__(self) -> Any:
        """Yield pairs of (letter, text)."""
        return iter([(letter, text) for text, letter in self._letters.items()])


def _letters(number: int) -> str:
    rest, last = divmod(number, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("a") + last)
