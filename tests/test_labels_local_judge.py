"""A judge model in this process: asked as one at an endpoint is, kept in the same cache, found again by its content."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from task_server import serving_model
from test_labels_table import FakeShards, fake_shards

from halp_probe.cli import main
from halp_probe.errors import InputError
from halp_probe.labels.judge import ask_judge
from halp_probe.labels.judge_config import JudgeConfig
from halp_probe.labels.judge_prompt import PROMPT, user_message
from halp_probe.labels.table import LabelRow, read_labels
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.tasks import local_judge
from halp_probe.tasks.labelling import label

pytestmark = pytest.mark.slow

SHARDS = fake_shards(
    ["s1", "s2", "s3", "s4", "s5"],
    ["Is there a dog?", "What is it?", "What colour?", "Why?", "Which?"],
    ["Yes", "a couch", "It is green.", "", "C"],
    ["yes", "one very large sofa", "red", "because", ""],
)


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> FakeShards:
    monkeypatch.setattr("halp_probe.tasks.labelling.open_shards", lambda path: SHARDS)
    return SHARDS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in a folder of its own, with room for the judge's prompt: its verdicts are nonsense."""
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path_factory.mktemp("models") / "judge"))
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(
            re.sub(r'("(?:max_position_embeddings|model_max_length)": )\d+', r"\g<1>4096", path.read_text())
        )
    return folder


def asked_texts(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cache.read_text().splitlines()]


def call(out: Path, model: Path, which: str, *more: str) -> int:
    return main(["label", "--shards", "s", "--out", str(out), "--judge", which, "--judge-model", str(model), *more])


def test_it_is_asked_kept_recorded_and_not_asked_twice(
    shards: FakeShards, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels.csv"
    assert call(out, model, "all") == 0
    kept = asked_texts(tmp_path / "labels.verdicts.jsonl")
    assert len(kept) == 3 and all(each["reply"] and each["verdict"] == "unknown" for each in kept)
    revision = json.loads((tmp_path / "labels.judge.json").read_text())["revision"]
    assert {each["model"] for each in kept} == {f"{model}@{revision}"}
    record = json.loads((tmp_path / "labels.judge.json").read_text())
    assert (record["model"], record["engine"], record["prompt"]) == (str(model), "local", PROMPT)
    assert record["temperature"] == 0 and record["texts"] == {"asked": 3, "from_cache": 0, "failed": 0}
    rows = {row.question_id: row for row in read_labels(out).rows}
    assert {key: row.rule for key, row in rows.items()} == {
        "s1": "judge",
        "s2": "judge",
        "s3": "judge",
        "s4": "contains",
        "s5": rows["s5"].rule,
    }
    assert rows["s1"].reason.startswith(f"{model}: ")
    monkeypatch.setattr(local_judge, "load_model_weights", lambda *args: pytest.fail("nothing is left to ask"))
    assert call(out, model, "all") == 0
    assert asked_texts(tmp_path / "labels.verdicts.jsonl") == kept


@pytest.mark.parametrize(("which", "asked"), [("unknown", {"a couch"}), ("contains", {"a couch", "It is green."})])
def test_contains_asks_about_absence_too(
    shards: FakeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, asked: set[str]
) -> None:
    texts = []

    class Fake(local_judge.LocalJudge):
        identity, about = "m", {}

        def ask(self, new: Any, cache: Any, progress: Any) -> Any:
            texts.extend(each.answer for each in new.values())
            return {key: local_judge.NoReply(reason="x", passing=False) for key in new}

    monkeypatch.setattr("halp_probe.tasks.labelling.LocalJudge", Fake)
    assert call(tmp_path / "labels.csv", tmp_path, which) == 0
    assert set(texts) == asked


def test_its_words_are_those_of_the_same_model_at_an_endpoint(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle is transformers' own server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answers = ["a red circle", "two", "There is no square."]
    rows = [
        LabelRow(question_id=f"q{n}", label=None, rule="contains", answer="", truth="", reason="") for n in range(3)
    ]
    given = (rows, ["What is it?"] * 3, answers, ["circle"] * 3)
    local = JudgeConfig(which="all", model=str(model))
    ask_judge(*given, local, tmp_path / "local.jsonl", judge=local_judge.LocalJudge(local))
    with serving_model(model, tmp_path / "log") as server:
        remote = JudgeConfig(which="all", model=server.model, url=server.url)
        ask_judge(*given, remote, tmp_path / "remote.jsonl")
    words = [
        sorted((each["reply"], each["verdict"], each["problem"]) for each in asked_texts(tmp_path / name))
        for name in ("local.jsonl", "remote.jsonl")
    ]
    assert words[0] == words[1] and any(reply for reply, _, _ in words[0])


def test_another_content_of_the_folder_is_another_judge(shards: FakeShards, tmp_path: Path, model: Path) -> None:
    changed = Path(shutil.copytree(model, tmp_path / "judge"))
    cache = tmp_path / "cache.jsonl"
    assert call(tmp_path / "a.csv", changed, "all", "--judge-cache", str(cache)) == 0
    config = json.loads((changed / "generation_config.json").read_text())
    (changed / "generation_config.json").write_text(json.dumps({**config, "note": "changed"}))
    assert call(tmp_path / "b.csv", changed, "all", "--judge-cache", str(cache)) == 0
    assert len(asked_texts(cache)) == 6


def test_a_stopped_run_keeps_what_it_has_and_goes_on(
    shards: FakeShards, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_judge, "_AT_ONCE", 1)
    add, kept = local_judge.VerdictCache.add, []

    def stopping(self: Any, verdict: Any) -> None:
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(verdict)
        add(self, verdict)

    monkeypatch.setattr(local_judge.VerdictCache, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        label("s", judge=JudgeConfig(which="all", model=str(model), cache=tmp_path / "c.jsonl"))
    monkeypatch.setattr(local_judge.VerdictCache, "add", add)
    labels = label("s", judge=JudgeConfig(which="all", model=str(model), cache=tmp_path / "c.jsonl"))
    assert labels.judge_record is not None and labels.judge_record["texts"]["from_cache"] == 2
    assert len(asked_texts(tmp_path / "c.jsonl")) == 3


def test_a_prompt_that_is_too_long_for_the_judge_stays_unknown(shards: FakeShards, tmp_path: Path) -> None:
    """The bundled model itself has no room for it."""
    labels = label("s", judge=JudgeConfig(which="unknown", model="shapes", cache=tmp_path / "c.jsonl"))
    row = next(row for row in labels.rows if row.question_id == "s2")
    assert row.label is None and row.reason.startswith("shapes failed: prompt and answer need")
    assert (
        any("the judge failed for 1 answers" in note for note in labels.notes) and not (tmp_path / "c.jsonl").exists()
    )


def test_a_model_that_is_not_there_is_one_clear_line(
    shards: FakeShards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "labels.csv", tmp_path / "empty", "all") == 2
    assert "error: " in capsys.readouterr().err and not (tmp_path / "labels.csv").exists()


def test_a_model_of_text_alone_is_told_which_are_taken(tmp_path: Path, shards: FakeShards) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(InputError):
        label("s", judge=JudgeConfig(which="all", model=str(tmp_path), cache=tmp_path / "c.jsonl"))


def test_labelling_by_rules_still_loads_no_torch() -> None:
    code = "import sys, halp_probe.tasks.labelling; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_prompt_is_the_endpoints(model: Path) -> None:
    sample = local_judge._sample("k", local_judge.Question(question="q", truth="t", answer="a"))
    assert sample.question == user_message("q", "t", "a") and not sample.files
