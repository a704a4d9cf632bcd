"""A real OpenAI-compatible server of the bundled model: answers are the local engine's, a killed server costs none."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from task_server import ModelServer, serving_model
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from halp_probe.answering.options import AnswerOptions
from halp_probe.answering.replies import Reply
from halp_probe.answering.run import TaskAnswers, Watch, answer_task
from halp_probe.cli import main
from halp_probe.errors import InputError
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.models.options import ModelOptions
from halp_probe.records import Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import VQA

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with serving_model(BUNDLED_FOLDER, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_dataset(folder, n_scenes=8, questions_a_scene=5)
    return folder


@pytest.fixture(scope="module")
def local(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Key -> what the loaded model says."""
    given = task(shapes)
    loaded = AnswerOptions(model=ModelOptions(model="shapes"), template_options=None, max_new_tokens=16, batch_size=4)
    answered = answer_task(given, loaded, tmp_path_factory.mktemp("local") / "vqa.csv")
    return {key: reply.text for key, reply in answered.replies.items()}


def task(shapes: Path) -> TaskInput[Sample, str]:
    with (shapes / "vqa.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples = [
        Sample(question_id=row["question_id"], image_id=row["image_id"], question=row["question"], answer=row["answer"])
        for row in rows
    ]
    return TaskInput(task=VQA, items=samples, failures=(), images_dir=shapes / "images", about={})


def ask(given: TaskInput[Any, Any], server: ModelServer, output: Path, watch: Watch | None = None) -> TaskAnswers:
    options = AnswerOptions(
        model=ModelOptions(model=server.model),
        template_options=None,
        max_new_tokens=16,
        batch_size=1,
        engine="server",
        base_url=server.url,
        concurrency=4,
        tries=1,
    )
    return answer_task(given, options, output, watch)


def test_a_server_gives_the_answers_of_the_loaded_model(
    server: ModelServer, shapes: Path, local: dict[str, str], tmp_path: Path
) -> None:
    answered = ask(task(shapes), server, tmp_path / "vqa.csv")
    assert {key: reply.text for key, reply in answered.replies.items()} == local
    assert len(local) == 40 and len(set(local.values())) > 6, "answers that would show a wrong image or question"
    assert answered.replies and answered.failures == ()
    assert all(reply.finished and reply.tokens == 2 for reply in answered.replies.values()), "a word and the end"


def test_a_reply_at_the_limit_is_cut_off(server: ModelServer, shapes: Path, tmp_path: Path) -> None:
    given = task(shapes)
    options = AnswerOptions(
        model=ModelOptions(model=server.model),
        template_options=None,
        max_new_tokens=1,
        batch_size=1,
        engine="server",
        base_url=server.url,
    )
    answered = answer_task(replace(given, items=given.items[:2]), options, tmp_path / "vqa.csv")
    assert [(reply.finished, reply.tokens) for reply in answered.replies.values()] == [(False, 1)] * 2


@pytest.mark.parametrize("names", [(), ("scene_000001.png",), ("scene_000002.png", "scene_000005.png")])
def test_system_message_and_images_reach_the_model_in_order(
    server: ModelServer, shapes: Path, names: tuple[str, ...], tmp_path: Path
) -> None:
    """The oracle is transformers alone: the processor's chat template and `generate`."""
    system, questions = "You name one colour.", [f"What colour is the {shape}?" for shape in ("circle", "star")]
    samples = [
        Sample(question_id=question, image_id="these", question=question, answer="", images=names)
        for question in questions
    ]
    given = TaskInput(
        task=replace(VQA, system=system), items=samples, failures=(), images_dir=shapes / "images", about={}
    )
    answered = ask(given, server, tmp_path / "vqa.csv")
    pictures = [Image.open(shapes / "images" / name) for name in names]
    assert {key: reply.text for key, reply in answered.replies.items()} == {
        question: generated(system, pictures, question) for question in questions
    }


def generated(system: str, pictures: Sequence[Image.Image], question: str) -> str:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    content = [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": question}]
    chat = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=list(pictures) or None, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return processor.decode(ids, skip_special_tokens=True).strip()


def test_a_server_killed_in_the_middle_loses_nothing(
    server: ModelServer, shapes: Path, local: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL while requests are under way; the run goes on with a server on another port."""
    output, seen = tmp_path / "vqa.csv", []
    with serving_model(BUNDLED_FOLDER, tmp_path / "log") as doomed:

        def watch(new: Sequence[Reply]) -> str:
            seen.extend(new)
            if len(seen) >= 7:
                doomed.kill()
            return ""

        with pytest.raises(InputError, match=r"failed for 10 prompts in a row .*no connection"):
            ask(task(shapes), doomed, output, watch)
    log = tmp_path / "vqa.replies.jsonl"
    kept = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    assert {record["key"]: record["text"] for record in kept if "key" in record} == {
        reply.key: reply.text for reply in seen
    }
    assert 7 <= len(seen) < 30 and all("no connection" in record["reason"] for record in kept if "key" not in record)
    assert doomed.url != server.url

    answered = ask(task(shapes), server, output)
    assert {key: reply.text for key, reply in answered.replies.items()} == local
    assert answered.replies and answered.failures == ()
    keys = Counter(record.get("key") for record in map(json.loads, log.read_text().splitlines()[1:]))
    assert all(keys[key] == 1 for key in local), "nobody was asked twice"


def test_the_command_asks_a_server(
    server: ModelServer, shapes: Path, local: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["--vqa-dataset", str(shapes / "vqa.csv"), "--images-dir", str(shapes / "images")]
    engine = ["--engine", "server", "--base-url", server.url, "--model", server.model, "--max-tokens", "16"]
    assert main(["vqa", *inputs, *engine, "--output-path", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        assert {row["question_id"]: row["model_answer"] for row in csv.DictReader(file)} == local
    assert main(["vqa", *inputs, *engine[:-3], "other", "--output-path", str(tmp_path / "b.csv")]) == 2
    assert "HTTP 400; Server is pinned to" in capsys.readouterr().err
