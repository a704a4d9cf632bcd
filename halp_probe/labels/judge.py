"""Let a judge model give the verdicts: all of them, or only where the rules found none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from halp_probe.asking import Patience, ask_all
from halp_probe.endpoint import Endpoint, EndpointFlags, NoReply, Pace, check_url
from halp_probe.labels.echo import without_prompt
from halp_probe.labels.judge_prompt import (
    PROMPT,
    RIGHT,
    TEMPERATURE,
    UNKNOWN,
    WRONG,
    parse,
    prompt_sha256,
    shortened,
    user_message,
    verdict_key,
)
from halp_probe.labels.table import LabelError, LabelRow
from halp_probe.labels.verdict import EMPTY_ANSWER, NO_TRUTH
from halp_probe.labels.verdict_cache import Kept, VerdictCache
from halp_probe.labels.vqa import human_answers
from halp_probe.progress import Counter, Progress, silent

JUDGE = "judge"  # the rule of a label that a judge model gave
WHICH = ("all", "unknown")
_LABELS = {RIGHT: 0, WRONG: 1, UNKNOWN: None}
_FLAGS = EndpointFlags(
    who="the judge's endpoint",
    url="`judge_url`",
    model="`judge_model`",
    needs="`judge`",
    extra="judge",
    error=LabelError,
)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Which judge is asked what, and how hard."""

    which: str  # "all" answers, or only those the rules leave "unknown"
    url: str  # of an OpenAI-compatible endpoint, up to and with /v1
    model: str
    cache: str | os.PathLike[str] | None = None  # None: beside the labels, as labels.verdicts.jsonl
    rate: float = 5.0  # requests a second at most, repeated ones included
    workers: int = 4  # requests at once at most
    timeout: float = 60.0  # seconds for one reply
    max_tokens: int = 16  # of one reply; more for a judge that thinks aloud
    tries: int = 5  # requests for one answer at most
    first_wait: float = 1.0  # seconds before the second try, doubled for each further one

    def __post_init__(self) -> None:
        if self.which not in WHICH:
            raise LabelError(f"`judge` {self.which}: write one of {', '.join(WHICH)}")
        check_url(self.url, _FLAGS)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a judge is asked about. `answer` is the model's, without an echoed prompt and thinking."""

    question: str
    truth: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class JudgeRun:
    """The rows with their verdicts. Of the different texts to judge, `asked` were asked now, `failed` without reply."""

    rows: list[LabelRow]
    asked: int
    cached: int
    failed: int
    served_models: tuple[str, ...]
    notes: tuple[str, ...]


def ask_judge(
    rows: Sequence[LabelRow],
    questions: Sequence[str],
    answers: Sequence[str],
    truths: Sequence[str],
    config: JudgeConfig,
    cache: Path,
    *,
    progress: Progress = silent,
) -> JudgeRun:
    """Ask about the rows that `config.which` names; the others stay as the rules left them. All sequences have N items.

    An answer without text and a row without ground truth stay unknown unasked. Verdicts go to `cache` as they come, and
    what stands there is not asked again; a failure is not kept. Raises LabelError without the openai client, if the
    endpoint wants a key or knows no such model, and if it fails for ten questions in a row.
    """
    about = {
        n: Question(question=question, truth=truth, answer=without_prompt(answer, question).strip())
        for n, (row, question, answer, truth) in enumerate(zip(rows, questions, answers, truths, strict=True))
        if _to_ask(row, truth, config.which)
    }
    kept = VerdictCache(cache)
    prompt_hash = prompt_sha256(config.max_tokens)
    keys = {n: verdict_key(prompt_hash, config.model, q.question, q.truth, q.answer) for n, q in about.items()}
    wanted = {key: about[n] for n, key in keys.items()}
    new = {key: question for key, question in wanted.items() if kept.get(key) is None}
    failed = _Asking(config, kept, prompt_hash).all(new, Counter(progress, len(new), unit="answer")) if new else {}
    served = {each.served_model for key in wanted if (each := kept.get(key)) is not None and each.served_model}
    judged = [
        _row(row, about[n], kept.get(keys[n]) or failed[keys[n]], config.model) if n in about else row
        for n, row in enumerate(rows)
    ]
    notes = [kept.note] if kept.note else []
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
        served_models=tuple(sorted(served)),
        notes=tuple(notes),
    )


def judge_record(config: JudgeConfig, run: JudgeRun) -> dict[str, Any]:
    """Record who judged, with which prompt and when: all that a reader of labels.csv must know. No host, no key."""
    judged = [row.label for row in run.rows if row.rule == JUDGE]
    return {
        "model": config.model,
        "served_models": run.served_models,
        "endpoint_path": urlsplit(config.url).path,
        "date": _now(),
        "which": config.which,
        "prompt": PROMPT,
        "prompt_sha256": prompt_sha256(config.max_tokens),
        "temperature": TEMPERATURE,
        "max_tokens": config.max_tokens,
        "texts": {"asked": run.asked, "from_cache": run.cached, "failed": run.failed},
        "labels": {"right": judged.count(0), "wrong": judged.count(1), "unknown": judged.count(None)},
    }


def _to_ask(row: LabelRow, truth: str, which: str) -> bool:
    humans = human_answers(truth)
    judgeable = row.reason not in (EMPTY_ANSWER, NO_TRUTH) and (humans is None or any(h.strip() for h in humans))
    return judgeable and (which == "all" or row.label is None)


def _row(row: LabelRow, about: Question, found: Kept | NoReply, model: str) -> LabelRow:
    """The row with the judge's verdict; a failure and a reply without verdict leave it unknown."""
    shown = shortened(about.answer)
    if isinstance(found, NoReply):
        label, reason = None, f"{model} failed: {found.reason}"
    else:
        label = _LABELS[found.verdict]
        reason = f"{model}: {found.problem}" if found.problem else f"{model} says {found.verdict}"
    if shown != about.answer:
        reason += ", shown a shortened answer"
    return replace(row, label=label, rule=JUDGE, answer=shown, truth=about.truth, reason=reason)


class _Asking:
    """One run against the endpoint."""

    def __init__(self, config: JudgeConfig, cache: VerdictCache, prompt_hash: str) -> None:
        self._config = config
        self._cache = cache
        self._prompt_hash = prompt_hash
        self._endpoint = Endpoint(
            config.url,
            config.model,
            _FLAGS,
            timeout=config.timeout,
            tries=config.tries,
            first_wait=config.first_wait,
            pace=Pace(config.rate),
        )

    def all(self, new: dict[str, Question], progress: Counter) -> dict[str, NoReply]:
        """Ask each; what failed, by key. Whatever ends it early, Ctrl-C too, the verdicts so far are in the cache."""
        failed: dict[str, NoReply] = {}
        patience = Patience()
        asked = ask_all(lambda key: self._one(key, new[key]), new, self._endpoint.stop, at_once=self._config.workers)
        with closing(asked):
            for answers in asked:
                for answer in answers:
                    progress.advance(1, failed=answer.result is not None)
                    if answer.result is None:
                        patience.note_reply()
                        continue
                    failed[answer.item] = answer.result
                    if patience.ends_with(answer.result):
                        raise LabelError(
                            f"the judge failed for {patience.describe('answers', answer.result)}; {patience.replies} new "
                            f"verdicts are kept in {self._cache.path}: mend the endpoint and run the same command again"
                        )
        return failed

    def _one(self, key: str, about: Question) -> NoReply | None:
        """Ask, and keep the verdict here, in the thread that asks: whatever ends the run, it has been paid for."""
        said_to = user_message(about.question, about.truth, about.answer)
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": said_to}]
        reply = self._endpoint.ask(messages, temperature=TEMPERATURE, max_tokens=self._config.max_tokens)
        if isinstance(reply, NoReply):
            return reply
        said = parse(reply)
        kept = Kept(
            key=key,
            verdict=said.verdict,
            problem=said.problem,
            reply=reply.text or reply.refusal,
            model=self._config.model,
            served_model=reply.served,
            prompt_sha256=self._prompt_hash,
            date=_now(),
        )
        self._cache.add(kept)
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
