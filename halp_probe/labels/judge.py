"""Verdicts of a judge model: on all answers, or only where the rules found none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halp_probe.completion import NoReply
from halp_probe.labels.by_absence import rests_on_absence
from halp_probe.labels.echo import strip_prompt
from halp_probe.labels.judge_config import Judge, JudgeConfig, Question
from halp_probe.labels.judge_endpoint import EndpointJudge
from halp_probe.labels.judge_prompt import (
    PROMPT,
    RIGHT,
    TEMPERATURE,
    UNKNOWN,
    WRONG,
    prompt_sha256,
    shorten,
    verdict_key,
)
from halp_probe.labels.table import LabelRow
from halp_probe.labels.truth import human_answers
from halp_probe.labels.verdict import EMPTY_ANSWER, NO_TRUTH
from halp_probe.labels.verdict_cache import StoredVerdict, VerdictCache, now_utc
from halp_probe.progress import Counter, Progress, silent

JUDGE = "judge"  # the rule of a label that a judge model gave
CONTAINS = "contains"
_LABELS = {RIGHT: 0, WRONG: 1, UNKNOWN: None}


@dataclass(frozen=True, kw_only=True)
class JudgeRun:
    """Rows with the judge's verdicts.

    Of the different texts to judge, `asked` is the number sent now and `failed` the number without a reply; `left_out`
    are the settings that the model refused, and `about` is what its judge says of itself.
    """

    rows: list[LabelRow]
    asked: int
    cached: int
    failed: int
    served_models: tuple[str, ...]
    left_out: tuple[str, ...]
    about: Mapping[str, Any]
    notes: tuple[str, ...]


def ask_judge(
    rows: Sequence[LabelRow],
    questions: Sequence[str],
    answers: Sequence[str],
    truths: Sequence[str],
    config: JudgeConfig,
    cache: Path,
    *,
    judge: Judge | None = None,
    progress: Progress = silent,
) -> JudgeRun:
    """Ask about the rows that `config.which` names; the others stay as the rules left them. All sequences have N items.

    judge: who is asked; None: the endpoint that `config` names.

    An answer without text and a row without ground truth stay unknown and are not asked about. Verdicts go to
    `cache` as they come, and those already there are not asked for again; a failure is not cached. Raises
    LabelError where the judge cannot be asked; see its `ask`.
    """
    judge = judge or EndpointJudge(config)
    about = {
        n: Question(question=question, truth=truth, answer=strip_prompt(answer, question).strip())
        for n, (row, question, answer, truth) in enumerate(zip(rows, questions, answers, truths, strict=True))
        if _to_ask(row, truth, config.which)
    }
    verdicts = VerdictCache(cache)
    prompt_hash = prompt_sha256(config.max_tokens)
    keys = {n: verdict_key(prompt_hash, judge.identity, q.question, q.truth, q.answer) for n, q in about.items()}
    wanted = {key: about[n] for n, key in keys.items()}
    new = {key: question for key, question in wanted.items() if verdicts.get(key) is None}
    failed = judge.ask(new, verdicts, Counter(progress, len(new), unit="answer")) if new else {}
    found = [verdict for key in wanted if (verdict := verdicts.get(key)) is not None]
    judged = [
        _row(row, about[n], verdicts.get(keys[n]) or failed[keys[n]], config.model) if n in about else row
        for n, row in enumerate(rows)
    ]
    notes = [verdicts.note] if verdicts.note else []
    if failed:
        first = next(n for n in keys if keys[n] in failed)
        notes.append(
            f"the judge failed for {sum(key in failed for key in keys.values())} answers (first: "
            f'"{rows[first].question_id}", {failed[keys[first]].reason}); run again to ask only for these'
        )
    return JudgeRun(
        rows=judged,
        asked=len(new),
        cached=len(wanted) - len(new),
        failed=len(failed),
        served_models=tuple(sorted({each.served_model for each in found} - {""})),
        left_out=tuple(sorted({name for each in found for name in each.left_out.split(",")} - {""})),
        about=judge.about,
        notes=tuple(notes),
    )


def judge_record(config: JudgeConfig, run: JudgeRun) -> dict[str, Any]:
    """Record who judged, with which prompt and when: all that a reader of labels.csv must know. No host, no key."""
    judged = [row.label for row in run.rows if row.rule == JUDGE]
    return {
        "model": config.model,
        "served_models": run.served_models,
        **run.about,
        "date": now_utc(),
        "which": config.which,
        "prompt": PROMPT,
        "prompt_sha256": prompt_sha256(config.max_tokens),
        "temperature": None if "temperature" in run.left_out else TEMPERATURE,
        "refused_by_the_model": run.left_out,
        "max_tokens": config.max_tokens,
        "texts": {"asked": run.asked, "from_cache": run.cached, "failed": run.failed},
        "labels": {"right": judged.count(0), "wrong": judged.count(1), "unknown": judged.count(None)},
    }


def _to_ask(row: LabelRow, truth: str, which: str) -> bool:
    humans = human_answers(truth)
    judgeable = row.reason not in (EMPTY_ANSWER, NO_TRUTH) and (humans is None or any(h.strip() for h in humans))
    return judgeable and _is_meant(row, which)


def _is_meant(row: LabelRow, which: str) -> bool:
    if which == "all":
        return True
    if which == CONTAINS:
        return row.rule == CONTAINS and (row.label is None or rests_on_absence(row.rule, row.label, row.reason))
    return row.label is None


def _row(row: LabelRow, about: Question, found: StoredVerdict | NoReply, model: str) -> LabelRow:
    """Return the row with the judge's verdict; a failure and a reply without verdict leave it unknown."""
    shortened = shorten(about.answer)
    if isinstance(found, NoReply):
        label, reason = None, f"{model} failed: {found.reason}"
    else:
        label = _LABELS[found.verdict]
        reason = f"{model}: {found.problem}" if found.problem else f"{model} says {found.verdict}"
    if shortened != about.answer:
        reason += ", shown a shortened answer"
    return replace(row, label=label, rule=JUDGE, answer=shortened, truth=about.truth, reason=reason)
