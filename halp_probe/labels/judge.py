"""Verdicts of a judge model: on all answers, or only where the rules found none."""

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
from halp_probe.labels.echo import strip_prompt
from halp_probe.labels.judge_prompt import (
    PROMPT,
    RIGHT,
    TEMPERATURE,
    UNKNOWN,
    WRONG,
    parse,
    prompt_sha256,
    shorten,
    user_message,
    verdict_key,
)
from halp_probe.labels.table import LabelError, LabelRow
from halp_probe.labels.truth import human_answers
from halp_probe.labels.verdict import EMPTY_ANSWER, NO_TRUTH
from halp_probe.labels.verdict_cache import StoredVerdict, VerdictCache
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
    """Options of a judge: which model is asked about which rows, and how.

    Examples
    --------
    >>> import halp_probe
    >>> judge = halp_probe.JudgeConfig(which="unknown", url="http://localhost:8000/v1", model="a-judge", rate=2)
    >>> judge.timeout  # seconds; halp_probe.label("output", judge=judge) would ask it
    60.0
    """

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
    """Question put to a judge. `answer` is the model's, without an echoed prompt and thinking."""

    question: str
    truth: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class JudgeRun:
    """Rows with the judge's verdicts.

    Of the different texts to judge, `asked` is the number sent now and `failed` the number without a reply.
    """

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

    An answer without text and a row without ground truth stay unknown and are not asked about. Verdicts go to
    `cache` as they come, and those already there are not asked for again; a failure is not cached. Raises
    LabelError without the openai client, if the endpoint wants a key or has no such model, and if it fails for ten
    questions in a row.
    """
    about = {
        n: Question(question=question, truth=truth, answer=strip_prompt(answer, question).strip())
        for n, (row, question, answer, truth) in enumerate(zip(rows, questions, answers, truths, strict=True))
        if _to_ask(row, truth, config.which)
    }
    verdicts = VerdictCache(cache)
    prompt_hash = prompt_sha256(config.max_tokens)
    keys = {n: verdict_key(prompt_hash, config.model, q.question, q.truth, q.answer) for n, q in about.items()}
    wanted = {key: about[n] for n, key in keys.items()}
    new = {key: question for key, question in wanted.items() if verdicts.get(key) is None}
    failed = (
        _Requests(config, verdicts, prompt_hash).all(new, Counter(progress, len(new), unit="answer")) if new else {}
    )
    served = {each.served_model for key in wanted if (each := verdicts.get(key)) is not None and each.served_model}
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


class _Requests:
    """Requests of one run to the endpoint."""

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
        """Ask each; return the failures by key.

        If it ends early, also by Ctrl-C, the verdicts so far are in the cache.
        """
        failed: dict[str, NoReply] = {}
        patience = Patience()
        replies = ask_all(lambda key: self._one(key, new[key]), new, self._endpoint.stop, at_once=self._config.workers)
        with closing(replies):
            for answers in replies:
                for answer in answers:
                    progress.advance(1, failed=answer.result is not None)
                    if answer.result is None:
                        patience.note_reply()
                        continue
                    failed[answer.item] = answer.result
                    if patience.ends_with(answer.result):
                        raise LabelError(
                            f"the judge failed for {patience.describe('answers', answer.result)}; "
                            f"{patience.replies} new verdicts are kept in {self._cache.path}: fix the endpoint and "
                            "run the same command again"
                        )
        return failed

    def _one(self, key: str, about: Question) -> NoReply | None:
        """Ask, and store the verdict here, in the thread that asks: it has been paid for, even if the run ends now."""
        message = user_message(about.question, about.truth, about.answer)
        messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": message}]
        reply = self._endpoint.ask(messages, temperature=TEMPERATURE, max_tokens=self._config.max_tokens)
        if isinstance(reply, NoReply):
            return reply
        parsed = parse(reply)
        verdict = StoredVerdict(
            key=key,
            verdict=parsed.verdict,
            problem=parsed.problem,
            reply=reply.text or reply.refusal,
            model=self._config.model,
            served_model=reply.served,
            prompt_sha256=self._prompt_hash,
            date=_now(),
        )
        self._cache.add(verdict)
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
