"""Options that a text mentions by their own words and does not reject."""

from __future__ import annotations

import re
from collections.abc import Sequence

from halp_probe.labels.negation import NEGATORS, spell_out
from halp_probe.labels.normalise import plain, sentences, words_of

_BREAK = re.compile(r"[,;:。，；]|[—–]|\b(?:but|while|whereas|although|though|however|because|since|yet|except)\b")
_REFUTED_AFTER = re.compile(
    r"\s*(?:(?:is|are|was|were|seems?|can|could|does) ?)?(?:not|n't|wrong|incorrect|false)\b"
    r"|\s*[-–—:(]\s*(?:wrong|incorrect|not (?:visible|shown|seen|present|there|correct))\b"
)
_SUPPOSED = re.compile(r"\b(?:if|whether|unless)\b")
_OTHER_THAN = re.compile(
    r"\b(?:(?:more|fewer|less|greater|other) than|at least|at most|except(?: for)?|anything but) (?:(?:a|an|the) )?$"
)
_DENIED_IN_CHINESE = re.compile(r"[不没非无][^,;。]{0,4}$")
_CJK = re.compile(r"[一-鿿]")
_REACH = 200  # characters before a mention in which a negation counts
_POLAR = NEGATORS | {"yes"}


def find_mentions(text: str, options: Sequence[str]) -> frozenset[int]:
    """Return the options whose text occurs in `text` as a whole phrase, not negated; questions do not count.

    A mention of a longer option ("dark red") is not a mention of a shorter one within it ("red"). Words such as "yes"
    and "no" count only where the text begins with them.
    """
    found: set[int] = set()
    by_length = sorted(range(len(options)), key=lambda index: len(options[index]), reverse=True)
    patterns = {index: _phrase(options[index]) for index in by_length}
    for place, sentence in enumerate(sentences(text)):
        if sentence.endswith(("?", "？")):
            continue
        left = plain(sentence).casefold()
        for index in by_length:
            pattern = patterns[index]
            if pattern is None:
                continue
            polar = options[index].casefold().strip(" .!") in _POLAR
            for match in pattern.finditer(left):
                first = place == 0 and not re.search(r"\w", left[: match.start()])
                if first if polar else not _is_negated(left, match):
                    found.add(index)
            left = pattern.sub(lambda match: "\0" * len(match[0]), left)  # so that no shorter option is found in it
    return frozenset(found)


def _phrase(option: str) -> re.Pattern[str] | None:
    words = re.findall(r"\w+", plain(option).casefold())
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words = words[1:]
    if not words:
        return None
    before = "" if _CJK.match(words[0]) else r"(?<!\w)"
    after = "" if _CJK.match(words[-1][-1]) else r"(?!\w)"
    return re.compile(before + r"[^\w\n]+".join(map(re.escape, words)) + after)


def _is_negated(sentence: str, match: re.Match[str]) -> bool:
    reached = sentence[max(0, match.start() - _REACH) : match.start()]
    before = _BREAK.split(reached)[-1]
    return (
        _OTHER_THAN.search(reached) is not None
        or _SUPPOSED.search(before) is not None
        or bool(NEGATORS.intersection(words_of(spell_out(before))))
        or _DENIED_IN_CHINESE.search(before) is not None
        or _REFUTED_AFTER.match(sentence, match.end()) is not None
    )
