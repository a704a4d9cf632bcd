"""AMBER: yes/no questions on objects, attributes and relations."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import ANSWERS, Benchmark, File, NotAsked, Question, Source

_GENERATIVE = "generative"
_LEAK = (
    "a question has the type `discriminative-hallucination` or `relation` only where the truth is no, and "
    "`discriminative-relation` only where it is yes"
)
_KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "attribute",
    "discriminative-attribute-number": "attribute",
    "discriminative-attribute-action": "attribute",
    "discriminative-relation": "relation",
    "relation": "relation",
}


def _amber(source: Source) -> Iterator[Question | NotAsked]:
    annotations = {row["id"]: row for _, row in source.rows(ANSWERS)}
    for _, row in source.rows():
        about = annotations.get(row["id"])
        if about is None:
            yield NotAsked("query without an annotation of its id")
        elif about["type"] == _GENERATIVE:
            yield NotAsked("caption (generative): no rule labels a whole caption")
        else:
            yield Question(
                question_id=f"amber-{row['id']}",
                image=row["image"],
                text=row["query"],
                truth=about["truth"],
                columns={"kind": _KINDS.get(about["type"], "other"), "published_type": about["type"]},
            )


AMBER = Benchmark(
    name="amber",
    title="AMBER",
    asks="is the object there, the attribute true, the relation there? yes or no",
    files=(
        File(name="data/query/query_all.json", rows=15220, elsewhere=("query/query_all.json",)),
        File(name="data/annotations.json", rows=15220, role=ANSWERS),
    ),
    read=_amber,
    questions={"": 14216},
    images=("image", "images", "data/image", "data/images", "."),
    pictures="AMBER_<number>.jpg, 1,004 of them",
    rule="yes_no",
    groups=("kind",),
    faults=(
        f"its `type` gives the ground truth away: {_LEAK}. It is kept as `published_type`; `kind` (existence, "
        "attribute, relation) is made from it without that",
        "the truth of its existence questions is always no, so a model that says no to everything is right on all of "
        "them: read results by `kind`",
    ),
    mended=("its 1,004 captions are not asked: no rule labels a whole caption",),
    leaks=dict.fromkeys(("published_type", "type"), _LEAK),
    where="https://github.com/junyangwang0410/AMBER (data/, and the pictures that its README links)",
    citation="Wang et al., AMBER: An LLM-free Multi-dimensional Benchmark for MLLMs Hallucination Evaluation, 2023, "
    "arXiv 2311.07397",
)
