"""Label the answers in shards: by the task that asked, by rules, by a table made elsewhere, or by a judge model."""

from __future__ import annotations

import os
from pathlib import Path

from halp_probe.labels.judge import JudgeRun, ask_judge, judge_record
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.labelling import answers_of, judge_answers, text_of
from halp_probe.labels.table import LabelError, LabelRow, Labels, add_texts, read_reviewed_labels, row
from halp_probe.progress import ProgressChoice, display
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.tasks.local_judge import LocalJudge
from halp_probe.tasks.table import TASKS
from halp_probe.tasks.task import ITEM_COLUMN

_TEXTS = ("question", "answer", "ground_truth_answer")


def label(
    shards: Shards | str | os.PathLike[str],
    *,
    rule: str | None = None,
    table: str | os.PathLike[str] | None = None,
    column: str | None = None,
    judge: JudgeConfig | None = None,
    tolerance: float = 0.0,
    decimals_column: str | None = None,
    progress: ProgressChoice = None,
) -> Labels:
    """Label each answer in the shards: 0 right, 1 hallucinated, None where there is no verdict.

    Parameters
    ----------
    shards
        Opened shards, or the path of a shard or a folder of them.
    rule
        The rule that judges; None: chosen by each ground truth's form. Answers to a task are judged by the task.
    table, column
        A CSV of existing labels and its column of labels, matched by question_id.
    judge
        A judge model at an endpoint or loaded here, asked about all answers or only some; see `JudgeConfig`. Its
        verdicts are kept in `judge.cache`; where that is None, in `labels.verdicts.jsonl` beside the shards.
    tolerance, decimals_column
        How far a number may be from the truth: a share of it (0.05 for charts, as ChartQA does), or a column of the
        shards that says to how many decimals both are rounded (`precision`, in MathVista).
    progress
        Progress of the judge, as in `extract`.

    Raises
    ------
    LabelError
        When arguments do not go together, no answer was generated, the table does not fit, or the judge cannot be
        asked.

    Examples
    --------
    >>> import halp_probe
    >>> labels = halp_probe.label("output", rule="auto")
    >>> labels.write("labels_again.csv")
    >>> halp_probe.read_labels("labels_again.csv") == labels
    True
    """
    _check_sources(rule, table, column, judge)
    opened = open_shards(shards) if isinstance(shards, str | os.PathLike) else shards
    questions, answers, truths = (text_of(opened, name) for name in _TEXTS)
    notes: list[str] = []
    record = None
    if table is not None and column is not None:
        reviewed = read_reviewed_labels(table, column, opened.question_ids)
        rows, notes = list(reviewed.rows), [reviewed.note] if reviewed.note else []
    else:
        task = opened.attributes.get("task")
        near = (tolerance, decimals_column)
        rows = judge_answers(opened, rule, *near) if task is None else judge_task(opened, task, rule)
        if judge is not None:
            cache = Path(judge.cache or opened.files[0].parent / "labels.verdicts.jsonl")
            with display(progress) as report:
                asked = LocalJudge(judge) if judge.url is None else None
                run = ask_judge(rows, questions, answers, truths, judge, cache, judge=asked, progress=report)
            rows, record = run.rows, judge_record(judge, run)
            notes += [_judge_note(run, cache), *run.notes]
    notes += [*opened.notes, *_cut_off_note(opened)]
    return Labels(rows=tuple(add_texts(rows, questions, answers, truths)), notes=tuple(notes), judge_record=record)


def judge_task(shards: Shards, name: str, rule: str | None = None) -> list[LabelRow]:
    """Judge each answer by the task of this name, which the shards were captured for, from the items that they hold."""
    if rule is not None:
        raise LabelError(f"answers to the task {name!r} are judged by the task itself; leave `rule` out")
    if name not in TASKS:
        raise LabelError(f"{shards.files[0]} was captured for the task {name!r}, which this version does not know")
    task = TASKS[name]
    cells = zip(shards.question_ids, shards.text(ITEM_COLUMN), answers_of(shards), _finished_flags(shards), strict=True)
    return [
        row(question_id, task.verdict(task.item(item), answer, finished=finished))
        for question_id, item, answer, finished in cells
    ]


def _check_sources(
    rule: str | None,
    table: str | os.PathLike[str] | None,
    column: str | None,
    judge: JudgeConfig | None,
) -> None:
    if (table is None) != (column is None):
        raise LabelError("`table` FILE and `column` NAME belong together: pass both, or neither to judge by rules")
    if table is not None and rule is not None:
        raise LabelError("`rule` does not go with `table`: labels made elsewhere are taken as they are")
    if table is not None and judge is not None:
        raise LabelError("`judge` does not go with `table`: labels made elsewhere are taken as they are")
    if rule is not None and judge is not None and judge.which == "all":
        raise LabelError(
            "`rule` does not go with `judge='all'`: no rule decides there; pass `judge='unknown'`, or no rule"
        )


def _judge_note(run: JudgeRun, cache: Path) -> str:
    return f"the judge was asked about {run.asked} texts, {run.cached} verdicts were in {cache} already"


def _cut_off_note(shards: Shards) -> list[str]:
    """Return a note on answers that reach the token limit, if there are any."""
    long, limit = _finished_flags(shards).count(False), shards.attributes.get("max_new_tokens")
    return [f"{long} answers reach the limit of {limit} tokens and may be cut off before their verdict"] if long else []


def _finished_flags(shards: Shards) -> list[bool]:
    """Return False for answers of as many tokens as were allowed: whether they ended there is not known."""
    limit = shards.attributes.get("max_new_tokens")
    if not limit or not shards.has("answer_tokens"):
        return [True] * len(shards.question_ids)
    return [bool(tokens < limit) for tokens in shards.numbers("answer_tokens")]
