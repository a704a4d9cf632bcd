"""Rule yes_no: a yes or no stated outright, and claims that amount to one, all of which must agree."""

from __future__ import annotations

import re

from halp_probe.labels.claims import claimed_polarities
from halp_probe.labels.negation import strip_scene
from halp_probe.labels.normalise import bare, sentences
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.verdict import CONFLICT, REFUSAL, Verdict, compare_texts, unknown
from halp_probe.labels.yes_no_words import asks_yes_no, leading_abroad, leading_polarity, polarity_of

_DIGITS = {"1": "yes", "0": "no"}  # of a truth, where the question is a yes/no question
_SAID = {"yes": "yes", "yeah": "yes", "yep": "yes", "yup": "yes", "no": "no", "nope": "no"}
_BOTH = re.compile(
    r"[\"'(]*\b(?:yes[\"']?\s*(?:or|and|/|\|)\s*[\"']?no|no[\"']?\s*(?:or|and|/)\s*[\"']?yes)\b[\"')]*", re.I
)
_STOP = r"(?=\s*(?:[.,!;:)\"'—–]|\s-+\s|$))"  # "No." and "No, …", never "No dog", "No-one"
_WORD = r"(yes|yeah|yep|yup|no|nope)\b"
_OPENING = (
    r"(?:(?:so|well|but|and|therefore|thus|hence|overall|finally|ultimately|actually|okay|ok|oh|sure|then)\b[,:]?\s*)*"
)
_LEADING = re.compile(
    rf"[\W_]*{_OPENING}[\"'(]*{_WORD}(?:{_STOP}|(?<=yes)(?![-'\w]|\s+no\b)|(?=\s+(?:there|it|the|this|that"
    r"|these|those|they|he|she|i|we|you|because)\b))",
    re.I,
)
_EMPHATIC = re.compile(  # "Absolutely! The boat …"; "absolutely not"
    r"\W*(?:absolutely|certainly|definitely|correct|indeed|of course|that(?:'s| is) (?:correct|right|true)|affirmative)"
    r"(?P<not> not)?\s*[.,!]",
    re.I,
)
_FIRST_LOOK = re.compile(  # what it seems to be is not what the answer says it is
    r"\b(?:at (?:a )?first (?:glance|sight|look)|initially|at a glance|on first (?:look|inspection)"
    r"|(?:one|you|it) (?:might|may|could) (?:think|say|appear|seem))\b",
    re.I,
)
_AMONG = re.compile(rf"[,;—–]\s*{_OPENING}{_WORD}{_STOP}", re.I)  # "Based on the image, no, …", "so, no, it's not"
_DECLARED = re.compile(
    rf"(?:\b(?:answer|conclusion|verdict|response)\b[^.?!\n]{{0,60}}?(?:\b(?:is|be)\b|[:=-])\s*"
    r"(?:an? |simply |clearly |therefore )?"
    rf"|\bi(?:'d| would| will|'ll| must| have to) (?:say|answer|respond|go with)\s*|\bit(?:'s| is) an? |\\boxed\{{\s*)"
    rf"[\"'(]*{_WORD}(?=\s*(?:[.,!;:)\"'}}—–]|\s-+\s|$|(?:because|since|as|there|it)\b))",
    re.I,
)
_ELLIPSIS = re.compile(  # "It does not." as a whole sentence
    r"(?:it|they|there|he|she|this|that)\s*"
    r"(?:(?:is|are|was|were|does|do|did|has|have|can)(?P<not>n't| not|not)?|'s(?P<not_too> not))",
    re.I,
)
_POLITE = re.compile(
    r"[,!.]* (?:of course,? )?i(?:'d| can| will| would|'m)? (?:help|assist|be (?:happy|glad)|happy)\b", re.I
)


def judge_yes_no(answer: str, truth: str, question: str) -> Verdict:
    """Judge a clean `answer`; unknown unless every yes/no that can be read in it says the same."""
    wanted = truth_polarity(truth, question)
    if wanted is None:
        return unknown("yes_no", bare(truth), "the ground truth is no yes/no")
    hedged = is_refusal(answer)
    found = stated_polarities(answer, question)
    if not hedged:
        found |= claimed_polarities(_strip_lead(answer), question)
    if len(found) > 1:
        return unknown("yes_no", wanted, CONFLICT)
    if not found:
        return unknown("yes_no", wanted, REFUSAL if hedged else "no yes/no could be read")
    return compare_texts("yes_no", found.pop(), wanted)


def truth_polarity(truth: str, question: str) -> str | None:
    """Return "yes" or "no" for a ground truth that says one ("Yes, there is.", "是"); None for any other.

    Sentences, 1 and 0 say so where the question asks for yes or no.
    """
    said = polarity_of(truth)
    if said is None and asks_yes_no(question):
        return leading_polarity(truth) or _DIGITS.get(bare(truth))
    return said


def stated_polarities(answer: str, question: str = "") -> set[str]:
    """Return the polarities that are stated outright: leading, declared, concluding."""
    if said := polarity_of(bare(answer)):
        return {said}
    found: set[str] = set()
    for n, sentence in enumerate(sentences(_BOTH.sub(" ", answer))):
        if sentence.endswith("?") or _FIRST_LOOK.search(sentence):
            continue
        if n == 0 and (abroad := leading_abroad(sentence, question)):
            found.add(abroad)
        if n == 0 and (emphatic := _EMPHATIC.match(sentence)):
            found.add("no" if emphatic["not"] else "yes")
        sentence = strip_scene(sentence).strip()
        for match in _matches(sentence):
            if not _is_withdrawn(sentence, match):
                found.add(_SAID[match[1].lower()])
        short = _ELLIPSIS.fullmatch(sentence.strip(" ,.!"))
        if short and n == 0:
            found.add("no" if short["not"] or short["not_too"] else "yes")
    return found


def _matches(sentence: str) -> list[re.Match[str]]:
    leading = _LEADING.match(sentence)
    return [*([leading] if leading else []), *_AMONG.finditer(sentence), *_DECLARED.finditer(sentence)]


def _is_withdrawn(sentence: str, match: re.Match[str]) -> bool:
    """Check for a condition ("if so, yes") or a withdrawal in the sentence ("No, it is impossible to tell")."""
    before, after = sentence[: match.start(1)], sentence[match.end(1) :]
    return (
        bool(re.search(r"\b(?:if|whether|unless)\b", before, re.I)) or is_refusal(after) or bool(_POLITE.match(after))
    )


def _strip_lead(answer: str) -> str:
    """Remove the outright yes/no that opens a sentence, so that it negates nothing there."""
    kept = []
    for sentence in sentences(answer):
        match = _LEADING.match(sentence)
        kept.append(sentence[match.end() :].lstrip(" ,;:.") if match else sentence)
    return "\n".join(kept)
