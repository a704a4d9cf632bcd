"""CaptionQA: results of a run and their metrics, in the benchmark's own format, from items and replies alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from halp_probe.tasks.caption_qa import QaItem, declines_wrongly, parse, score

Entry = dict[str, Any]
Results = Mapping[str, Sequence[Entry]]  # image id -> its questions' entries, both in the data set's order


def entry(item: QaItem, reply: str) -> Entry:
    """Return one question's result."""
    choice = parse(item, reply)
    return {
        "question": item.question,
        "choices": list(item.choices),
        "ground_truth": item.answer,
        "model_answer": None if choice.index is None else item.options[choice.index],
        "model_response": reply,
        "is_correct": choice.index == item.right,
        "is_cannot_answer": declines_wrongly(item, choice),
        "score": round(score(item, choice), 4),
        "category": item.category,
    }


def results(answers: Iterable[tuple[QaItem, str]]) -> Results:
    """Return the results by image, from each item and the reply to it."""
    found: dict[str, list[Entry]] = {}
    for item, reply in answers:
        found.setdefault(item.image_id, []).append(entry(item, reply))
    return found


def metrics(found: Results, model: str, split: str) -> dict[str, Any]:
    """Return accuracy, scores and how often the model declined, overall and by category.

    Rounded as the benchmark rounds.
    """
    entries = [each for image in found.values() for each in image]
    # summed image by image, as in the benchmark, so that the digits are the same
    total_score = sum(sum(each["score"] for each in image) for image in found.values())
    correct = sum(each["is_correct"] for each in entries)
    return {
        "total_questions": len(entries),
        "correct_answers": correct,
        "overall_accuracy": round(_share(correct, len(entries)), 4),
        "cannot_answer_count": sum(each["is_cannot_answer"] for each in entries),
        "total_score": round(total_score, 2),
        "average_score": round(_share(total_score, len(entries)), 4),
        "category_metrics": _by_category(entries),
        "model": model,
        "split": split,
    }


def as_json(value: object) -> str:
    """Encode as the benchmark writes its files: indented by two, without a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def summary(found: Mapping[str, Any]) -> str:
    """Return the metrics as a few lines of text."""
    total = found["total_questions"]
    lines = [
        f"{total} questions: accuracy {found['overall_accuracy']:.2%}, average score {found['average_score']:.4f}, "
        f"declined {found['cannot_answer_count']}"
    ]
    by_category = sorted(found["category_metrics"].items())
    width = max((len(name) for name, _ in by_category), default=0)
    for name, each in by_category:
        lines.append(
            f"  {name:{width}}  {each['correct']}/{each['total']} ({each['accuracy']:.2%}), "
            f"average score {each['average_score']:.4f}, declined {each['cannot_answer']}"
        )
    return "\n".join(lines)


class Tally:
    """Scores of a run so far, for its progress line."""

    def __init__(self, items: Iterable[QaItem]) -> None:
        self._items = {item.key: item for item in items}
        self._entries: dict[str, tuple[float, bool, bool]] = {}

    def add(self, key: str, reply: str) -> None:
        """Count this reply; it replaces an earlier one to the same item."""
        each = entry(self._items[key], reply)
        self._entries[key] = each["score"], each["is_correct"], each["is_cannot_answer"]

    def __str__(self) -> str:
        n = len(self._entries)
        scores, correct, declined = zip(*self._entries.values(), strict=True) if n else ((), (), ())
        return (
            f"processed={n} total_score={sum(scores):.2f} avg_score={_share(sum(scores), n):.4f} "
            f"accuracy={_share(sum(correct), n):.2%} cannot_answer={sum(declined)}"
        )


def _by_category(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in entries:
        counted = found.setdefault(each["category"], {"total": 0, "correct": 0, "cannot_answer": 0, "total_score": 0.0})
        counted["total"] += 1
        counted["total_score"] += each["score"]
        counted["correct"] += each["is_correct"]
        counted["cannot_answer"] += each["is_cannot_answer"]
    for counted in found.values():
        counted["accuracy"] = counted["correct"] / counted["total"]
        counted["average_score"] = counted["total_score"] / counted["total"]
    return found


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
