"""`halp-probe qa` and `caption` end to end: the files they write, and that no kill changes them."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from captionqa_data import BAD_KEY, DOMAINS, QUESTIONS, write_parquet
from command_process import start_command
from judge_server import Asked, completion, serving

from halp_probe import cli
from halp_probe.shapes.scenes import COLOURS
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

IMAGES = 3  # a split
KILLS = 20
CANNOT = "Cannot answer from the image"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captionqa")
    write_parquet(folder, images=IMAGES, seed=40)
    return folder


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def arguments(command: str, data: Path, out: Path, *flags: str, model="shapes", tokens="4") -> list[str]:
    return [command, "--dataset", str(data), "--model", model, "--output-dir", str(out), "--max-tokens", tokens, *flags]


def qa(data: Path, out: Path, *flags: str, **given: str) -> int:
    return cli.main(arguments("qa", data, out, *flags, **given))


def replies_of(log: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    keys = [line["key"] for line in lines if "text" in line]
    assert len(keys) == len(set(keys))
    return {line["key"]: line["text"] for line in lines if "text" in line}


def letter_of(prompt: str) -> str:
    """What the server says to a prompt: any of its letters, or nothing that can be read."""
    options = prompt.partition("Options:\n")[2].partition("\n\n")[0].splitlines()
    drawn = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % (len(options) + 1)
    return f"The answer is ({options[drawn][0]})." if drawn < len(options) else "I see shapes."


def said_by_server(asked: Asked, _number: int) -> tuple[int, str, dict[str, str]]:
    content = asked.body["messages"][-1]["content"]
    text = content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")
    return completion(letter_of(text) if "Options:" in text else f"A caption of {len(str(content))} characters — ★")


# ---- the format, written out by hand


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def entry_text(question: dict[str, Any], said: str | None, reply: str) -> str:
    right, declined = said == question["answer"], said == CANNOT
    score = 1.0 if right else round(1 / len(question["choices"]) + 0.05, 4) if declined else 0.0
    choices = ",\n".join(f"        {quoted(choice)}" for choice in question["choices"])
    return (
        "    {\n"
        f'      "question": {quoted(question["question"])},\n      "choices": [\n{choices}\n      ],\n'
        f'      "ground_truth": {quoted(question["answer"])},\n'
        f'      "model_answer": {"null" if said is None else quoted(said)},\n      "model_response": {quoted(reply)},\n'
        f'      "is_correct": {"true" if right else "false"},\n'
        f'      "is_cannot_answer": {"true" if declined else "false"},\n'
        f'      "score": {score},\n      "category": {quoted(question["category"][0])}\n    }}'
    )


def test_the_files_of_a_run_byte_for_byte(data, tmp_path, capsys):
    """Against the parquet as pandas reads it, the prompts as a server got them, and the format written by hand."""
    with serving(said_by_server) as server:
        flags = ("--engine", "server", "--base-url", server.url, "--split", "natural")
        assert qa(data, tmp_path, *flags, model="some/Model-8B") == 0
    prompts = [
        part["text"] for asked in server.asked for part in asked.body["messages"][-1]["content"] if "text" in part
    ]
    rows = pd.read_parquet(data / "data" / "natural-00000-of-00001.parquet")
    images, kinds = [], []
    for row in rows.itertuples():
        entries = []
        for index, question in enumerate(row.questions):
            if row.Index == 0 and index == BAD_KEY:
                continue
            prompt = next(p for p in prompts if p.startswith(f"Question:\n{question['question']}\n\nOptions:\nA. ")
                          and _shown(p) - {CANNOT} == set(question["choices"]))  # fmt: skip
            prompts.remove(prompt)
            reply = letter_of(prompt)
            lines = dict(line.split(". ") for line in prompt.split("Options:\n")[1].split("\n\n")[0].split("\n"))
            said = lines[reply.split("(")[1][0]] if "(" in reply else None
            assert (CANNOT in lines.values()) == (set(question["choices"]) != {"yes", "no"})
            entries.append(entry_text(question, said, reply))
            kinds.append("unread" if said is None else "declined" if said == CANNOT else said == question["answer"])
        images.append(f"  {quoted(row.id)}: [\n" + ",\n".join(entries) + "\n  ]")
    assert not prompts and set(kinds) == {"unread", "declined", True, False}
    out = tmp_path / "natural_qa_image_local_Model-8B.json"
    assert out.read_bytes() == ("{\n" + ",\n".join(images) + "\n}").encode()
    found = json.loads((tmp_path / "natural_qa_image_local_Model-8B_metrics.json").read_text())
    assert list(found)[-2:] == ["model", "split"] and (found["model"], found["split"]) == ("some/Model-8B", "natural")
    assert found["correct_answers"] == kinds.count(True) and found["cannot_answer_count"] == kinds.count("declined")
    said = capsys.readouterr()
    assert f"processed={len(kinds)} total_score=" in said.err
    assert f"accuracy {kinds.count(True) / len(kinds):.2%}" in said.out and "Attribute" in said.out
    assert f"{kinds.count('unread')} replies choose no option (first: 'nat_00" in said.out
    failed = list(csv.DictReader((tmp_path / "natural_qa_image_local_Model-8B.failures.csv").open()))
    assert [each["question_id"] for each in failed] == [f"nat_001#{BAD_KEY}"] and failed[0]["question_id"] in said.out


def _shown(prompt: str) -> set[str]:
    return {line[3:] for line in prompt.split("Options:\n")[1].split("\n\n")[0].split("\n")}


def test_the_bundled_model_answers_all_splits(data, tmp_path, capsys):
    assert qa(data, tmp_path) == 0
    unfinished = (tmp_path / "all_qa_image_local_shapes.replies.jsonl").read_text().count('"finished": false')
    assert f"{unfinished} replies were cut off at --max-tokens" in capsys.readouterr().out
    out = tmp_path / "all_qa_image_local_shapes.json"
    replies = replies_of(tmp_path / "all_qa_image_local_shapes.replies.jsonl")
    found = json.loads(out.read_text())
    assert list(found) == [f"{prefix}_{n:03d}" for prefix in DOMAINS.values() for n in range(1, IMAGES + 1)]
    keys = [f"{image}#{index}" for image in found for index in range(QUESTIONS)
            if not (image.endswith("_001") and index == BAD_KEY)]  # fmt: skip
    assert [reply for image in found.values() for reply in (each["model_response"] for each in image)] == [
        replies[key] for key in keys
    ]
    assert sorted(replies) == sorted(keys)
    before = out.read_bytes()
    assert qa(data, tmp_path) == 0 and out.read_bytes() == before  # nothing is left to ask


def test_a_captioned_run(data, tmp_path):
    """Captions of the server, as the benchmark writes them; then questions with them instead of the images."""
    with serving(said_by_server) as server:
        flags = ("--engine", "server", "--base-url", server.url, "--split", "document", "--concurrency", "1")
        assert cli.main(arguments("caption", data, tmp_path, "--prompt-style", "short", *flags)) == 0
        told = tmp_path / "document_captions_shapes.json"
        captions = json.loads(told.read_text())
        assert list(captions) == ["doc_001", "doc_002", "doc_003"] and told.read_text().isascii()
        assert told.read_text() == "{\n" + ",\n".join(
            f'  "{key}": "{text.encode("ascii", "backslashreplace").decode()}"' for key, text in captions.items()
        ) + "\n}"  # fmt: skip
        first = len(server.asked)
        assert first == IMAGES
        assert qa(data, tmp_path, "--captions", str(told), *flags) == 0
    asked = [each.body["messages"] for each in server.asked[first:]]
    assert len(asked) == IMAGES * QUESTIONS - 1
    assert all(message[0]["role"] == "system" and "image_url" not in json.dumps(message) for message in asked)
    assert all(any(text in json.dumps(message, ensure_ascii=False) for text in captions.values()) for message in asked)
    found = json.loads((tmp_path / "document_qa_caption_local_shapes.json").read_text())
    assert sum(map(len, found.values())) == len(asked)
    assert any(each["is_cannot_answer"] and each["model_answer"] == "Cannot answer from the caption"
               for image in found.values() for each in image)  # fmt: skip


def test_captions_of_the_bundled_model(data, tmp_path, capsys):
    assert cli.main(arguments("caption", data, tmp_path, "--prompt", "List the shapes.", tokens="24")) == 0
    captions = json.loads((tmp_path / "all_captions_shapes.json").read_text())
    assert captions == replies_of(tmp_path / "all_captions_shapes.replies.jsonl") and len(captions) == 4 * IMAGES
    words = [set(text.split()) for text in captions.values()]
    assert sum(bool(said & set(COLOURS)) for said in words) > len(words) / 2
    assert "12 captions" in capsys.readouterr().out
    assert cli.main(arguments("caption", data, tmp_path, "--prompt", " ")) == 2


def test_questions_on_captions_run_without_images(data, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"nat_001": "1 red star", "nat_002": "4 blue cross"}))
    assert qa(data, tmp_path, "--split", "natural", "--captions", str(tmp_path / "c.json")) == 0
    found = json.loads((tmp_path / "natural_qa_caption_local_shapes.json").read_text())
    assert list(found) == ["nat_001", "nat_002"] and not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (("--seed", "1"), "task_shuffle_seed is 0 there and 1 now"),
        (("--shuffle", "sequential"), "task_shuffle is 'stable'"),
    ],
)
def test_a_run_of_other_settings_is_refused(data, tmp_path, capsys, flags, difference):
    assert qa(data, tmp_path, "--split", "natural") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert qa(data, tmp_path, "--split", "natural", *flags) == 2
    assert difference in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_no_model_is_loaded_for_input_that_cannot_be_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("halp_probe.answering.local.open_model", None)
    assert qa(tmp_path / "none.parquet", tmp_path) == 2
    assert qa(tmp_path, tmp_path) == 2
    assert "has no split natural, document" in capsys.readouterr().err


def test_an_extraction_captures_the_same_prompts(data, tmp_path):
    """Its answers are those of `qa`, its labels the verdicts, and the categories are columns."""
    assert qa(data, tmp_path, "--split", "ecommerce") == 0
    flags = [
        "--task",
        "qa",
        "--dataset",
        str(data),
        "--split",
        "ecommerce",
        "--model",
        "shapes",
        "--max-new-tokens",
        "4",
    ]
    assert cli.main(["extract", *flags, "--output-dir", str(tmp_path / "x")]) == 0
    shards = open_shards(tmp_path / "x")
    assert dict(zip(shards.question_ids, shards.text("answer"), strict=True)) == replies_of(
        tmp_path / "ecommerce_qa_image_local_shapes.replies.jsonl"
    )
    found = json.loads((tmp_path / "ecommerce_qa_image_local_shapes.json").read_text())
    entries = {key: each for image in found for key, each in zip(_keys(image), found[image], strict=True)}
    labels = {row["question_id"]: row["label"] for row in csv.DictReader((tmp_path / "x" / "labels.csv").open())}
    expected = {key: "" if each["model_answer"] in (None, CANNOT) else str(int(not each["is_correct"]))
                for key, each in entries.items()}  # fmt: skip
    assert labels == expected
    categories = dict(zip(shards.question_ids, shards.text("category"), strict=True))
    assert categories == {key: each["category"] for key, each in entries.items()}


def _keys(image_id: str) -> list[str]:
    return [f"{image_id}#{n}" for n in range(QUESTIONS) if not (image_id.endswith("_001") and n == BAD_KEY)]


def test_killed_at_random_moments_it_goes_on_to_the_same_files(tmp_path):
    """Every key once, results and metrics those of a run that nothing stopped."""
    images = 25  # more batches than the kills let through, however fast the machine
    write_parquet(tmp_path, images=images, seed=200)
    one_by_one = ("--batch-size", "1", "--split", "all")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert qa(tmp_path, whole, *one_by_one) == 0
    log = killed / "all_qa_image_local_shapes.replies.jsonl"
    draws, lines, stopped = np.random.default_rng(0), 0, 0
    for _ in range(KILLS):
        process = start_command(arguments("qa", tmp_path, killed, *one_by_one), tmp_path / "said.txt")
        until = time.monotonic() + 60
        wait = float(draws.uniform(0, 0.02))
        while process.is_alive() and time.monotonic() < until:
            if log.exists() and log.read_bytes().count(b"\n") > lines:
                time.sleep(wait)
                break
            time.sleep(0.002)
        stopped += process.is_alive()
        process.kill()
        process.join()
        lines = log.read_bytes().count(b"\n")
    assert stopped == KILLS and len(replies_of(log)) < len(replies_of(whole / log.name))
    process = start_command(arguments("qa", tmp_path, killed, *one_by_one), tmp_path / "said.txt")
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "said.txt").read_text()
    assert len(replies_of(log)) == 4 * (images * QUESTIONS - 1)
    for name in ("all_qa_image_local_shapes.json", "all_qa_image_local_shapes_metrics.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
