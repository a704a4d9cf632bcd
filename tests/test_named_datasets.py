"""Every benchmark is read from files of its published form: its questions, truths, ids, units and folds."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from captionqa_data import write_parquet
from named_data import (
    coco,
    mathvista_rows,
    read_lines,
    whole,
    write_amber,
    write_gqa,
    write_hallusionbench,
    write_haloquest,
    write_mme,
    write_mmvp,
    write_pope,
    write_repope,
    write_scienceqa,
    write_textvqa,
    write_vizwiz,
    write_vqav2,
)
from PIL import Image

from halp_probe.engine.images import folder_path
from halp_probe.errors import InputError
from halp_probe.labels.rules import judge
from halp_probe.task_files import named_datasets
from halp_probe.task_files.named_datasets import dataset
from halp_probe.task_files.table_pictures import collect_pictures


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def texts(found) -> list[tuple[str, str, str, str]]:
    return [(each.question_id, each.image_id, each.question, each.answer) for each in found.samples]


def column(found, name: str) -> list[str]:
    return [each.extra[name] for each in found.samples]


def same_fold(found, *ids: str) -> bool:
    return len({each.extra["fold"] for each in found.samples if each.question_id in ids}) == 1


def test_pope_ids_are_unique_though_its_own_restart(tmp_path):
    write_pope(tmp_path, scenes=3)
    found = dataset("pope", tmp_path)
    ids = [each.question_id for each in found.samples]
    assert len(set(ids)) == len(ids) and Counter(column(found, "category")) == dict.fromkeys(
        ("random", "popular", "adversarial"), len(ids) // 3
    )
    rows = list(read_lines(tmp_path / "output/coco/coco_pope_popular.json"))
    first = next(each for each in found.samples if each.question_id == "pope-popular-1")
    assert (first.image_id, first.question, first.answer) == (rows[0]["image"], rows[0]["text"], rows[0]["label"])
    assert set(column(found, "dataset")) == {"pope"} and found.benchmark.rule == "yes_no"
    by_image = {each.image_id: each.extra["fold"] for each in found.samples}
    assert all(by_image[each.image_id] == each.extra["fold"] for each in found.samples), "in all three files"


def test_repope_corrects_pope_by_picture_and_text(tmp_path):
    write_pope(tmp_path, scenes=6, parts=["random"])
    write_repope(tmp_path, part="random")
    pope, repope = dataset("pope:random", tmp_path), dataset("repope:random", tmp_path)
    assert [each.question_id for each in pope.samples] == [each.question_id for each in repope.samples]
    assert column(pope, "fold") == column(repope, "fold") and pope.split == repope.split
    corrected = {
        (row["image"], row["text"]): row["label"]
        for row in read_lines(tmp_path / "annotations/coco_repope_random.json")
    }
    states = Counter()
    for before, after in zip(pope.samples, repope.samples, strict=True):
        label = corrected.get((before.image_id, before.question))
        assert after.answer == (label or "") and after.extra["pope_answer"] == before.answer
        state = "ambiguous" if label is None else "same" if label == before.answer else "changed"
        assert after.extra["relabelled"] == state
        states[state] += 1
    assert min(states.values()) > 0 and len(states) == 3
    ambiguous = next(each for each in repope.samples if each.extra["relabelled"] == "ambiguous")
    assert judge("Yes", ambiguous.answer, rule="yes_no").label is None


def test_repope_needs_popes_file_beside_it(tmp_path):
    write_pope(tmp_path, parts=["random"])
    with pytest.raises(InputError, match=r"lacks .*annotations/coco_repope_random\.json"):
        dataset("repope:random", tmp_path)


def test_amber_keeps_its_type_apart_from_kinds(tmp_path):
    write_amber(tmp_path)
    found = dataset("amber", tmp_path)
    assert found.left_out == {"caption (generative): no rule labels a whole caption": 4}
    kinds = {
        "discriminative-hallucination": "existence",
        "discriminative-attribute-state": "attribute",
        "discriminative-relation": "relation",
        "relation": "relation",
    }
    assert column(found, "kind") == [kinds[each] for each in column(found, "published_type")]
    annotations = {row["id"]: row["truth"] for row in json.loads((tmp_path / "data/annotations.json").read_text())}
    assert all(each.answer == annotations[int(each.question_id.removeprefix("amber-"))] for each in found.samples)
    assert found.benchmark.groups == ("kind",)


def test_hallusionbench_is_told_apart_by_five_fields_and_kept_by_sets(tmp_path):
    write_hallusionbench(tmp_path)
    found = dataset("hallusionbench", tmp_path)
    assert texts(found)[:2] == [
        ("hallusionbench-VS-chart-0-1-0", "VS/chart/0_1.png", "Is 2010 the highest year?", "yes"),
        ("hallusionbench-VS-chart-0-2-0", "VS/chart/0_2.png", "Is 2010 the highest year?", "no"),
    ]
    assert found.left_out == {"published without a picture": 2}
    assert same_fold(found, "hallusionbench-VS-chart-0-1-0", "hallusionbench-VS-chart-0-2-0")
    assert column(found, "fold_unit") == ["figures VS/chart/0"] * 2 + ["figures VS/chart/1"] * 2


def test_haloquest_keeps_urls_and_literal_texts(tmp_path):
    write_haloquest(tmp_path)
    write_haloquest(tmp_path, split="train")
    found = dataset("haloquest", tmp_path)
    assert texts(found)[0] == (
        "haloquest-eval-0",
        "a (1).png",
        "What is on the hat, if any?",
        "There is no hat; She wears no hat",
    )
    assert found.samples[1].answer == "None"
    assert column(found, "url")[0] == "https://example.org/a%20(1).png"
    assert column(found, "hallucination_type") == ["false premises", "visual challenge", "insufficient context"]
    both = dataset("haloquest:eval,train", tmp_path)
    assert len(both.samples) == 6 and same_fold(both, "haloquest-eval-0", "haloquest-train-1")


def test_haloquest_is_fetched_where_its_files_are_not_there(tmp_path, monkeypatch):
    write_haloquest(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/b.png").write_bytes(png(2))
    asked_for = []

    def fetch(urls, folder):
        asked_for.extend(urls)
        return {url: folder.keep(png(1)) for url in urls}

    monkeypatch.setattr(named_datasets, "collect_pictures", partial(collect_pictures, fetch=fetch))
    plain = dataset("haloquest", tmp_path, pictures_dir=tmp_path / "pictures")
    fetched = dataset("haloquest", tmp_path, pictures_dir=tmp_path / "pictures", allow_urls=True)
    assert asked_for == ["https://example.org/a%20(1).png"]
    assert [(folder_path(fetched.images_dir) / each.image_id).read_bytes() for each in fetched.samples] == [
        png(1),
        png(1),
        png(2),
    ]
    assert column(plain, "fold") == column(fetched, "fold"), "folds are by published names"


def test_lmms_eval_pictures_that_are_files(tmp_path):
    (tmp_path / "Pets").mkdir()
    whole(tmp_path / "Pets/test.json", [{"id": "1", "image": "cat.png", "question": "What?", "answer": "cat"}])
    (tmp_path / "Pets/cat.png").write_bytes(png(1))
    found = dataset("lmms-eval:Pets:test", tmp_path, pictures_dir=tmp_path / "pictures")
    assert (folder_path(found.images_dir) / found.samples[0].image_id).read_bytes() == png(1)


def test_mme_pairs_are_found_in_both_layouts(tmp_path):
    write_mme(tmp_path)
    found = dataset("mme", tmp_path)
    assert texts(found)[0] == (
        "mme-existence-000000006040-1",
        "existence/000000006040.jpg",
        "Is there a cat? Please answer yes or no.",
        "Yes",
    )
    assert [each.image_id for each in found.samples][-1] == "artwork/images/10002.png"
    assert all((folder_path(found.images_dir) / each.image_id).is_file() for each in found.samples)
    assert len(found.samples) == 6 and len(set(column(found, "fold_unit"))) == 3
    assert any("no files of count, position" in note for note in found.notes)


def test_mmvp_pairs_and_options(tmp_path):
    write_mmvp(tmp_path)
    found = dataset("mmvp", tmp_path)
    assert texts(found)[1] == ("mmvp-2", "2.jpg", "Are the wings open or closed?\nA. Open\nB. Closed", "B")
    assert column(found, "fold_unit") == ["pair 1", "pair 1", "pair 2", "pair 2"]


@pytest.mark.parametrize("form", ["parquet", "keyed", "list"])
def test_mathvista_in_its_forms(tmp_path, form):
    rows = mathvista_rows()
    if form == "parquet":
        (tmp_path / "data").mkdir()
        held = [{**row, "decoded_image": {"bytes": png(n), "path": None}} for n, row in enumerate(rows)]
        path = tmp_path / "data/testmini-00000-of-00001-725687bf7a18d64b.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(held), path)
    else:
        keyed = {row["pid"]: {k: v for k, v in row.items() if k != "pid"} for row in rows}
        whole(tmp_path / "testmini.json", keyed if form == "keyed" else rows)
    found = dataset("mathvista", tmp_path, pictures_dir=tmp_path / "pictures")
    assert [each.question_id for each in found.samples] == ["mathvista-testmini-1", "mathvista-testmini-2"]
    assert [each.answer for each in found.samples] == ["1.2", "B"]
    assert found.samples[1].question.endswith("\nQuestion: Find the angle. (Unit: °)\nA. 145°\nB. 8°")
    assert found.samples[0].question.startswith("Hint: Please answer")
    assert column(found, "precision") == ["1.0", ""] and column(found, "unit") == ["", "°"]
    if form == "parquet":
        assert [(folder_path(found.images_dir) / each.image_id).read_bytes() for each in found.samples] == [
            png(0),
            png(1),
        ]
    else:
        assert [each.image_id for each in found.samples] == ["1.jpg", "2.jpg"]


def test_pictures_in_a_file_need_a_folder(tmp_path):
    path = tmp_path / "testmini.parquet"
    held = [{**row, "decoded_image": {"bytes": png(1), "path": None}} for row in mathvista_rows()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(held), path)
    with pytest.raises(InputError, match="pictures_dir"):
        dataset("mathvista", tmp_path)


@pytest.mark.parametrize(
    ("name", "write", "first", "answers"),
    [
        ("vizwiz", write_vizwiz, ("vizwiz-VizWiz_val_00000000", "VizWiz_val_00000000.jpg"), ("unanswerable", "a can")),
        ("textvqa", write_textvqa, ("textvqa-34602", "003a8ae2ef43b901.jpg"), ("NA", "nokia")),
        ("vqav2", write_vqav2, ("vqav2-262148000", "COCO_val2014_000000262148.jpg"), ("down", "down")),
    ],
)
def test_ten_answers_are_one_list(tmp_path, name, write, first, answers):
    write(tmp_path)
    found = dataset(name, tmp_path)
    assert (found.samples[0].question_id, found.samples[0].image_id) == first
    assert json.loads(found.samples[0].answer) == [answers[0]] * 7 + [answers[1]] * 3
    assert found.benchmark.rule is None, "the rule `vqa` would call a sentence wrong for its length"
    assert judge(answers[0], found.samples[0].answer).label in (0, None)


def test_vqav2_joins_by_id_and_keeps_pictures_together(tmp_path):
    write_vqav2(tmp_path)
    write_vqav2(tmp_path, part="train")
    found = dataset("vqav2", tmp_path)
    assert column(found, "answer_type") == ["other"] * 3
    assert same_fold(found, "vqav2-262148000", "vqav2-262148001")
    assert dataset("vqav2:train", tmp_path).samples[0].image_id == "COCO_train2014_000000262148.jpg"


def test_gqa(tmp_path):
    write_gqa(tmp_path)
    found = dataset("gqa", tmp_path)
    assert texts(found)[0] == ("gqa-20968379", "n288870.jpg", "Do the shorts have dark color?", "yes")
    assert column(found, "structural") == ["verify"] * 2


def test_scienceqa_asks_its_pictures_of_one_part(tmp_path):
    write_scienceqa(tmp_path)
    found = dataset("scienceqa", tmp_path)
    question = "Fish live in water.\nWhich is a fish?\nA. cat\nB. cod\nC. cow"
    assert texts(found) == [("scienceqa-4", "test/4/image.png", question, "B")]
    assert found.left_out == {"published without a picture": 1}
    assert [each.question_id for each in dataset("scienceqa:train", tmp_path).samples] == ["scienceqa-1"]


def test_captionqa_from_a_folder(tmp_path):
    write_parquet(tmp_path / "data", images=2)
    found = dataset("captionqa:natural,document", tmp_path / "data", pictures_dir=tmp_path / "pictures")
    assert set(column(found, "domain")) == {"natural", "document"}
    assert all((folder_path(found.images_dir) / each.image_id).is_file() for each in found.samples)
    assert all(
        judge(each.answer, each.answer, question=each.question, rule="choice").label == 0 for each in found.samples
    )
    assert found.left_out == {"question that CaptionQA's own task leaves out": 2}
    units = {each.extra["fold_unit"]: each.extra["fold"] for each in found.samples}
    assert len(units) == 4, "one for each picture"


def write_tsv(path: Path) -> None:
    """Pictures as base64; the third row has that of the first by its index, the fourth is a file."""
    rows = [
        ["index", "image", "image_path", "question", "hint", "A", "B", "C", "answer", "l2-category", "split"],
        ["0", base64.b64encode(png(0)).decode(), "", "Which?", "look", "NA", "None", "", "A", "shape", "dev"],
        ["1", base64.b64encode(png(1)).decode(), "", "Is it red?", "", "", "", "", "Yes", "colour", "dev"],
        ["1000000", "0", "", "Which?", "look", "None", "NA", "", "B", "shape", "dev"],
    ]
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")


def test_vlmevalkit(tmp_path):
    write_tsv(tmp_path / "Shapes_DEV.tsv")
    found = dataset("vlmevalkit:Shapes_DEV.tsv", tmp_path, pictures_dir=tmp_path / "pictures")
    assert [each.question_id for each in found.samples] == ["Shapes_DEV-0", "Shapes_DEV-1", "Shapes_DEV-1000000"]
    ask = "Please select the correct answer from the options above."
    assert found.samples[0].question == f"Hint: look\nQuestion: Which?\nOptions:\nA. NA\nB. None\n{ask}"
    assert found.samples[1].question == "Is it red?"
    assert [each.answer for each in found.samples] == ["A", "Yes", "B"]
    assert found.samples[0].image_id == found.samples[2].image_id != found.samples[1].image_id
    assert same_fold(found, "Shapes_DEV-0", "Shapes_DEV-1000000")
    assert column(found, "l2-category") == ["shape", "colour", "shape"]
    assert (folder_path(found.images_dir) / found.samples[0].image_id).read_bytes() == png(0)


def write_hub(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")


def held(seed: int) -> dict:
    return {"bytes": png(seed), "path": f"{seed}.png"}


def test_lmms_eval_by_common_names(tmp_path):
    rows = [
        {"id": "7", "image": held(1), "question": "Which?", "options": ["cat", "dog"], "answer": 1, "category": "x"},
        {"id": "8", "image": held(1), "question": "Which?", "options": ["cow", "dog"], "answer": 0, "category": "y"},
    ]
    write_hub(tmp_path / "Pets", rows)
    found = dataset("lmms-eval:Pets:test", tmp_path, pictures_dir=tmp_path / "pictures")
    assert [(each.question_id, each.answer) for each in found.samples] == [("Pets-test-7", "B"), ("Pets-test-8", "A")]
    assert found.samples[0].question == "Which?\nA. cat\nB. dog"
    assert "question_id from `id`, question from `question`" in found.notes[0]
    assert column(found, "category") == ["x", "y"] and same_fold(found, "Pets-test-7", "Pets-test-8")


def test_lmms_eval_by_given_names_and_ids_of_content(tmp_path):
    rows = [{"picture": held(n), "asked": f"How many? {n}", "said": str(n)} for n in range(3)]
    names = {"question": "asked", "answer": "said", "image": "picture"}
    ids = []
    for place, order in enumerate([rows, rows[::-1]]):
        write_hub(tmp_path / str(place) / "Count", order)
        found = dataset(
            "lmms-eval:Count:test", tmp_path / str(place), columns=names, pictures_dir=tmp_path / "pictures"
        )
        ids.append({each.question: each.question_id for each in found.samples})
    assert ids[0] == ids[1] and len(set(ids[0].values())) == 3


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        ({"image": held(1), "question": "a"}, {}, "has no field that is the answer"),
        (
            {"image": held(1), "question": "a", "answer": "b", "answers": ["b"]},
            {},
            "choose one with `column` answer=NAME",
        ),
        ({"image": held(1), "question": "a", "answer": "b"}, {"question": "text"}, "there is no field 'text'"),
        ({"image": held(1), "question": "a", "answer": "b"}, {"picture": "image"}, "is none of question_id"),
    ],
)
def test_lmms_eval_never_guesses_between_fields(tmp_path, row, columns, said):
    write_hub(tmp_path / "X", [row])
    with pytest.raises(InputError) as error:
        dataset("lmms-eval:X:test", tmp_path, columns=columns, pictures_dir=tmp_path / "p")
    assert said in str(error.value)


def test_ids_and_folds_do_not_depend_on_the_order_of_rows(tmp_path):
    write_pope(tmp_path / "one", scenes=8, parts=["random"])
    rows = list(read_lines(tmp_path / "one/output/coco/coco_pope_random.json"))
    random.Random(0).shuffle(rows)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/coco_pope_random.json").write_text("\n".join(map(json.dumps, rows)))
    one, two = (dataset("pope:random", tmp_path / name) for name in ("one", "two"))
    assert {each.question_id: each for each in one.samples} == {each.question_id: each for each in two.samples}
    assert one.split == two.split
    fewer = {each.question_id: each.extra["fold"] for each in dataset("pope:random", tmp_path / "one").samples[:9]}
    assert all(fewer[each.question_id] == each.extra["fold"] for each in one.samples if each.question_id in fewer)


def test_equal_files_under_two_names_are_in_one_fold(tmp_path):
    write_pope(tmp_path, scenes=8, parts=["random"], pictures=True)
    apart = dataset("pope:random", tmp_path)
    folds = {each.image_id: each.extra["fold"] for each in apart.samples}
    first = coco(0)
    other = next(name for name, fold in folds.items() if fold != folds[first])
    (tmp_path / "val2014" / other).write_bytes((tmp_path / "val2014" / first).read_bytes())
    tied = {each.image_id: each.extra["fold"] for each in dataset("pope:random", tmp_path).samples}
    assert tied[first] == tied[other] == folds[min(first, other)]
    assert {name for name in folds if folds[name] != tied[name]} <= {first, other}


def test_rows_go_to_extract_and_into_a_frame(tmp_path):
    write_pope(tmp_path, parts=["random"])
    found = dataset("pope:random", tmp_path)
    assert list(found.rows[0])[:5] == ["question_id", "image_id", "question", "answer", "dataset"]
    assert list(found.rows[0])[-2:] == ["fold_unit", "fold"]
    assert len(found.frame()) == len(found.samples)


MATERIAL = Path(__file__).parents[1] / "../shared/data/benchmarks"


@pytest.mark.skipif(not MATERIAL.is_dir(), reason="the published slices are not here")
@pytest.mark.parametrize(
    ("name", "folder", "questions", "truths", "left_out"),
    [
        ("pope:random", "pope", 3000, {"yes": 1500, "no": 1500}, 0),
        ("repope:random", "", 3000, {"yes": 1159, "no": 1615, "": 226}, 0),
        ("amber", "amber", 1507, {"yes": 517, "no": 990}, 100),
        ("hallusionbench", "hallusionbench", 242, {"yes": 95, "no": 147}, 41),
        ("haloquest", "haloquest", 200, None, 0),
    ],
)
def test_the_published_slices(name, folder, questions, truths, left_out):
    found = dataset(name, MATERIAL / folder)
    assert len(found.samples) == questions and not found.failures
    assert sum(found.left_out.values()) == left_out
    assert truths is None or Counter(each.answer for each in found.samples) == truths
    images, units = ({each: set() for each in column(found, "fold_unit")} for _ in range(2))
    for each in found.samples:
        units[each.extra["fold_unit"]].add(each.extra["fold"])
    assert all(len(folds) == 1 for folds in units.values()) and images
    if name.startswith("repope"):
        changed = [each for each in found.samples if each.extra["relabelled"] == "changed"]
        assert Counter(each.extra["pope_answer"] for each in changed) == {"yes": 139, "no": 5}
