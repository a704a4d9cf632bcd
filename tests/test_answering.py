"""Tasks answered by a loaded model: what is said, what is kept, and how a run goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from halp_probe import cli
from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply, ReplyLog, fingerprint
from halp_probe.answering.run import answer_task
from halp_probe.commands.task_run import run_task
from halp_probe.engine.sampling import Decoding
from halp_probe.errors import InputError
from halp_probe.labels.verdict import unknown
from halp_probe.models.options import ModelOptions
from halp_probe.records import Failure, Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards
from halp_probe.task_files.table import TableOptions, read_vqa
from halp_probe.tasks.task import Task, TaskInput

pytestmark = pytest.mark.slow

MAIN = "import sys; from halp_probe.cli import main; sys.exit(main())"
OPTIONS = AnswerOptions(model=ModelOptions(model="shapes"), template_options=None, max_new_tokens=8, batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqa")
    write_dataset(folder, n_scenes=12, questions_a_scene=4, seed=50)
    return folder


def vqa(data: Path, out: Path, *flags: str) -> int:
    table = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images")]
    return cli.main(["vqa", *table, "--model", "shapes", "--output-dir", str(out), "--max-tokens", "8", *flags])


def given(data: Path):
    return read_vqa(data / "vqa.csv", data / "images", TableOptions(pictures_dir=data / "pictures"))


def texts(answered) -> dict[str, str]:
    return {key: reply.text for key, reply in answered.replies.items()}


def test_answers_and_labels_are_those_of_an_extraction(data, tmp_path):
    table = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images")]
    extraction = ["extract", *table, "--model", "shapes", "--output-dir", str(tmp_path / "x"), "--max-new-tokens", "8"]
    assert cli.main(extraction) == 0
    assert cli.main(["label", "--shards", str(tmp_path / "x"), "--out", str(tmp_path / "x.csv")]) == 0
    assert vqa(data, tmp_path) == 0
    shards = open_shards(tmp_path / "x")
    captured = dict(zip(shards.question_ids, shards.text("answer"), strict=True))
    rows = {row["question_id"]: row for row in csv.DictReader((tmp_path / "vqa_shapes.csv").open())}
    labelled = {row["question_id"]: row for row in csv.DictReader((tmp_path / "x.csv").open())}
    assert len(rows) == 48
    assert {key: row["model_answer"] for key, row in rows.items()} == captured
    assert rows == labelled


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_the_batch_s_size_changes_no_answer(data, tmp_path, batch_size):
    alone = answer_task(given(data), replace(OPTIONS, batch_tokens=1), tmp_path / "alone.csv")
    together = answer_task(given(data), replace(OPTIONS, batch_size=batch_size), tmp_path / "together.csv")
    assert texts(together) == texts(alone)
    assert all(reply.finished for reply in alone.replies.values())


def test_a_reply_that_was_cut_off_says_so(data, tmp_path):
    long = answer_task(given(data), OPTIONS, tmp_path / "long.csv")
    short = answer_task(given(data), replace(OPTIONS, max_new_tokens=1), tmp_path / "short.csv")
    assert {key for key, reply in short.replies.items() if not reply.finished} == set(long.replies)


def test_sampled_replies_depend_on_seed_and_key_alone(data, tmp_path):
    hot = replace(OPTIONS, decoding=Decoding(temperature=2.0, top_p=0.95, seed=3))
    first = answer_task(given(data), hot, tmp_path / "first.csv")
    lines = (tmp_path / "first.replies.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.replies.jsonl").write_bytes(b"".join(lines[:20]))
    again = answer_task(given(data), hot, tmp_path / "cut.csv")
    other = answer_task(given(data), replace(hot, decoding=replace(hot.decoding, seed=4)), tmp_path / "other.csv")
    assert texts(again) == texts(first) != texts(other)
    with pytest.raises(InputError, match="seed is 3 there and 4 now"):
        answer_task(given(data), replace(hot, decoding=replace(hot.decoding, seed=4)), tmp_path / "first.csv")


def test_a_batch_holds_so_many_images(data, tmp_path):
    sizes = []
    kept = ReplyLog.append

    def append(self, results, attempt):
        sizes.append(len({result.image_sha256 for result in results}))
        kept(self, results, attempt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReplyLog, "append", append)
        answer_task(given(data), replace(OPTIONS, batch_size=5), tmp_path / "a.csv")
    assert [size for size in sizes if size] == [5, 5, 2]


def test_a_killed_run_goes_on(data, tmp_path):
    whole = answer_task(given(data), OPTIONS, tmp_path / "whole.csv")
    log = tmp_path / "whole.replies.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    for kept in (0, 1, 7, len(lines) - 1):
        for torn in (b"", lines[kept][: len(lines[kept]) // 2]):
            (tmp_path / "cut.replies.jsonl").write_bytes(b"".join(lines[:kept]) + torn)
            again = answer_task(given(data), OPTIONS, tmp_path / "cut.csv")
            assert texts(again) == texts(whole) and not again.stopped
            keys = [json.loads(line)["key"] for line in (tmp_path / "cut.replies.jsonl").open() if "key" in line]
            assert sorted(keys) == sorted(texts(whole))


def test_what_is_answered_is_not_asked_again(data, tmp_path, monkeypatch):
    answer_task(given(data), OPTIONS, tmp_path / "a.csv")
    before = (tmp_path / "a.replies.jsonl").read_bytes()
    monkeypatch.setattr("halp_probe.engine.batched.BatchRunner.results", None)  # would fail if it were called
    answered = answer_task(given(data), OPTIONS, tmp_path / "a.csv")
    assert len(answered.replies) == 48 and (tmp_path / "a.replies.jsonl").read_bytes() == before


def test_other_settings_are_refused_by_name(data, tmp_path):
    answer_task(given(data), OPTIONS, tmp_path / "a.csv")
    before = (tmp_path / "a.replies.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"max_new_tokens is 8 there and 9 now.*other `output_path`"):
        answer_task(given(data), replace(OPTIONS, max_new_tokens=9), tmp_path / "a.csv")
    assert (tmp_path / "a.replies.jsonl").read_bytes() == before


def test_a_prompt_that_changed_is_refused(data, tmp_path):
    answer_task(given(data), OPTIONS, tmp_path / "a.csv")
    changed = given(data)
    changed = replace(changed, items=[replace(changed.items[0], question="another?"), *changed.items[1:]])
    with pytest.raises(InputError, match=rf"{changed.items[0].question_id}.*from another prompt"):
        answer_task(changed, OPTIONS, tmp_path / "a.csv")


def test_a_reply_about_another_image_is_refused(data, tmp_path):
    copy = tmp_path / "data"
    write_dataset(copy, n_scenes=3, questions_a_scene=2, seed=50)
    answer_task(given(copy), OPTIONS, tmp_path / "a.csv")
    first, second, third = sorted((copy / "images").iterdir())
    kept = first.read_bytes()
    first.write_bytes(third.read_bytes())
    with pytest.raises(InputError, match=rf"'shapes_000050_\d' about another image than {first.name} is now"):
        answer_task(given(copy), OPTIONS, tmp_path / "a.csv")
    first.write_bytes(kept)
    second.unlink()
    assert len(answer_task(given(copy), OPTIONS, tmp_path / "a.csv").replies) == 6


def test_a_question_that_is_no_unicode_fails_alone(data, tmp_path):
    table = given(data)
    broken = replace(table, items=[replace(table.items[0], question="what \ud800?"), *table.items[1:3]])
    answered = answer_task(broken, OPTIONS, tmp_path / "a.csv")
    assert len(answered.replies) == 2
    assert [failure.reason for failure in answered.failures] == [
        "the question is not valid Unicode (surrogates not allowed)"
    ]


def test_failures_are_named_and_tried_again(data, tmp_path, capsys):
    copy = tmp_path / "data"
    write_dataset(copy, n_scenes=3, questions_a_scene=2, seed=50)
    image = next((copy / "images").iterdir())
    good = image.read_bytes()
    image.write_bytes(b"no picture")
    assert vqa(copy, tmp_path) == 0
    assert "2 failed" in capsys.readouterr().out
    failures = (tmp_path / "vqa_shapes.failures.csv").read_text()
    assert failures.count("not an image that Pillow can read") == 2
    assert len(list(csv.DictReader((tmp_path / "vqa_shapes.csv").open()))) == 4
    image.write_bytes(good)
    assert vqa(copy, tmp_path) == 0
    assert not (tmp_path / "vqa_shapes.failures.csv").exists()
    assert len(list(csv.DictReader((tmp_path / "vqa_shapes.csv").open()))) == 6
    for path in (copy / "images").iterdir():
        path.write_bytes(b"no picture")
    assert vqa(copy, tmp_path / "none") == 1


def test_an_output_that_is_a_folder_is_refused_before_anything_is_asked(data, tmp_path, capsys):
    (tmp_path / "made.csv").mkdir()
    assert vqa(data, tmp_path, "--output-path", str(tmp_path / "made.csv")) == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["made.csv"]


def test_two_items_of_one_key_are_refused(data, tmp_path):
    twice = given(data)
    with pytest.raises(InputError, match=r"two items have the key 'shapes_000050_0'"):
        answer_task(replace(twice, items=[*twice.items, twice.items[0]]), OPTIONS, tmp_path / "a.csv")


@dataclass(frozen=True)
class Item:
    key: str
    image: str
    question: str


def asks_again(wrong: str) -> Task[Item, str]:
    """A task for which one word is a bad reply."""

    def prompt(item: Item) -> Sample:
        return Sample(question_id=item.key, image_id=item.image, question=item.question, answer="")

    def again(item: Item, reply: str) -> Sample | None:
        return replace(prompt(item), question=f"again: {item.question}") if reply == wrong else None

    return Task(
        name="test",
        item_type=Item,
        prompt=prompt,
        parse=lambda _item, reply: reply,
        judge=lambda _item, _said: unknown("test", "", ""),
        system=None,
        again=again,
    )


def test_a_bad_reply_is_asked_for_once_more(data, tmp_path):
    table = given(data)
    items = [Item(each.question_id, each.image_id, each.question) for each in table.items]
    first = answer_task(table, OPTIONS, tmp_path / "first.csv")
    task = asks_again("yes")
    answered = answer_task(
        TaskInput(task=task, items=items, failures=(), images_dir=table.images_dir), OPTIONS, tmp_path / "again.csv"
    )
    repeated = {key for key, text in texts(first).items() if text == "yes"}
    assert repeated and {key for key, reply in answered.replies.items() if reply.attempt == 2} == repeated
    assert {k: v for k, v in texts(answered).items() if k not in repeated} == {
        k: v for k, v in texts(first).items() if k not in repeated
    }
    lines = (tmp_path / "again.replies.jsonl").read_bytes().splitlines(keepends=True)
    cut = [line for line in lines if b'"attempt": 2' not in line]
    (tmp_path / "cut.replies.jsonl").write_bytes(b"".join(cut))
    resumed = answer_task(
        TaskInput(task=task, items=items, failures=(), images_dir=table.images_dir), OPTIONS, tmp_path / "cut.csv"
    )
    assert texts(resumed) == texts(answered)


def test_a_signal_counts_also_when_only_failures_of_an_earlier_run_are_left(tmp_path):
    copy = tmp_path / "data"
    write_dataset(copy, n_scenes=3, questions_a_scene=2, seed=50)
    pictures = {path: path.read_bytes() for path in (copy / "images").iterdir()}
    for path in sorted(pictures)[:2]:
        path.write_bytes(b"no picture")
    one_by_one = replace(OPTIONS, batch_size=1)
    assert len(answer_task(given(copy), one_by_one, tmp_path / "a.csv").failures) == 4
    for path, content in pictures.items():
        path.write_bytes(content)

    told = []

    def watch(new) -> str:
        told.append(new)
        if len(told) == 2:  # after the first batch: the first call tells what is there
            os.kill(os.getpid(), signal.SIGTERM)
        return ""

    ran = run_task(given(copy), one_by_one, tmp_path / "a.csv", watch)
    assert (ran.answered.stopped, ran.status) == (True, 143) and ran.answered.failures
    assert run_task(given(copy), one_by_one, tmp_path / "a.csv").status == 0


def test_a_second_prompt_shows_what_the_first_one_did(tmp_path):
    copy = tmp_path / "data"
    write_dataset(copy, n_scenes=3, questions_a_scene=2, seed=50)
    table = given(copy)
    first = texts(answer_task(table, OPTIONS, tmp_path / "first.csv"))
    said, item = next((first[each.question_id], each) for each in table.items)
    path = copy / "images" / item.image_id
    good = path.read_bytes()
    items = [Item(each.question_id, each.image_id, each.question) for each in table.items]
    asked = TaskInput(task=asks_again(said), items=items, failures=(), images_dir=table.images_dir)
    answer_task(asked, OPTIONS, tmp_path / "a.csv")
    log = tmp_path / "a.replies.jsonl"
    log.write_text("".join(line for line in log.open() if '"attempt": 2' not in line))  # killed between the two
    path.write_bytes(good + b"another file")
    with pytest.raises(InputError, match=rf"about another image than {path.name} is now"):
        answer_task(asked, OPTIONS, tmp_path / "a.csv")
    path.write_bytes(good)
    assert not answer_task(asked, OPTIONS, tmp_path / "a.csv").failures


def reply(key: str, text: str = "yes", attempt: int = 1) -> Reply:
    return Reply(key=key, text=text, finished=True, asked="f", date="2026-01-01T00:00:00+00:00", attempt=attempt)


def test_a_log_keeps_what_it_was_given(tmp_path):
    path = tmp_path / "log.jsonl"
    log = ReplyLog(path, {"model": "m"})
    log.append(
        [reply("a"), Failure(question_id="b", stage="image", reason="gone"), reply("ü", "line\nbreak \u2028")], 1
    )
    log.append([reply("a", "no", 2)], 2)
    log.append([Failure(question_id="a", stage="image", reason="late")], 1)
    log.append([reply("b", "late")], 1)
    for each in (log, ReplyLog(path, {"model": "m"})):
        assert each.replies(1) == {"ü": reply("ü", "line\nbreak \u2028"), "b": reply("b", "late")}
        assert each.failures(1) == {"a": Failure(question_id="a", stage="image", reason="late")}
        assert each.replies(2) == {"a": reply("a", "no", 2)} and each.failures(2) == {}


@pytest.mark.parametrize("line", ["{}", "[]", "no json", '{"key": "a", "attempt": 1, "other": 2}'])
def test_a_file_that_is_no_log_is_left_alone(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="is not a file of replies"):
        ReplyLog(path, {})
    path.write_text(line)
    with pytest.raises(InputError, match="is not a file of replies"):
        ReplyLog(path, {})
    assert path.read_text() == line
    ReplyLog(tmp_path / "good.jsonl", {})
    with (tmp_path / "good.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="line 2 is not a reply"):
        ReplyLog(tmp_path / "good.jsonl", {})


def test_a_fingerprint_tells_prompts_apart():
    sample = Sample(question_id="a", image_id="x.png", question="q", answer="truth")
    others = [replace(sample, question="p"), replace(sample, image_id="y.png"), replace(sample, images=())]
    assert len({fingerprint(each) for each in [sample, *others]}) == 4
    assert fingerprint(replace(sample, answer="other")) == fingerprint(sample)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--engine", "server"], "--base-url URL go together"),
        (["--base-url", "http://localhost:1/v1"], "--engine server and --base-url"),
        (["--top-p", "0.9"], "top_p 0.9 would do nothing"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(data, tmp_path, capsys, flags, message):
    assert vqa(data, tmp_path, *flags) == 2
    assert message in capsys.readouterr().err


def test_a_signal_stops_a_run_which_then_goes_on(data, tmp_path):
    call = ["vqa", "--vqa-dataset", data / "vqa.csv", "--images-dir", data / "images", "--model", "shapes"]
    call += ["--output-dir", tmp_path, "--max-tokens", "8", "--batch-size", "1"]
    log = tmp_path / "vqa_shapes.replies.jsonl"
    process = subprocess.Popen([sys.executable, "-c", MAIN, *map(str, call)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    if process.returncode == 143:
        assert "Stopped as asked" in said
    assert vqa(data, tmp_path, "--batch-size", "1") == 0
    keys = [json.loads(line)["key"] for line in log.open() if '"key"' in line]
    assert len(keys) == len(set(keys)) == 48
