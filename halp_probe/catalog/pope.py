"""POPE, and RePOPE: the same questions with their labels corrected."""

from __future__ import annotations

from collections.abc import Iterator

from halp_probe.catalog.benchmark import ANSWERS, Benchmark, File, NotAsked, Question, Source

PARTS = ("random", "popular", "adversarial")
_FOLDERS = ("val2014", "images", "coco/val2014", "COCO/val2014", "images/val2014", "pope", ".")
_PICTURES = "COCO_val2014_<12 digits>.jpg of COCO's val2014"
_CORRECTED = {"random": 2774, "popular": 2727, "adversarial": 2684}
_QUESTION_FILES = tuple(
    File(
        name=f"output/coco/coco_pope_{part}.json",
        rows=3000,
        part=part,
        elsewhere=(f"pope/coco_pope_{part}.json", f"coco/coco_pope_{part}.json", f"pope/coco/coco_pope_{part}.json"),
    )
    for part in PARTS
)
_RESTARTS = "its question_id restarts at 1 in each of the three files; here the file's name is part of the id"


def _pope(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        yield Question(
            question_id=f"pope-{part}-{row['question_id']}",
            image=row["image"],
            text=row["text"],
            truth=row["label"],
            columns={"category": part},
        )


def _repope(source: Source) -> Iterator[Question | NotAsked]:
    """Join by part, picture and text: RePOPE numbers its questions anew."""
    corrected = {(part, row["image"], row["text"]): row["label"] for part, row in source.rows(ANSWERS)}
    for part, row in source.rows():
        label = corrected.pop((part, row["image"], row["text"]), None)
        state = "ambiguous" if label is None else "same" if label == row["label"] else "changed"
        yield Question(
            question_id=f"pope-{part}-{row['question_id']}",
            image=row["image"],
            text=row["text"],
            truth=label or "",
            columns={"category": part, "relabelled": state, "pope_answer": row["label"]},
        )
    for _ in corrected:
        yield NotAsked("label of RePOPE for a question that POPE's file does not have")


POPE = Benchmark(
    name="pope",
    title="POPE",
    asks="is there an object in the picture? yes or no",
    files=_QUESTION_FILES,
    read=_pope,
    parts=PARTS,
    questions=dict.fromkeys(PARTS, 3000),
    images=_FOLDERS,
    pictures=_PICTURES,
    rule="yes_no",
    groups=("category",),
    faults=(
        'about 9 % of its "yes" are wrong, and some of its "no" (RePOPE); take `repope`, or read differences of a few '
        "points as noise",
    ),
    mended=(_RESTARTS,),
    where="https://github.com/RUCAIBox/POPE",
    citation="Li et al., Evaluating Object Hallucination in Large Vision-Language Models, EMNLP 2023, arXiv 2305.10355",
)

REPOPE = Benchmark(
    name="repope",
    title="RePOPE",
    asks="POPE's questions with corrected labels",
    files=(
        *_QUESTION_FILES,
        *(
            File(
                name=f"annotations/coco_repope_{part}.json",
                rows=rows,
                part=part,
                role=ANSWERS,
                elsewhere=(f"repope/coco_repope_{part}.json", f"output/coco/coco_repope_{part}.json"),
            )
            for part, rows in _CORRECTED.items()
        ),
    ),
    read=_repope,
    parts=PARTS,
    questions=dict.fromkeys(PARTS, 3000),
    images=_FOLDERS,
    pictures=_PICTURES,
    rule="yes_no",
    groups=("category",),
    folds_of="pope",
    faults=(
        "its authors leave 226 to 316 questions of each file out as ambiguous: they are asked, without a ground truth "
        "(`relabelled` is `ambiguous`), so that no label decides them",
    ),
    mended=(_RESTARTS, "its ids are its own: it is joined to POPE's files by picture and text"),
    leaks={"relabelled": "where it is `changed` the truth is nearly always no, since most corrections are of a yes"},
    where="https://github.com/YanNeu/RePOPE, beside POPE's files from https://github.com/RUCAIBox/POPE",
    citation="Neuhaus and Hein, RePOPE: Impact of Annotation Errors on the POPE Benchmark, 2025, arXiv 2504.15707",
)
