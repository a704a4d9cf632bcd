"""Rule vqa: the VQA benchmark's normalisation and accuracy (Antol et al. 2015, https://visualqa.org/evaluation.html)."""

from __future__ import annotations

import json
import re

from halp_probe.labels.normalise import plain, word_set
from halp_probe.labels.refusal import is_refusal
from halp_probe.labels.stems import NUMBER_WORDS
from halp_probe.labels.truth import human_answers
from halp_probe.labels.verdict import REFUSAL, Verdict, compare_texts, right, unknown, wrong

_FULL_MARKS = 3  # humans who must have given an answer for accuracy 1
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS = {word: str(n) for word, n in NUMBER_WORDS.items() if n <= 10} | {"none": "0"}
_CONTRACTIONS = {
    word.replace("'", ""): word
    for word in word_set("""
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's i'd've
    i'm i've isn't it'd it'll
    let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't she'd've
    should've shouldn't somebody'd someone'd something'd that'd that's there'd there're there's they'd they'll they're
    they've wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's
    who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
    """)
}


def judge_vqa(answer: str, truth: str, question: str = "") -> Verdict:
    """Judge a clean `answer` as the VQA benchmark does.

    `truth` is one text (equality) or a JSON list of human answers (min(1, matches / 3)). The answer is right at
    accuracy 1, wrong at 0, unknown between; with fewer than three human answers one match is enough.
    """
    humans = human_answers(truth)
    if humans is None:
        return _refusal_or(compare_texts("vqa", official(answer), official(truth)), answer)
    normal = [official(human) for human in humans if human.strip()]
    said, shown = official(answer), json.dumps(normal, ensure_ascii=False)
    if not normal:
        return unknown("vqa", shown, "the list of human answers is empty")
    matches = normal.count(said)
    if matches >= min(_FULL_MARKS, len(normal)) or (matches and len(normal) < _FULL_MARKS):
        return right("vqa", said, shown, f"{matches} of {len(normal)} human answers")
    if matches:
        return unknown("vqa", shown, f"only {matches} of {len(normal)} human answers", said)
    return _refusal_or(wrong("vqa", said, shown, f"none of {len(normal)} human answers"), answer)


def official(text: str) -> str:
    """Apply the benchmark's processPunctuation and processDigitArticle, after lower case and single spaces."""
    text = " ".join(plain(text).lower().split())
    inside_number = re.search(r"\d,\d", text) is not None  # the benchmark then drops every mark instead of spacing it
    out = text
    for mark in _PUNCTUATION:
        at_edge = f"{mark} " in text or f" {mark}" in text or text.startswith(mark) or text.endswith(mark)
        out = out.replace(mark, "" if at_edge or inside_number else " ")
    out = re.sub(r"\.(?!\d)", "", out)
    words = [_DIGITS.get(word, word) for word in out.split() if word not in ("a", "an", "the")]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def _refusal_or(verdict: Verdict, answer: str) -> Verdict:
    return unknown("vqa", verdict.truth, REFUSAL) if verdict.label == 1 and is_refusal(answer) else verdict
