"""Plain VQA: the samples of a table are its items, judged by the rules of `halp-probe label`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from halp_probe.labels.rules import judge
from halp_probe.labels.verdict import Verdict
from halp_probe.records import Sample
from halp_probe.tasks.task import Task


def prompt(item: Sample) -> Sample:
    """Return the sample as it is."""
    return item


def parse(_item: Sample, reply: str) -> str:
    """Return the reply as it is: the rules read it beside the ground truth."""
    return reply


def verdict(item: Sample, reply: str) -> Verdict:
    """Judge by the rule that fits the ground truth's form."""
    return judge(reply, item.answer, question=item.question)


def verdict_by(rule: str, item: Sample, reply: str) -> Verdict:
    """Judge by one rule, of `halp_probe.labels.rules.RULES`."""
    return judge(reply, item.answer, question=item.question, rule=rule)


def vqa_by(rule: str) -> Task[Sample, str]:
    """Return the task whose answers are judged by one rule."""
    return replace(VQA, judge=partial(verdict_by, rule))


VQA = Task(name="vqa", item_type=Sample, prompt=prompt, parse=parse, judge=verdict)
