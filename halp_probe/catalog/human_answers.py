"""VizWiz, TextVQA and VQAv2: open questions that ten people answered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from halp_probe.catalog.benchmark import ANSWERS, Benchmark, File, NotAsked, Question, Source
from halp_probe.tables.records import text_of

_TEN = (
    "ten people answered each question, and differ: an answer is right if it says what three of them say; rule `vqa` "
    "is the benchmark's own measure, equality of short answers, and calls a sentence wrong for its length"
)


def _truth(answers: Sequence[Any] | None) -> str:
    """Return the answers of all people as a JSON list; blank where the part has none."""
    if not answers:
        return ""
    given = [text_of(each["answer"] if isinstance(each, dict) else each) for each in answers]
    return json.dumps(given, ensure_ascii=False)


def _vizwiz(source: Source) -> Iterator[Question | NotAsked]:
    for _, row in source.rows():
        yield Question(
            question_id=f"vizwiz-{PurePosixPath(row['image']).stem}",
            image=row["image"],
            text=row["question"],
            truth=_truth(row.get("answers")),
            columns={"answer_type": text_of(row.get("answer_type")), "answerable": text_of(row.get("answerable"))},
        )


def _textvqa(source: Source) -> Iterator[Question | NotAsked]:
    for part, row in source.rows():
        yield Question(
            question_id=f"textvqa-{row['question_id']}",
            image=f"{row['image_id']}.jpg",
            text=row["question"],
            truth=_truth(row.get("answers")),
            columns={"split": part},
        )


def _vqav2(source: Source) -> Iterator[Question | NotAsked]:
    answers = {
        (part, row["question_id"]): (_truth(row["answers"]), row["answer_type"], row["question_type"])
        for part, row in source.rows(ANSWERS)
    }
    for part, row in source.rows():
        truth, answer_type, question_type = answers.get((part, row["question_id"]), ("", "", ""))
        yield Question(
            question_id=f"vqav2-{row['question_id']}",
            image=f"COCO_{part}2014_{int(row['image_id']):012d}.jpg",
            text=row["question"],
            truth=truth,
            columns={"answer_type": answer_type, "question_type": question_type, "split": part},
        )


VIZWIZ = Benchmark(
    name="vizwiz",
    title="VizWiz-VQA",
    asks="what blind people asked about their photos; ten answers, often: unanswerable",
    files=tuple(
        File(name=f"Annotations/{part}.json", rows=rows, part=part, elsewhere=(f"annotations/{part}.json",))
        for part, rows in (("val", 4319), ("train", 20523), ("test", 8000))
    ),
    read=_vizwiz,
    parts=("val", "train", "test"),
    usual=("val",),
    questions={"val": 4319, "train": 20523, "test": 8000},
    images=("val", "train", "test", "images", "."),
    pictures="VizWiz_<part>_<8 digits>.jpg",
    groups=("answer_type",),
    faults=(
        _TEN,
        "`unanswerable` is the most frequent answer: a refusal is right there, and `answer_type` and `answerable` give "
        "that away",
    ),
    mended=("its part `test` is published without answers: all its labels are unknown",),
    leaks=dict.fromkeys(("answer_type", "answerable"), "they say where the truth is `unanswerable`"),
    where="https://vizwiz.org/tasks-and-datasets/vqa/",
    licence="CC BY 4.0",
    citation="Gurari et al., VizWiz Grand Challenge: Answering Visual Questions from Blind People, CVPR 2018, "
    "arXiv 1802.08218",
)

TEXTVQA = Benchmark(
    name="textvqa",
    title="TextVQA",
    asks="what is written in the picture? ten answers",
    files=tuple(
        File(name=f"TextVQA_0.5.1_{part}.json", rows=rows, part=part, member="data")
        for part, rows in (("val", 5000), ("train", 34602))
    ),
    read=_textvqa,
    parts=("val", "train"),
    usual=("val",),
    questions={"val": 5000, "train": 34602},
    images=("train_images", "train_val_images/train_images", "images", "."),
    pictures="<image_id>.jpg of train_val_images.zip, for both parts",
    faults=(_TEN,),
    where="https://textvqa.org/dataset/",
    licence="CC BY 4.0",
    citation="Singh et al., Towards VQA Models That Can Read, CVPR 2019, arXiv 1904.08920",
)

VQAV2 = Benchmark(
    name="vqav2",
    title="VQAv2",
    asks="open questions on COCO's pictures; ten answers",
    files=tuple(
        file
        for part, rows in (("val", 214354), ("train", 443757))
        for file in (
            File(name=f"v2_OpenEnded_mscoco_{part}2014_questions.json", rows=rows, part=part, member="questions"),
            File(
                name=f"v2_mscoco_{part}2014_annotations.json",
                rows=rows,
                part=part,
                role=ANSWERS,
                member="annotations",
            ),
        )
    ),
    read=_vqav2,
    parts=("val", "train"),
    usual=("val",),
    questions={"val": 214354, "train": 443757},
    images=("val2014", "train2014", "images", "."),
    pictures="COCO_<part>2014_<12 digits>.jpg of COCO's val2014 and train2014",
    groups=("answer_type",),
    fold_unit="picture; complementary pairs are not kept together, since they would tie nearly all pictures to one",
    faults=(
        _TEN,
        "the question alone predicts many answers: compare with the baseline of its text",
    ),
    where="https://visualqa.org/download.html",
    licence="CC BY 4.0",
    citation="Goyal et al., Making the V in VQA Matter: Elevating the Role of Image Understanding in Visual Question "
    "Answering, CVPR 2017, arXiv 1612.00837",
)
