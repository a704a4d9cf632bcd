"""Rule choice: the one option letter (A to H) an answer gives, or the option whose text it is."""

from __future__ import annotations

import re

from halp_probe.labels.normalise import bare, plain
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.verdict import CONFLICT, REFUSAL, Verdict, compare_texts, unknown

_LETTER = (
    r"(?:[\[(]\s*(?P<in_brackets>[A-Ha-h])\s*[\])]|(?P<upper>[A-H])(?![\w'&])|(?P<lower>[b-h])(?=\s*(?:[.,;:!)}]|$)))"
)
_REASON = r"(?=\s*(?:[.,;:!)}\]\n]|$|[—–-]\s|(?:because|since|as|for|which|and|or|is)\b))"
_DECLARED = re.compile(
    r"(?:\b(?:answer|correct (?:option|choice|answer|one)|best (?:option|choice))\b"
    r"(?:\s*(?:is|would be|should be)?\s*:?|\s*[:=-])\s*"
    rf"(?:option |choice )?|\\boxed\{{\s*)[\"'*]*{_LETTER}{_REASON}",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\b(?:option|choice)\s+{_LETTER}", re.IGNORECASE)
_LEADING = re.compile(
    r"[\"'\s]*(?:[\[(]\s*(?P<in_brackets>[A-Ha-h])\s*[\])]|(?P<upper>[A-H])(?=\s*$|[.):,;!](?!\w)|\n|\s[-–—]\s)"
    r"|(?P<lower>[b-h])(?=\s*[.):]?\s*$|[):]\s|\n))"
)
_BARE_A = re.compile(r"[\"'\s(]*a\s*[.):]?[\"']?\s*")  # the whole answer is "a" or "a)": an option, not an article
_REJECTED = re.compile(
    r"\b(?:not|n't|incorrect|wrong|eliminat\w+|rul\w+ out|exclud\w+|cannot|neither|nor|false|rather than|instead of)\b",
    re.I,
)
_MARK = re.compile(r"(?:(?<=\s)|^)[\[(]?([A-H])[\]).:]\s*(?=\S)", re.MULTILINE)
_ALSO = re.compile(r"\s*(?:,|/|&|\bor\b|\band\b)\s*[\[(]?[A-H]\b(?!\s+[a-z])")


def judge_choice(answer: str, truth: str, question: str) -> Verdict:
    """Judge a clean `answer` by the option letter that it gives.

    A declared letter wins over a leading one; without either, the exact text of one option counts.
    """
    wanted = letter_of(truth)
    if wanted is None:
        return unknown("choice", bare(truth), "the ground truth is no option letter")
    declared = _declared_letters(answer)
    letters = declared or _leading_letters(answer) or _named_letters(answer)
    lone = _leading_letters(answer)
    if declared and len(_marks(answer)) < 2:
        letters = declared | lone  # a lone letter first and another one declared later
    texts = options(question)
    letters = letters | _contradicting_letters(answer, letters, texts)
    if not letters:
        letters = _by_text(answer, texts)
    if len(letters) > 1:
        return unknown("choice", wanted, CONFLICT)
    if not letters:
        return unknown("choice", wanted, REFUSAL if is_refusal(answer) else "no option could be read")
    return compare_texts("choice", letters.pop(), wanted)


def letter_of(truth: str) -> str | None:
    """Return the option letter of a ground truth such as "B", "(b)" or "B."; None for any other text."""
    match = re.fullmatch(r"[\[(]?\s*([A-Ha-h])\s*[\])]?[.:]?", plain(truth))
    return match[1].upper() if match else None


def options(question: str) -> dict[str, str]:
    """Read the options that a question lists, letter -> text; {} unless they run A, B, … without a gap.

    An example of such a question is "Which animal? A. cat B. dog".
    """
    marks = _marks(question)
    letters = [mark[1] for mark in marks]
    if len(letters) < 2 or letters != list("ABCDEFGH"[: len(letters)]):
        return {}
    question = plain(question)
    stops = [mark.start() for mark in marks[1:]] + [len(question)]
    return {
        mark[1]: question[mark.end() : stop].partition("\n")[0].strip(" ,;.")
        for mark, stop in zip(marks, stops, strict=True)
    }


def _marks(text: str) -> list[re.Match[str]]:
    return list(_MARK.finditer(plain(text)))


def _letter(match: re.Match[str]) -> str:
    return next(value for value in match.groupdict().values() if value).upper()


def _declared_letters(answer: str) -> set[str]:
    found: set[str] = set()
    for match in _DECLARED.finditer(answer):
        # IGNORECASE is for the words around the letter: a lone "a" is an article unless it stands in brackets
        if match["upper"] == "a" and not re.match(r"\s*(?:[.)}]|$)", answer[match.end() :]):
            continue
        found.add(_letter(match))
        also = _ALSO.match(answer, match.end())
        if also:
            found.add(re.sub(r"\W|or|and", "", also[0]))
    return found


def _leading_letters(answer: str) -> set[str]:
    if _BARE_A.fullmatch(answer):
        return {"A"}
    match = _LEADING.match(answer)
    if not match:
        return set()
    found = {_letter(match)}
    also = _ALSO.match(answer, match.end())
    marks = {mark[1] for mark in _marks(answer)}
    return found | (marks if len(marks) > 1 else set()) | ({re.sub(r"\W|or|and", "", also[0])} if also else set())


def _named_letters(answer: str) -> set[str]:
    """Return the letters named as "option B", unless the sentence rejects them."""
    found = set()
    for match in _NAMED.finditer(answer):
        start = max(answer.rfind(stop, 0, match.start()) for stop in (".", ";", "\n")) + 1
        stop = re.compile(r"[.;\n]").search(answer, match.end())
        if _REJECTED.search(answer[start : stop.start() if stop else len(answer)]):
            continue
        if match["upper"] and match["upper"].islower():
            continue  # "option a" may go on with a noun
        found.add(_letter(match))
    return found


def _by_text(answer: str, texts: dict[str, str]) -> set[str]:
    said = bare(re.sub(r"^\s*(?:the |my )?(?:final |correct )?answer\s*(?:is|:)\s*", "", answer, flags=re.I))
    return {letter for letter, text in texts.items() if text and bare(text) == said}


def _contradicting_letters(answer: str, letters: set[str], texts: dict[str, str]) -> set[str]:
    """Return the letter whose text follows another letter: "A. dog" where the question says that A is the cat."""
    if len(letters) != 1:
        return set()
    rest = re.match(r"\W*[A-Ha-h]\W+(.+)$", answer.strip())
    return _by_text(rest[1], texts) if rest else set()
