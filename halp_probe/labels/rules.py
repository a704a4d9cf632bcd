"""Judge one answer by a rule, which the ground truth picks if the user does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from halp_probe.labels.choice import judge_choice, letter_of, option_of, options
from halp_probe.labels.counted import asked_thing
from halp_probe.labels.expressions import is_expression, judge_math
from halp_probe.labels.final_answer import final_answers
from halp_probe.labels.freeform import judge_contains, judge_exact
from halp_probe.labels.normalise import bare, clean, plain, words_of
from halp_probe.labels.number import EXACT, Tolerance, is_number, judge_number
from halp_probe.labels.numerals import numerals
from halp_probe.labels.premise import GOES_ALONG
from halp_probe.labels.truth import accepted_answers, human_answers, is_unanswerable, majority
from halp_probe.labels.unanswerable import judge_unanswerable
from halp_probe.labels.verdict import CONFLICT, EMPTY_ANSWER, NO_TRUTH, REFUSAL, Verdict, right, unknown, wrong
from halp_probe.labels.vqa import judge_vqa, official
from halp_probe.labels.yes_no import judge_yes_no, truth_polarity

RULES = ("auto", "exact", "vqa", "yes_no", "choice", "number", "contains", "math")
_FULL_MARKS = 3  # humans who must have given an answer for it to be right (Antol et al. 2015)
_COUNT_WORDS = 3  # words of a truth that is a number with the name of what was counted
_Judge = Callable[[str, str, str], Verdict]


def judge(answer: str, truth: str, *, question: str = "", rule: str = "auto", tolerance: Tolerance = EXACT) -> Verdict:
    """Judge if `answer` is right. `rule` is one of RULES; "auto" picks by the shape of the ground truth.

    The verdict is unknown (`label` None) wherever the evidence is missing or conflicts. `tolerance` is how far a number
    may be from the truth. Raises ValueError for another rule.
    """
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r} to judge answers by; choose one of: {', '.join(RULES)}")
    chosen = shape_of(truth, question) if rule == "auto" else rule
    if not truth.strip():
        return unknown(chosen, "", NO_TRUTH)
    said = clean(answer, question)
    if not said:
        return unknown(chosen, bare(truth), EMPTY_ANSWER)
    humans = human_answers(truth)
    if humans is not None and rule == "auto":
        return _judge_humans(said, humans, question, tolerance)
    if humans is not None and chosen in ("exact", "contains"):
        return unknown(chosen, bare(truth), "the ground truth is a list; the rule for lists is vqa")
    if rule == "auto":
        return _judge_accepted(said, truth, question, tolerance)
    return _judge_final(_judge_of(chosen, tolerance), chosen, said, truth, question)


def shape_of(truth: str, question: str = "") -> str:
    """Return the rule that fits a ground truth's shape.

    A lone lower-case "a" may be the article, and so is an option only where the question lists options.
    """
    text = plain(truth)
    if human_answers(text) is not None:
        return "vqa"
    accepted = accepted_answers(text)
    if len(accepted) > 1:
        shapes = {shape_of(one, question) for one in accepted}
        return shapes.pop() if len(shapes) == 1 else "contains"
    if option_of(text, question) is not None:
        return "choice"
    if truth_polarity(text, question) is not None:
        return "yes_no"
    if is_number(text) or _is_count(text, question):
        return "number"
    if letter_of(text) is not None and text != "a" and not options(question):
        return "choice"
    return "math" if is_expression(text) else "contains"


def _is_count(truth: str, question: str) -> bool:
    """Return whether a truth counts what the question asks for: "3 people"."""
    return asked_thing(question) is not None and len(numerals(truth)) == 1 and 0 < len(words_of(truth)) <= _COUNT_WORDS


def _judge_of(rule: str, tolerance: Tolerance) -> _Judge:
    judges: dict[str, _Judge] = {
        "exact": judge_exact,
        "vqa": judge_vqa,
        "yes_no": judge_yes_no,
        "choice": judge_choice,
        "number": lambda answer, truth, question: judge_number(answer, truth, question, tolerance),
        "contains": judge_contains,
        "math": judge_math,
    }
    return judges[rule]


def _judge_accepted(said: str, truth: str, question: str, tolerance: Tolerance) -> Verdict:
    """Judge by each answer that the truth accepts: right if one is said, wrong if each is wrong."""
    verdicts = []
    for accepted in accepted_answers(truth):
        if is_unanswerable(accepted):
            verdicts.append(judge_unanswerable(said, accepted))
        else:
            rule = shape_of(accepted, question)
            verdicts.append(_judge_final(_judge_of(rule, tolerance), rule, said, accepted, question))
    return _any_right(verdicts)


def _any_right(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the best verdict; but one that goes along with a false premise is no better by another wording of it."""
    order = {0: 0, None: 1, 1: 2}
    best = min(verdicts, key=lambda verdict: order[verdict.label])
    along = [verdict for verdict in verdicts if verdict.reason == GOES_ALONG]
    return along[0] if along and best.label is None and best.reason != REFUSAL else best


def _judge_humans(said: str, humans: Sequence[str], question: str, tolerance: Tolerance) -> Verdict:
    """Judge by several people's answers, by the VQA benchmark's measure: right with three of them, or one of two."""
    given = [human for human in humans if human.strip()]
    shown = json.dumps([official(human) for human in given], ensure_ascii=False)
    if not given:
        return unknown("vqa", shown, "the list of human answers is empty")
    if is_unanswerable(majority(given)):
        verdict = judge_unanswerable(said, majority(given))
        if verdict.label == 0:
            return right("vqa", official(said), shown, verdict.reason)
    own = {human: _of_human(said, human, question, tolerance) for human in dict.fromkeys(given)}
    matches = sum(own[human].label == 0 for human in given)
    reason = f"{matches or 'none'} of {len(given)} human answers"
    if matches >= min(_FULL_MARKS, len(given)) or (matches and len(given) < _FULL_MARKS):
        return right("vqa", official(said), shown, reason)
    if matches:
        return unknown("vqa", shown, f"only {reason}", official(said))
    if all(verdict.label == 1 for verdict in own.values()):
        return wrong("vqa", official(said), shown, reason)
    unclear = next(verdict for verdict in own.values() if verdict.label is None)
    return unknown("vqa", shown, unclear.reason, official(said))


def _of_human(said: str, human: str, question: str, tolerance: Tolerance) -> Verdict:
    if official(said) == official(human):
        return right("vqa", official(said), official(human))
    return _judge_accepted(said, human, question, tolerance)


def _judge_final(judged_by: _Judge, rule: str, said: str, truth: str, question: str) -> Verdict:
    """Judge what the answer declares to be its answer; all of it, if it declares nothing that can be judged."""
    declared = () if rule in ("choice", "exact", "vqa") else final_answers(said)
    verdicts = [judged_by(text, truth, question) for text in declared]
    decided = [verdict for verdict in verdicts if verdict.label is not None]
    if len({verdict.label for verdict in decided}) > 1:
        return unknown(rule, bare(truth), CONFLICT)
    if decided and len(decided) == len(verdicts):
        return decided[-1]
    if any(verdict.reason == REFUSAL for verdict in verdicts):
        return next(verdict for verdict in verdicts if verdict.reason == REFUSAL)
    return judged_by(said, truth, question)
