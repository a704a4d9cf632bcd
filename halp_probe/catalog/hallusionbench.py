"""HallusionBench: yes/no questions on figures and on edited figures."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import Benchmark, File, NotAsked, Question, Source

_TRUTHS = {"0": "no", "1": "yes"}


def _hallusionbench(source: Source) -> Iterator[Question | NotAsked]:
    for _, row in source.rows():
        place = [row[name] for name in ("category", "subcategory", "set_id", "figure_id", "question_id")]
        figures = "/".join(place[:3])
        yield Question(
            question_id="-".join(["hallusionbench", *place]),
            image=(row["filename"] or "").removeprefix("./"),
            text=row["question"],
            truth=_TRUTHS.get(str(row["gt_answer"]), str(row["gt_answer"])),
            columns={
                "category": row["category"],
                "subcategory": row["subcategory"],
                "visual_input": str(row["visual_input"]),
                "figures": figures,
                "truth_details": row.get("gt_answer_details") or "",
            },
            tied=(f"figures {figures}",),
        )


HALLUSIONBENCH = Benchmark(
    name="hallusionbench",
    title="HallusionBench",
    asks="does a figure, as it is or edited, say so? yes or no",
    files=(File(name="HallusionBench.json", rows=1129, elsewhere=("hallusion_bench/HallusionBench.json",)),),
    read=_hallusionbench,
    questions={"": 951},
    images=("hallusion_bench", "images", "."),
    pictures="VS/<subcategory>/<set>_<figure>.png and VD/… of hallusion_bench.zip, 346 of them",
    rule="yes_no",
    groups=("category", "subcategory"),
    fold_unit="set of figures (category, subcategory, set_id): a figure and its edited versions",
    faults=(
        "the same question is asked of a figure and of its edited version, so its text alone says nothing of the truth "
        "and rows of one set are not independent",
    ),
    mended=(
        "178 of its 1,129 rows have no picture (visual_input 0): they are not asked",
        "its question_id is unique only together with category, subcategory, set_id and figure_id; here it is all five",
        "its truths 0 and 1 are written as no and yes",
    ),
    where="https://github.com/tianyi-lab/HallusionBench",
    citation="Guan et al., HallusionBench: An Advanced Diagnostic Suite for Entangled Language Hallucination and "
    "Visual Illusion in Large Vision-Language Models, CVPR 2024, arXiv 2310.14566",
)
