"""Files of benchmarks in their published form, small ones, made up; pictures of ShapesVQA under the published names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halp_probe.shapes.questions import Question, ask
from halp_probe.shapes.scenes import make_scene, render

POPE_PARTS = ("random", "popular", "adversarial")


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One object a line, as POPE's files are in spite of their ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def whole(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def yes_no(seed: int, count: int = 6) -> list[Question]:
    """Questions on the scene of a seed that are answered yes or no."""
    return [each for each in ask(make_scene(seed), 24) if each.answer in ("yes", "no")][:count]


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    render(make_scene(seed)).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def coco(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def write_pope(root: Path, *, scenes: int = 3, parts: Sequence[str] = POPE_PARTS, pictures: bool = False) -> None:
    """POPE's files below `output/coco`; the ids restart in each."""
    for part in parts:
        rows = [(number, each) for number in range(scenes) for each in yes_no(number)]
        lines(
            root / f"output/coco/coco_pope_{part}.json",
            [
                {"question_id": place, "image": coco(number), "text": each.text, "label": each.answer}
                for place, (number, each) in enumerate(rows, 1)
            ],
        )
    for number in range(scenes if pictures else 0):
        draw(root / "val2014" / coco(number), number)


def write_repope(root: Path, *, part: str, changed: int = 5, ambiguous: int = 7) -> None:
    """RePOPE's file beside POPE's: every `changed`-th yes a no, every `ambiguous`-th left out, the ids made anew."""
    rows = list(read_lines(root / f"output/coco/coco_pope_{part}.json"))
    kept = [row for place, row in enumerate(rows) if place % ambiguous]
    for place, row in enumerate(kept, 1):
        if row["label"] == "yes" and place % changed == 0:
            row["label"] = "no"
        row["question_id"] = place
    lines(root / f"annotations/coco_repope_{part}.json", kept)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, path.read_text().splitlines())


def write_amber(root: Path, *, scenes: int = 4, pictures: bool = False) -> None:
    """Queries and annotations with AMBER's types: of existence all no, of relations two types by their truth."""
    queries, annotations, number = [], [], 0
    for scene in range(1, scenes + 1):
        number += 1
        queries.append({"id": number, "image": f"AMBER_{scene}.jpg", "query": "Describe this image."})
        annotations.append({"id": number, "type": "generative", "truth": ["circle"], "hallu": ["dog"]})
    for scene in range(1, scenes + 1):
        for place, each in enumerate(yes_no(scene, 9)):
            number += 1
            kinds = ["discriminative-hallucination", "discriminative-attribute-state", "relation"]
            kind = kinds[place % 3] if each.answer == "no" else "discriminative-attribute-state"
            kind = "discriminative-relation" if each.answer == "yes" and place % 2 else kind
            queries.append({"id": number, "image": f"AMBER_{scene}.jpg", "query": each.text})
            annotations.append({"id": number, "type": kind, "truth": each.answer})
        if pictures:
            draw(root / "image" / f"AMBER_{scene}.jpg", scene)
    whole(root / "data/query/query_all.json", queries)
    whole(root / "data/annotations.json", annotations)


def write_hallusionbench(root: Path) -> None:
    """Two sets of a figure and its edited version, and one question without a picture; the ids restart in each."""
    rows = []
    for set_id in ("0", "1"):
        for figure_id, visual_input, filename, answer in (
            ("0", "0", None, "1"),
            ("1", "1", f"./VS/chart/{set_id}_1.png", "1"),
            ("2", "2", f"./VS/chart/{set_id}_2.png", "0"),
        ):
            rows.append(
                {
                    "category": "VS",
                    "subcategory": "chart",
                    "visual_input": visual_input,
                    "set_id": set_id,
                    "figure_id": figure_id,
                    "sample_note": "made up",
                    "question_id": "0",
                    "question": "Is 2010 the highest year?",
                    "gt_answer_details": "no: it is 2011",
                    "gt_answer": answer,
                    "filename": filename,
                }
            )
    whole(root / "HallusionBench.json", rows)


def write_haloquest(root: Path, *, split: str = "eval") -> None:
    """A CSV whose first column has no name, and whose numbers restart in each split."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"haloquest-{split}.csv").write_text(
        ",image_name,url,image type,hallucination type,question,groundtruth responses,split\n"
        f'0,a (1).png,https://example.org/a%20(1).png,generated,false premises,"What is on the hat, if any?",'
        f"There is no hat; She wears no hat,{split}\n"
        f"1,a (1).png,https://example.org/a%20(1).png,generated,visual challenge,How many cats?,None,{split}\n"
        f"2,b.png,https://example.org/b.png,real,insufficient context,Who is she?,It cannot be said,{split}\n"
    )


def write_mme(root: Path) -> None:
    """One category with texts beside the pictures, and one with folders of its own; two questions each."""
    base = root / "MME_Benchmark_release_version/MME_Benchmark"
    for seed, (text, picture) in enumerate(
        (
            ("existence/000000006040.txt", "existence/000000006040.jpg"),
            ("existence/000000007816.txt", "existence/000000007816.jpg"),
            ("artwork/questions_answers_YN/10002.txt", "artwork/images/10002.png"),
        )
    ):
        draw(base / picture, seed)
        (base / text).parent.mkdir(parents=True, exist_ok=True)
        (base / text).write_text(
            "Is there a cat? Please answer yes or no.\tYes\nIs there a dog? Please answer yes or no.\tNo\n\n"
        )


def write_mmvp(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "Questions.csv").write_text(
        "Index,Question,Options,Correct Answer\n"
        "1,Are the wings open or closed?,(a) Open (b) Closed,(a)\n"
        "2,Are the wings open or closed?,(a) Open (b) Closed,(b)\n"
        '3,"Where is the dog, on the left?",(a) Yes (b) No,(a)\n'
        '4,"Where is the dog, on the left?",(a) Yes (b) No,(b)\n'
    )


def mathvista_rows() -> list[dict[str, Any]]:
    about = {"category": "math-targeted-vqa", "task": "geometry", "context": "diagram", "grade": "high school"}
    about |= {"language": "english", "source": "Geo", "skills": ["algebra"], "split": "testmini"}
    hint = "Hint: Please answer the question and provide the final value, e.g., 1.2, at the end.\nQuestion: …"
    free = {"question_type": "free_form", "choices": None, "unit": None}
    return [
        {
            **free,
            "pid": "1",
            "question": "How long is it?",
            "image": "images/1.jpg",
            "precision": 1.0,
            "answer": "1.2",
            "answer_type": "float",
            "metadata": about,
            "query": hint,
        },
        {
            "pid": "2",
            "question": "Find the angle.",
            "image": "images/2.jpg",
            "choices": ["145°", "8°"],
            "unit": "°",
            "precision": None,
            "answer": "8°",
            "question_type": "multi_choice",
            "answer_type": "text",
            "metadata": about,
            "query": hint,
        },
    ]


def ten(answer: str, other: str = "") -> list[str]:
    return [answer] * 7 + [other or answer] * 3


def write_vizwiz(root: Path, *, part: str = "val") -> None:
    answers = [{"answer": each, "answer_confidence": "yes"} for each in ten("unanswerable", "a can")]
    rows = [
        {
            "image": f"VizWiz_{part}_{number:08d}.jpg",
            "question": "What is this?",
            "answers": answers,
            "answer_type": "unanswerable",
            "answerable": 0,
        }
        for number in range(2)
    ]
    whole(root / f"Annotations/{part}.json", rows)


def write_textvqa(root: Path, *, part: str = "val") -> None:
    rows = [
        {
            "question": "what does it say?",
            "image_id": "003a8ae2ef43b901",
            "image_classes": ["Cell phone"],
            "answers": ten("NA", "nokia"),
            "question_id": number,
            "set_name": part,
        }
        for number in (34602, 34603)
    ]
    whole(root / f"TextVQA_0.5.1_{part}.json", {"dataset_type": part, "dataset_name": "textvqa", "data": rows})


def write_vqav2(root: Path, *, part: str = "val") -> None:
    questions = [
        {"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000},
        {"image_id": 262148, "question": "Is it sunny?", "question_id": 262148001},
        {"image_id": 393225, "question": "How many?", "question_id": 393225000},
    ]
    annotations = [
        {
            "question_type": "where",
            "multiple_choice_answer": "down",
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(ten("down"))],
            "image_id": each["image_id"],
            "answer_type": "other",
            "question_id": each["question_id"],
        }
        for each in reversed(questions)
    ]
    about = {"info": {"year": 2017}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": f"{part}2014"}
    whole(root / f"v2_OpenEnded_mscoco_{part}2014_questions.json", {**about, "questions": questions})
    whole(root / f"v2_mscoco_{part}2014_annotations.json", {**about, "annotations": annotations})


def write_gqa(root: Path, *, part: str = "testdev_balanced") -> None:
    def row(image: str, question: str, answer: str) -> dict[str, Any]:
        types = {"detailed": "existAttr", "semantic": "attr", "structural": "verify"}
        return {"imageId": image, "question": question, "answer": answer, "fullAnswer": f"{answer}.", "types": types}

    rows = {"20968379": row("n288870", "Do the shorts have dark color?", "yes"), "2098080": row("n1", "Who?", "man")}
    whole(root / f"{part}_questions.json", rows)


def write_scienceqa(root: Path) -> None:
    def row(split: str, image: str | None, hint: str = "") -> dict[str, Any]:
        about = {"task": "closed choice", "grade": "grade2", "subject": "natural science", "topic": "biology"}
        asked = {"question": "Which is a fish?", "choices": ["cat", "cod", "cow"], "answer": 1, "hint": hint}
        return {**asked, "image": image, **about, "category": "animals", "skill": "name", "split": split}

    rows = {
        "4": row("test", "image.png", "Fish live in water."),
        "5": row("test", None),
        "1": row("train", "image.png"),
    }
    whole(root / "problems.json", rows)
