"""Ground truths that deny what the question takes for granted, such as "There is no cat in the image"."""

from __future__ import annotations

from halp_probe.labels.negation import NEUTRAL, RELATIONS, Clause, clauses, strip_scene
from halp_probe.labels.normalise import bare, words_of
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.stems import same_word
from halp_probe.labels.verdict import REFUSAL, Verdict, right, unknown, wrong

GOES_ALONG = "goes along with what the truth denies"
_ABSENT = ("empty", "absent", "missing", "instead", "only", "fake", "impossible", "incorrect", "false")


def denied_words(truth: str, question: str) -> list[str]:
    """Return the words of the question that a ground truth denies; [] for a truth that denies nothing of it."""
    asked = [word for word in words_of(question) if word not in NEUTRAL and word not in RELATIONS]
    found = [word for clause in _clauses(truth) for word in _denied(clause)]
    return [word for word in found if any(same_word(word, own) for own in asked)]


def judge_premise(answer: str, truth: str, question: str) -> Verdict:
    """Judge a clean `answer` where the truth denies the question's premise.

    It is right if it denies it too, wrong if it goes along without any negation.
    """
    said, wanted = bare(answer), bare(truth)
    denied = denied_words(truth, question)
    negated = [clause for clause in _clauses(answer) if clause.negators()]
    if any(same_word(word, own) for clause in negated for word in _denied(clause) for own in denied):
        return right("contains", said, wanted, "denies what the truth denies")
    if is_refusal(answer):
        return unknown("contains", wanted, REFUSAL, said)
    if negated or any(word in _ABSENT for word in words_of(answer)):
        return unknown("contains", wanted, "an unclear negation", said)
    if _affirms(answer, truth):
        return right("contains", said, wanted, "says what the truth says in its place")
    return wrong("contains", said, wanted, GOES_ALONG)


def _clauses(text: str) -> list[Clause]:
    return [clause for sentence in clauses(strip_scene(text)) for clause in sentence]


def _denied(clause: Clause) -> list[str]:
    """Return the words with content that a clause negates: behind the negation, or before it if it ends the clause."""
    at = clause.negators()
    if not at:
        return []
    behind = [word for word in clause.words[at[0] + 1 :] if word not in NEUTRAL and word not in RELATIONS]
    before = [word for word in clause.words[: at[0]] if word not in NEUTRAL and word not in RELATIONS]
    return behind or before


def _affirms(answer: str, truth: str) -> bool:
    """Return whether the answer says the words of the truth that are not negated: "she is laughing"."""
    own = words_of(answer)
    kept = [
        [word for word in clause.words if word not in NEUTRAL and word not in RELATIONS]
        for clause in _clauses(truth)
        if not clause.negators()
    ]
    return any(words and all(any(same_word(word, one) for one in own) for word in words) for words in kept)
