"""CaptionQA without a model: rows to items, prompts, orders, scores, results and metrics."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from captionqa_data import BAD_KEY, DOMAINS, FEATURES, QUESTIONS, splits, write_parquet
from datasets import Dataset, DatasetDict
from PIL import Image

from halp_probe.errors import InputError
from halp_probe.shards.columns import RESERVED_COLUMNS
from halp_probe.task_files.caption_qa import read_captions, read_images, read_questions, write_results
from halp_probe.task_files.captionqa_rows import read_rows
from halp_probe.task_files.pictures import keep_picture
from halp_probe.tasks.caption_qa import CAPTION_QA, SYSTEM_WITH_CAPTION, QaItem, score
from halp_probe.tasks.caption_qa_items import AskingOptions, QaQuestion, QaRow, make_items
from halp_probe.tasks.caption_qa_options import (
    asks_for_no_other,
    declines,
    is_yes_no_by_benchmark,
    stable_order,
)
from halp_probe.tasks.caption_qa_results import Tally, metrics, results
from halp_probe.tasks.captions import CAPTION, CaptionItem, captions

CANNOT = "Cannot answer from the image"
COLOURS = ("red", "blue", "green")


def question(text="Which colour?", choices=COLOURS, answer="red", categories=("Attribute", "Shapes")):
    return QaQuestion(question=text, choices=tuple(choices), answer=answer, categories=tuple(categories), source="made")


def row(image_id="nat_001", *questions, place=1, **given):
    return QaRow(
        place=place,
        image_id=image_id,
        split="natural",
        questions=questions or (question(),),
        **{"image": "a.png", **given},
    )


def item(options=("blue", "red", "green", CANNOT), right=1, **given):
    return QaItem(
        image_id="nat_001",
        index=0,
        image="a.png",
        question="Which colour?",
        choices=COLOURS,
        answer="red",
        options=options,
        right=right,
        categories=("Attribute",),
        source="s",
        split="natural",
        **given,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captionqa")
    write_parquet(folder, images=2, seed=40)
    return folder


def read(dataset: Path | str, tmp_path: Path, split="all", **given):
    asked = {"shuffle": "stable", "seed": 0, "captions_file": None, **given}
    return read_questions(str(dataset), split, tmp_path / "images", **asked)


# ---- prompts and verdicts


def test_the_prompt_on_an_image_is_the_benchmark_s():
    sample = CAPTION_QA.prompt(item())
    assert sample.question == (
        "Question:\nWhich colour?\n\nOptions:\nA. blue\nB. red\nC. green\nD. Cannot answer from the image\n\n"
        "Answer with just the letter (A, B, C, etc.) of the correct option."
    )
    assert (sample.question_id, sample.image_id, sample.answer) == ("nat_001#0", "a.png", "red")
    assert sample.images is None and not set(sample.extra) & RESERVED_COLUMNS
    assert sample.extra["category"] == "Attribute" and sample.extra["n_choices"] == "3"


def test_the_prompt_on_a_caption_shows_it_and_no_image(data, tmp_path):
    (tmp_path / "captions.json").write_text(json.dumps({"nat_001": "A {red} star."}))
    given = read(data, tmp_path, "natural", captions_file=tmp_path / "captions.json")
    sample = given.task.prompt(given.items[0])
    assert sample.question.startswith(
        "Caption:\nA {red} star.\n\nQuestion:\n" + given.items[0].question + "\n\nOptions:\nA. "
    )
    assert sample.question.endswith("\n\nAnswer:") and sample.images == ()
    assert given.task.system == SYSTEM_WITH_CAPTION
    shown = {option for each in given.items for option in each.options}
    assert "Cannot answer from the caption" in shown and CANNOT not in shown
    missing = [failure for failure in given.failures if failure.question_id.startswith("nat_002#")]
    assert len(missing) == QUESTIONS and {failure.reason for failure in missing} == {
        "there is no caption of this image"
    }
    assert not (tmp_path / "images").exists()


def test_an_item_comes_back_from_what_a_shard_holds():
    one = item()
    assert CAPTION_QA.item(CAPTION_QA.sample(one).extra["task_item"]) == one


@pytest.mark.parametrize(
    ("reply", "points", "label"),
    [("B", 1, 0), ("A", 0, 1), ("Answer: C", 0, 1), ("D", 1 / 3 + 0.05, None), ("A or B", 0, None), ("", 0, None)],
)
def test_score_and_verdict(reply, points, label):
    one = item()
    assert score(one, CAPTION_QA.parse(one, reply)) == pytest.approx(points)
    verdict = CAPTION_QA.verdict(one, reply)
    assert verdict.label == label and verdict.truth == "red" and verdict.reason
    assert verdict.answer == ("" if reply in ("A or B", "") else one.options["ABCD".index(reply[-1])])


def test_declining_scores_by_the_choices_of_the_data_set():
    """One of five choices, though six options are shown."""
    five = item(options=("a", "b", "c", "d", "e", CANNOT), right=0)
    five = QaItem(**{**vars(five), "choices": ("a", "b", "c", "d", "e")})
    assert score(five, CAPTION_QA.parse(five, "F")) == pytest.approx(0.25)


def test_declining_is_right_where_it_is_the_answer():
    one = item(options=("red", CANNOT), right=1)
    assert score(one, CAPTION_QA.parse(one, "B")) == 1 and CAPTION_QA.verdict(one, "B").label == 0


# ---- options and their order


@pytest.mark.parametrize(
    ("text", "choices", "ours", "original"),
    [
        ("Which colour?", ["red", "blue"], False, False),
        ("Is there a dog?", ["Yes", "No"], True, True),
        ("Is there a dog?", ["Yes, two", "No.", "yes"], True, True),
        ("Is it a dog or a cat?", ["dog", "cat"], False, True),
        ("What falls?", ["Snow", "Yesterday's leaves"], False, True),
        ("What is it?", ["North", "yes"], False, True),
        ("What is it?", ["not seen", "yes"], False, True),
        ("Island or sea?", ["island", "sea"], False, False),
        ("IS IT RED?", ["it is", "it isn't"], False, True),
        ("Which colour?", ["red", "Cannot answer from the image"], True, False),
        ("Which colour?", ["red", "can't answer"], True, False),
    ],
)
def test_which_questions_show_no_further_option(text, choices, ours, original):
    assert (asks_for_no_other(text, choices), is_yes_no_by_benchmark(text, choices)) == (ours, original)


def test_what_declines():
    assert all(map(declines, [CANNOT, "cannot answer", "Can't answer this.", "Can not answer from the caption"]))
    assert not any(map(declines, ["None of the above", "Not visible", "can", ""]))


def test_the_stable_order_hangs_on_nothing_else(tmp_path):
    rows = [row(f"nat_{n:03d}", question(), question("Which one?"), place=n) for n in range(40)]
    whole = {one.key: one.options for one in make_items(rows, AskingOptions(seed=3))[0]}
    alone = {
        one.key: one.options for each in reversed(rows[::3]) for one in make_items([each], AskingOptions(seed=3))[0]
    }
    assert alone == {key: whole[key] for key in alone}
    assert {one.key: one.options for one in make_items(rows, AskingOptions(seed=4))[0]} != whole
    code = "from halp_probe.tasks.caption_qa_options import stable_order; print(stable_order(3)('nat_001', 1, 6))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert said == {f"{stable_order(3)('nat_001', 1, 6)}\n"} == {"[4, 0, 1, 5, 3, 2]\n"}


def test_every_order_is_as_likely():
    drawn = Counter(tuple(stable_order(0)(f"id{n}", 0, 3)) for n in range(6000))
    assert len(drawn) == 6 and all(abs(n - 1000) < 5 * (1000 * 5 / 6) ** 0.5 for n in drawn.values())


def test_the_sequential_order_is_one_generator_over_what_the_benchmark_asks():
    """It draws for every question with an image, two choices and an answer among them, also where we ask none."""
    rows = [
        row("a", question(), question(answer="purple"), question("Is it?", ["dog", "cat"], "cat")),
        row("b", question(), images=0, image=None, place=2),
        row("c", question(choices=["red"]), question("", ["x", "y"], "y"), place=3),
        row("a", question(choices=["p", "q"], answer="q"), place=4),
        row("d", question(choices=["1", "2", "1"], answer="1"), images=2, place=5),
        row("e", question("What falls?", ["Snow", "Yes"], "Snow"), question(), place=6),
    ]
    items, failures = make_items(rows, AskingOptions(shuffle="sequential", seed=5))
    generator = random.Random(5)
    expected = {}
    for key, options in {
        "a#0": [*COLOURS, CANNOT], "a#2": ["dog", "cat"], "c#1": ["x", "y", CANNOT], "a again": ["p", "q", CANNOT],
        "d#0": ["1", "2", "1", CANNOT], "e#0": ["Snow", "Yes"], "e#1": [*COLOURS, CANNOT],
    }.items():  # fmt: skip
        places = list(range(len(options)))
        generator.shuffle(places)
        expected[key] = tuple(options[place] for place in places)
    assert {one.key: one.options for one in items} == {key: expected[key] for key in ("a#0", "a#2", "e#0", "e#1")}
    assert [failure.question_id for failure in failures] == ["a#1", "b#0", "c#0", "c#1", "a (row 4)#0", "d#0"]


# ---- rows that can be none

TROUBLES = {
    "blank question": question(" "),
    "1 choices; two are needed": question(choices=["red"]),
    "0 choices; two are needed": question(choices=[]),
    "one of its choices is blank": question(choices=["red", " "]),
    "its answer is not text": question(answer=None),
    "the answer 'pink' is none of the choices": question(answer="pink"),
    "the answer 'x' is several of the choices": question(choices=["x", " x", "y"], answer="x"),
    "31 options; there are 26 letters": question(choices=list(map(str, range(30))), answer="7"),
}


@pytest.mark.parametrize("reason", TROUBLES)
def test_a_question_that_cannot_be_asked_shifts_no_other(reason):
    good = [question("One?"), question("Two?", answer="blue")]
    whole = make_items([row("a", *good), row("b", *good, place=2)], AskingOptions())[0]
    for place in range(3):
        asked = [*good[:place], TROUBLES[reason], *good[place:]]
        items, failures = make_items([row("a", *asked), row("b", *good, place=2)], AskingOptions())
        assert [(f.question_id, f.stage, f.reason) for f in failures] == [(f"a#{place}", "data", reason)]
        assert [one.question for one in items] == [one.question for one in whole]
        assert [one for one in items if one.image_id == "b"] == whole[2:]


@pytest.mark.parametrize(
    ("bad", "name", "reason"),
    [
        (row("b", images=0, image=None, place=2), "b#0", "it has no image"),
        (row("b", images=3, image=None, place=2), "b#0", "it has 3 images; one is expected"),
        (row("b", image=None, trouble="its image cannot be read: x", place=2), "b#0", "its image cannot be read: x"),
        (row(None, place=2), "row 2#0", "it has no id of one line"),
        (row("a", question("Other?"), place=2), "a (row 2)#0", "row 1 has the same id"),
        (row("a", place=2, alone=True), "a (row 2)#0", "row 1 has the same id"),
        (QaRow(place=2, image_id="b", split="natural", questions=(), image="b.png"), "b", "it has no questions"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(bad, name, reason):
    items, failures = make_items([row("a"), bad, row("c", place=3)], AskingOptions())
    assert [one.key for one in items] == ["a#0", "c#0"]
    assert [(failure.question_id, failure.reason) for failure in failures] == [(name, reason)]


def test_rows_of_one_question_count_on_under_one_id():
    rows = [row("a", question(f"{n}?"), place=n, alone=True) for n in (1, 2)]
    other = row("a", place=3, alone=True, image="other.png")
    items, failures = make_items([*rows, other], AskingOptions())
    assert [(one.key, one.question) for one in items] == [("a#0", "1?"), ("a#1", "2?")]
    assert [failure.question_id for failure in failures] == ["a (row 3)#0"]


def test_a_wrong_choice_that_is_there_twice_is_no_trouble():
    assert len(make_items([row("a", question(choices=["red", "x", "x"]))], AskingOptions())[0]) == 1


# ---- files


def test_the_data_that_tests_make_has_one_bad_key_a_split(data, tmp_path):
    given = read(data, tmp_path)
    assert len(given.items) == 4 * (2 * QUESTIONS - 1)
    assert [failure.question_id for failure in given.failures] == [f"{each}_001#{BAD_KEY}" for each in DOMAINS.values()]
    assert {len(one.options) for one in given.items} == {2, 5}
    assert len({one.category for one in given.items}) == 4


def _as_json_rows(rows: Dataset, folder: Path) -> list[dict]:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    found = []
    for block in rows.with_format("arrow").iter(batch_size=100):
        for each in block.to_pylist():
            path = f"pictures/{each['id']}.png"
            (folder / path).write_bytes(each.pop("images")[0]["bytes"])
            found.append({**each, "image_paths": [path]})
    return found


def _save_json(rows: DatasetDict, folder: Path) -> Path:
    for split in rows:
        (folder / f"{split}.json").write_text(json.dumps(_as_json_rows(rows[split], folder), ensure_ascii=False))
    return folder


def _save_jsonl(rows: DatasetDict, folder: Path) -> Path:
    lines = [json.dumps(each, ensure_ascii=False) for split in rows for each in _as_json_rows(rows[split], folder)]
    (folder / "all.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder / "all.jsonl"


def _save_parquet(rows: DatasetDict, folder: Path) -> Path:
    for split in rows:
        rows[split].to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def _save_shards(rows: DatasetDict, folder: Path) -> Path:
    for split in rows:
        for place in range(2):
            rows[split].select([place]).to_parquet(folder / f"{split}-0000{place}-of-00002.parquet")
    return folder


def _save_to_disk(rows: DatasetDict, folder: Path) -> Path:
    rows.save_to_disk(folder / "disk")
    return folder / "disk"


@pytest.mark.parametrize("save", [_save_json, _save_jsonl, _save_parquet, _save_shards, _save_to_disk])
def test_every_kind_of_file_gives_the_same_items(save, data, tmp_path):
    folder = tmp_path / "[odd] name"
    folder.mkdir()
    saved = save(splits(images=2, seed=40), folder)
    there, here = read(saved, tmp_path), read(data, tmp_path)
    if saved.is_file():  # whatever the split is called
        there = [QaItem(**{**vars(one), "split": one.split}) for one in there.items]
        assert {one.split for one in there} == {"all"}
        assert [{**vars(one), "split": ""} for one in there] == [{**vars(one), "split": ""} for one in here.items]
    else:
        assert there.items == here.items and there.failures == here.failures


def test_the_hub_gives_the_same_items(data, tmp_path, monkeypatch):
    made = splits(images=2, seed=40)
    asked = []

    def load_dataset(name, split=None):
        asked.append((name, split))
        return made if split is None else made[split]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert read("Borise/CaptionQA", tmp_path).items == read(data, tmp_path).items
    assert read("Borise/CaptionQA", tmp_path, "document").items == read(data, tmp_path, "document").items
    made["all"] = Dataset.from_list(list(made["ecommerce"]), features=FEATURES)
    assert {one.image_id for one in read("Borise/CaptionQA", tmp_path).items} == {"eco_001", "eco_002"}
    assert asked == [("Borise/CaptionQA", None), ("Borise/CaptionQA", "document"), ("Borise/CaptionQA", None)]


def test_questions_stored_as_a_record_of_lists(tmp_path):
    rows = [{"id": 7, "image_paths": "a.png", "questions": {"question": ["One?", "Two?"], "choices": [["x", "y"]] * 2,
             "answer": ["x", "y"], "category": ["c", None], "source": [None, "s"]}}]  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(rows))
    _picture(tmp_path / "a.png")
    items = read(tmp_path, tmp_path).items
    assert [(one.key, one.answer, one.category, one.source) for one in items] == [
        ("7#0", "x", "c", ""),
        ("7#1", "y", "", "s"),
    ]


def test_questions_that_are_no_records_are_failures(tmp_path):
    good = {"question": "Which?", "choices": ["x", "y"], "answer": "x"}
    ragged = {"question": ["1?", "2?"], "choices": [["x", "y"]], "answer": ["x", "x"]}
    held = [good, ["text", None, good], ragged, json.dumps([good]), 3]
    rows = [{"id": n, "images": "a.png", "questions": questions} for n, questions in enumerate(held)]
    rows.append({"id": 5, "images": "\0.png", "questions": [good]})
    (tmp_path / "all.json").write_text(json.dumps(rows))
    _picture(tmp_path / "a.png")
    given = read(tmp_path, tmp_path)
    assert [one.key for one in given.items] == ["0#0", "1#2"]
    assert [failure.question_id for failure in given.failures] == ["1#0", "1#1", "2#0", "3#0", "4#0", "5#0"]
    assert [failure.reason for failure in given.failures[:2]] == ["blank question"] * 2


def test_rows_of_one_question_are_read(tmp_path):
    rows = [{"id": "a", "images": ["a.png"], "question": f"{n}?", "choices": ["x", "y"], "answer": "x", "category": "c"}
            for n in range(2)]  # fmt: skip
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _picture(tmp_path / "a.png")
    assert [(one.key, one.question, one.category) for one in read(tmp_path, tmp_path).items] == [
        ("a#0", "0?", "c"),
        ("a#1", "1?", "c"),
    ]


def test_ids_that_two_splits_have_are_told_apart(tmp_path):
    made = splits(images=2, seed=40)
    made["document"] = made["document"].map(lambda each: {"id": each["id"].replace("doc_002", "nat_002")})
    given = read(_save_parquet(made, tmp_path), tmp_path)
    assert list(dict.fromkeys(one.image_id for one in given.items)) == [
        "nat_001", "natural/nat_002", "doc_001", "document/nat_002", "eco_001", "eco_002", "emb_001", "emb_002",
    ]  # fmt: skip
    assert len(read(tmp_path, tmp_path, "document").items) == 2 * QUESTIONS - 1


def test_pictures_keep_their_bytes_and_are_written_once(data, tmp_path):
    rows = {
        each["id"]: each["images"][0]["bytes"]
        for each in pd.read_parquet(data / "data" / "natural-00000-of-00001.parquet").to_dict("records")
    }
    files = {each.image_id: tmp_path / str(each.image) for each in read_rows(str(data), "natural", tmp_path)}
    assert {image_id: path.read_bytes() for image_id, path in files.items()} == rows
    assert all(path.name.startswith(f"{image_id}_") and path.suffix == ".png" for image_id, path in files.items())
    files["nat_001"].write_bytes(b"cut off")
    before = files["nat_002"].stat()
    list(read_rows(str(data), "natural", tmp_path))
    assert files["nat_001"].read_bytes() == rows["nat_001"]
    assert (files["nat_002"].stat().st_mtime_ns, files["nat_002"].stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(tmp_path.iterdir()) == sorted(files.values())


def test_several_runs_may_keep_the_pictures_of_one_folder(tmp_path):
    """As the jobs `qa` and `caption` of one split do, at the same time."""
    pictures = []
    for size in range(40, 80):
        buffer = io.BytesIO()
        Image.new("RGB", (size, size)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())

    def keep(_run: int) -> list[str]:
        together.wait()
        return [keep_picture(data, f"id{n}", tmp_path) for n, data in enumerate(pictures)]

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(keep, range(4)))
    assert kept == [kept[0]] * 4 and sorted(path.name for path in tmp_path.iterdir()) == sorted(kept[0])


def _picture(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)


def test_images_that_cannot_be_read_are_failures(tmp_path):
    questions = [{"question": "?", "choices": ["x", "y"], "answer": "x"}]
    (tmp_path / "text.png").write_text("no picture")
    _picture(tmp_path / "good.png")
    paths = [["gone.png"], ["text.png"], ["good.png"], [], None, ["good.png", "good.png"], [3]]
    rows = [{"id": str(n), "images": path, "questions": questions} for n, path in enumerate(paths)]
    (tmp_path / "all.json").write_text(json.dumps(rows))
    given = read(tmp_path, tmp_path)
    assert [one.key for one in given.items] == ["2#0"]
    reasons = {failure.question_id: failure.reason for failure in given.failures}
    assert (
        "gone.png cannot be read: No such file" in reasons["0#0"]
        and "are no image that Pillow can read" in reasons["1#0"]
    )
    assert reasons["3#0"] == reasons["4#0"] == "it has no image" and "2 images" in reasons["5#0"]
    assert "neither bytes nor a path but int" in reasons["6#0"]
    images = read_images(str(tmp_path), "all", tmp_path / "images", "Describe.")
    assert [one.image_id for one in images.items] == ["2"] and len(images.failures) == 6


def test_what_cannot_be_read_is_named(data, tmp_path, monkeypatch):
    def refused(dataset: Path, split="all") -> str:
        with pytest.raises(InputError) as error:
            read(dataset, tmp_path, split)
        return str(error.value)

    (tmp_path / "natural.json").write_text("[]")
    assert "no split document, ecommerce, embodiedai; it has natural" in refused(tmp_path)
    assert "no split document" in refused(tmp_path, "document") and "SPLIT.parquet" in refused(tmp_path, "document")
    assert "no rows in the split natural" in refused(tmp_path, "natural")
    (tmp_path / "natural.json").write_text('{"id": 1}')
    assert "not a list of rows" in refused(tmp_path, "natural")
    (tmp_path / "natural.json").write_text("{")
    assert "is not JSON" in refused(tmp_path, "natural")
    (tmp_path / "a.parquet").write_text("no parquet")
    assert "cannot be read as parquet" in refused(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("")
    assert "must end in one of .parquet" in refused(tmp_path / "a.csv")
    assert "cannot be loaded" in refused(Path("Nobody/Nothing"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "halp_probe[tasks]" in refused(Path("Borise/CaptionQA"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "halp_probe[tasks]" in refused(data)


def test_captions_that_cannot_be_read_are_named(tmp_path):
    for text, reason in (
        ("{", "is not JSON"),
        ("[]", "not a JSON object"),
        ('{"a": "x", "b": 3}', "first: that of 'b'"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(InputError, match=reason):
            read_captions(tmp_path / "c.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_captions(tmp_path / "none.json")


def test_captions_of_another_split_are_refused(data, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"nat_001": "A star."}))
    with pytest.raises(InputError, match=r"none of the images of `split` document \(first: 'doc_001'"):
        read(data, tmp_path, "document", captions_file=tmp_path / "c.json")


def test_a_single_parquet_file_is_all_of_its_split(data, tmp_path):
    shutil.copy(data / "data" / "document-00000-of-00001.parquet", tmp_path / "mine.parquet")
    given = read(tmp_path / "mine.parquet", tmp_path, "natural")
    assert {one.split for one in given.items} == {"natural"} and {one.image_id for one in given.items} == {
        "doc_001",
        "doc_002",
    }


# ---- results


def test_results_and_metrics_byte_for_byte(tmp_path):
    one, two = item(), item(options=("yes", "no"), right=0)
    two = QaItem(**{**vars(two), "image_id": "doc_1", "choices": ("yes", "no"), "answer": "yes ", "categories": ()})
    answers = [
        (one, "Answer: B"),
        (two, "B — „no“"),
        (QaItem(**{**vars(one), "index": 1}), "D"),
        (QaItem(**{**vars(one), "index": 2}), "?"),
    ]
    write_results(tmp_path / "r.json", answers, "Qwen/Qwen3-VL-8B-Instruct", "natural")
    expected = """{
  "nat_001": [
    {
      "question": "Which colour?",
      "choices": [
        "red",
        "blue",
        "green"
      ],
      "ground_truth": "red",
      "model_answer": "red",
      "model_response": "Answer: B",
      "is_correct": true,
      "is_cannot_answer": false,
      "score": 1.0,
      "category": "Attribute"
    },
    {
      "question": "Which colour?",
      "choices": [
        "red",
        "blue",
        "green"
      ],
      "ground_truth": "red",
      "model_answer": "Cannot answer from the image",
      "model_response": "D",
      "is_correct": false,
      "is_cannot_answer": true,
      "score": 0.3833,
      "category": "Attribute"
    },
    {
      "question": "Which colour?",
      "choices": [
        "red",
        "blue",
        "green"
      ],
      "ground_truth": "red",
      "model_answer": null,
      "model_response": "?",
      "is_correct": false,
      "is_cannot_answer": false,
      "score": 0.0,
      "category": "Attribute"
    }
  ],
  "doc_1": [
    {
      "question": "Which colour?",
      "choices": [
        "yes",
        "no"
      ],
      "ground_truth": "yes ",
      "model_answer": "no",
      "model_response": "B — „no“",
      "is_correct": false,
      "is_cannot_answer": false,
      "score": 0.0,
      "category": ""
    }
  ]
}"""
    assert (tmp_path / "r.json").read_bytes() == expected.encode()
    expected = """{
  "total_questions": 4,
  "correct_answers": 1,
  "overall_accuracy": 0.25,
  "cannot_answer_count": 1,
  "total_score": 1.38,
  "average_score": 0.3458,
  "category_metrics": {
    "Attribute": {
      "total": 3,
      "correct": 1,
      "cannot_answer": 1,
      "total_score": 1.3833,
      "accuracy": 0.3333333333333333,
      "average_score": 0.4611
    },
    "": {
      "total": 1,
      "correct": 0,
      "cannot_answer": 0,
      "total_score": 0.0,
      "accuracy": 0.0,
      "average_score": 0.0
    }
  },
  "model": "Qwen/Qwen3-VL-8B-Instruct",
  "split": "natural"
}"""
    assert (tmp_path / "r_metrics.json").read_bytes() == expected.encode()


def test_metrics_are_those_of_a_table(data, tmp_path):
    items = read(data, tmp_path).items
    draws = random.Random(1)
    answers = [(one, draws.choice("ABCDE?")) for one in items]
    found = metrics(results(answers), "m", "all")
    table = pd.DataFrame(
        [{"category": one.categories[0], "truth": one.answer, "cannot": one.options["ABCDE?".index(reply)] == CANNOT,
          "said": one.options["ABCDE?".index(reply)], "n": len(one.choices)}
         if "ABCDE?".index(reply) < len(one.options) else
         {"category": one.categories[0], "truth": one.answer, "cannot": False, "said": None, "n": len(one.choices)}
         for one, reply in answers]
    )  # fmt: skip
    table["right"] = table.said == table.truth
    table["score"] = table.right + table.cannot * (1 / table.n + 0.05).round(4)
    assert found["total_questions"] == len(table) and found["correct_answers"] == table.right.sum() > 3
    assert found["cannot_answer_count"] == table.cannot.sum() > 3
    assert found["overall_accuracy"] == pytest.approx(table.right.mean(), abs=5e-5)
    assert found["total_score"] == pytest.approx(table.score.sum(), abs=5e-3)
    assert found["average_score"] == pytest.approx(table.score.mean(), abs=5e-5)
    for category, rows in table.groupby("category"):
        each = found["category_metrics"][category]
        assert (each["total"], each["correct"], each["cannot_answer"]) == (
            len(rows),
            rows.right.sum(),
            rows.cannot.sum(),
        )
        assert each["average_score"] == pytest.approx(rows.score.mean()) and each["accuracy"] == pytest.approx(
            rows.right.mean()
        )
    tally = Tally(items)
    for one, reply in [*answers[:3], *answers]:
        tally.add(one.key, reply)
    assert str(tally) == (
        f"processed={len(table)} total_score={table.score.sum():.2f} avg_score={table.score.mean():.4f} "
        f"accuracy={100 * table.right.mean():.2f}% cannot_answer={table.cannot.sum()}"
    )


def test_nothing_answered_has_metrics_too():
    assert metrics({}, "m", "all")["overall_accuracy"] == 0 and str(Tally([])).startswith(
        "processed=0 total_score=0.00 "
    )


def test_captions_are_what_follows_the_thinking():
    replies = {"a": " A star. ", "b": "<think>a star?</think>\nA cross.", "c": "<think>a", "d": " "}
    items = [
        CaptionItem(image_id=image_id, image=f"{image_id}.png", prompt="Describe this image.", split="natural")
        for image_id in replies
    ]
    assert captions(zip(items, replies.values(), strict=True)) == {"a": "A star.", "b": "A cross."}
    assert CAPTION.verdict(items[0], "A star.").label is None
