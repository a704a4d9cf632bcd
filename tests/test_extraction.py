"""Extraction end to end with the bundled model: resumed = uninterrupted, failures named, other runs refused."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from extract_process import start_extraction

from halp_probe.cli import main, run_script
from halp_probe.engine import batching
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.prompting import Prompt
from halp_probe.models import compat
from halp_probe.models.loading import BUNDLED_FOLDER, ModelError, load_weights, open_checkpoint
from halp_probe.records import Captured
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.failures import read_failures
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.shards.validation import problems

pytestmark = pytest.mark.slow

KILLS = 25


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 scenes with 4 questions each, one picture of which is broken."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=20, questions_a_scene=4, seed=500)
    (folder / "images" / "scene_000503.png").write_bytes(b"not a picture")
    return folder


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", "shapes"),
        *("--output-dir", str(output), "--checkpoint-interval", "30", "--batch-tokens", "300"),
        *("--max-new-tokens", "8", *more),
    ]


def extract(data: Path, output: Path, *more: str) -> int:
    return run_script("extract", None, arguments(data, output, *more))


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    log = output.with_suffix(".log")
    process = start_extraction(arguments(data, output), log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    return output


def everything(shards: Shards) -> dict[str, list[object]]:
    """All contents by column, vectors as bytes: equal means equal to the last bit."""
    found: dict[str, list[object]] = {name: list(shards.text(name)) for name in shards.text_columns}
    found |= {name: [value.tobytes() for value in shards.numbers(name)] for name in shards.number_columns}
    return found | {name: [row.tobytes() for row in shards.vectors(name)] for name in shards.representations}


def table_ids(data: Path) -> list[str]:
    with (data / "vqa.csv").open() as file:
        return [row["question_id"] for row in csv.DictReader(file)]


def failed_ids(output: Path) -> list[str]:
    return [failure.question_id for failure in read_failures(output)]


def test_every_row_is_captured_or_named(data: Path, uninterrupted: Path) -> None:
    shards = open_shards(uninterrupted)
    assert shards.counts == (30, 30, 16)
    assert not [problem for path in shards.files for problem in problems(path)]
    failed = failed_ids(uninterrupted)
    assert len(failed) == 4 and all(question_id.startswith("shapes_000503") for question_id in failed)
    assert sorted([*shards.question_ids, *failed]) == sorted(table_ids(data))
    assert list(shards.question_ids) == [q for q in table_ids(data) if q not in failed]  # the run's order
    assert sorted(path.name for path in uninterrupted.iterdir()) == [
        *(".lock", "failures.csv", "run.json"),
        *(f"shapes_embeddings_part_00{k}.h5" for k in (1, 2, 3)),
    ]


def test_killed_runs_resume_to_the_same_contents(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments: afterwards every id exactly once, and all contents as if nothing had happened."""
    expected = everything(open_shards(uninterrupted))
    started = time.monotonic()
    process = start_extraction(arguments(data, tmp_path / "timed"), tmp_path / "timed.log")
    process.join()
    duration = time.monotonic() - started
    moments = random.Random(0)
    killed = 0
    for trial in range(KILLS):
        output, log = tmp_path / f"out{trial}", tmp_path / f"{trial}.log"
        call = arguments(data, output, "--workers", str(trial % 2))
        process = start_extraction(call, log)
        process.join(moments.uniform(0, duration))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        resumed = start_extraction(call, log)
        resumed.join()
        assert resumed.exitcode == 0, log.read_text()
        assert everything(open_shards(output)) == expected
        assert failed_ids(output) == failed_ids(uninterrupted)
        assert not (output / "journal").exists() and not list(output.glob(".*.partial"))
    assert killed > KILLS // 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_batch(
    data: Path, uninterrupted: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    process = start_extraction(arguments(data, output), log)
    while not list(output.glob("journal/0*.h5")):
        assert process.is_alive(), log.read_text()
        time.sleep(0.002)
    os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode == status, log.read_text()
    assert "run the same command again" in log.read_text()
    resumed = start_extraction(arguments(data, output), log)
    resumed.join()
    assert resumed.exitcode == 0, log.read_text()
    assert everything(open_shards(output)) == everything(open_shards(uninterrupted))


def test_a_mended_image_is_captured_by_the_next_run(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    images = tmp_path / "data"
    write_dataset(images, n_scenes=20, questions_a_scene=4, seed=500)
    broken = images / "images" / "scene_000503.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    assert extract(images, tmp_path / "out") == 0
    assert len(failed_ids(tmp_path / "out")) == 4
    broken.write_bytes(whole)
    assert extract(images, tmp_path / "out") == 0
    assert not (tmp_path / "out" / "failures.csv").exists()
    assert open_shards(tmp_path / "out").counts == (30, 30, 16, 4)
    assert sorted(open_shards(tmp_path / "out").question_ids) == sorted(table_ids(images))


def test_a_second_run_has_nothing_to_do(data: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.glob("*.h5")}
    assert extract(data, uninterrupted) == 0
    assert "0 questions captured, 76 were there already, 4 failed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.glob("*.h5")} == before


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (("--layers", "0,5"), "layers is [0, 1, 3, 4, 5] there and [0, 5] now"),
        (("--max-pixels", "6272"), "max_pixels is 12544 there and 6272 now"),
        (("--no-answers",), "max_new_tokens is 8 there and 0 now"),
        (("--dtype", "bfloat16"), "dtype is 'float32' there and 'bfloat16' now"),
    ],
)
def test_other_settings_are_refused(
    data: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], difference: str
) -> None:
    assert extract(data, uninterrupted, *flags) == 2
    assert difference in capsys.readouterr().err


def test_a_changed_table_is_refused(data: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (data / "vqa.csv").read_text()
    changed = data / "changed.csv"
    first = next(csv.DictReader(rows.splitlines()))
    changed.write_text(rows.replace(first["question"], "Is it something else?"))
    call = ["--vqa-dataset", str(changed), *arguments(data, uninterrupted)[2:]]
    assert run_script("extract", None, call) == 2
    assert f"was captured with question {first['question']!r}" in capsys.readouterr().err
    changed.write_text(rows.replace(",difficulty", ",hardness", 1))
    assert run_script("extract", None, call) == 2
    assert "was captured with difficulty" in capsys.readouterr().err
    changed.write_text("\n".join(rows.splitlines()[:5]) + "\n")
    assert run_script("extract", None, call) == 2
    assert "questions that are not in this table" in capsys.readouterr().err


def test_a_replaced_image_is_not_mixed_in(data: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(data, tmp_path / "data")) / "images"
    assert extract(tmp_path / "data", tmp_path / "out", "--test") == 0
    shutil.copy(images / "scene_000510.png", images / "scene_000500.png")
    assert extract(tmp_path / "data", tmp_path / "out") == 0
    failures = {f.question_id: f.reason for f in read_failures(tmp_path / "out")}
    assert "is not the file that other prompts of this run were about" in failures["shapes_000500_3"]
    shards = open_shards(tmp_path / "out")
    pairs = set(zip(shards.text("image_id"), shards.text("image_sha256"), strict=True))
    assert len(pairs) == len({image_id for image_id, _ in pairs})


def test_stopping_a_retry_keeps_every_failure(data: Path, tmp_path: Path) -> None:
    """What failed before and was not reached again stays in failures.csv."""
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    broken = [copy / "images" / f"scene_0005{k:02d}.png" for k in (0, 3, 12)]
    mended = broken[0].read_bytes()
    for path in broken:
        path.write_bytes(b"")
    assert extract(copy, tmp_path / "out") == 0
    assert len(failed_ids(tmp_path / "out")) == 12
    broken[0].write_bytes(mended)
    output, log = tmp_path / "out", tmp_path / "log"
    process = start_extraction(arguments(copy, output), log)
    while not list(output.glob("journal/0*.h5")) and process.is_alive():
        time.sleep(0.001)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join()
    named = [*open_journal_and_shards(output), *failed_ids(output)]
    assert sorted(named) == sorted(table_ids(copy))


def open_journal_and_shards(output: Path) -> list[str]:
    files = [*output.glob("*.h5"), *output.glob("journal/*.h5")]
    return [question_id for path in files for question_id in open_shards(path).question_ids]


def test_a_table_without_a_usable_row_still_names_them(data: Path, tmp_path: Path) -> None:
    (tmp_path / "vqa.csv").write_text("question_id,image_id,question,answer\nq1,a.png,,x\nq2,,Why?,x\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), *arguments(data, tmp_path / "out")[2:]]
    assert run_script("extract", None, call) == 1
    assert failed_ids(tmp_path / "out") == ["q1", "q2"]


def test_a_batch_that_does_not_fit_is_halved(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for two prompts at a time, and for none of the longest ones."""
    longest = int(open_shards(uninterrupted).numbers("prompt_tokens").max())
    compute = Engine.compute
    refused: list[int] = []

    def small_memory(engine: Engine, prompts: list[Prompt]) -> ComputedBatch:
        if len(prompts) > 2 or max(map(len, prompts)) == longest:
            refused.append(len(prompts))
            raise torch.OutOfMemoryError("pretended")
        return compute(engine, prompts)

    monkeypatch.setattr(Engine, "compute", small_memory)
    assert extract(data, tmp_path) == 0
    shards, reference = open_shards(tmp_path), open_shards(uninterrupted)
    lengths = dict(zip(reference.question_ids, reference.numbers("prompt_tokens"), strict=True))
    assert shards.question_ids == tuple(q for q in reference.question_ids if lengths[q] < longest)
    out_of_memory = [f for f in read_failures(tmp_path) if f.stage == "forward"]
    assert len(out_of_memory) == sum(length == longest for length in lengths.values()) > 0
    assert "out of memory" in out_of_memory[0].reason
    assert sum(count > 2 for count in refused) <= 6  # the first batch in halves, and those that were formed already


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_resumed_run_forms_the_same_batches(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Which samples run together shows in the last bits of their floats."""
    compute, small = Engine.compute, ("--batch-tokens", "150")
    made: list[list[str]] = []
    left = [-1]

    def logged(engine: Engine, prompts: list[Prompt]) -> ComputedBatch:
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        if engine.spec.max_new_tokens:  # not those that try whether prefixes are shared
            made.append([prompt.sample.question_id for prompt in prompts])
        return compute(engine, prompts)

    monkeypatch.setattr(Engine, "compute", logged)
    monkeypatch.setattr(batching, "WINDOW", 17)
    assert extract(data, tmp_path / "whole", *small) == 0
    whole = made.copy()
    assert len(whole) > 10 and max(map(len, whole)) > 3
    made.clear()
    assert extract(data, tmp_path / "crashed", "--test", *small) == 0  # a first run of three samples
    first = made.copy()
    made.clear()
    left[0] = at + 1
    with pytest.raises(Crash):
        extract(data, tmp_path / "crashed", *small)
    left[0] = -1
    assert extract(data, tmp_path / "crashed", *small) == 0
    done = {question_id for batch in first for question_id in batch}
    expected = [[q for q in batch if q not in done] for batch in whole]
    assert made == [batch for batch in expected if batch]


def test_a_vector_that_is_not_finite_is_a_failure(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = Engine.collect

    def overflowing(engine: Engine, computed: ComputedBatch) -> list[Captured]:
        rows = collect(engine, computed)
        for row in rows:
            if row.sample.question_id == "shapes_000501_1":
                row.query_token[3][5] = np.inf
        return rows

    monkeypatch.setattr(Engine, "collect", overflowing)
    assert extract(data, tmp_path) == 0
    failures = {f.question_id: f.reason for f in read_failures(tmp_path)}
    assert "the query token at layer 3 is not finite" in failures["shapes_000501_1"]
    assert "shapes_000501_1" not in open_shards(tmp_path).question_ids


@pytest.mark.parametrize("asking", [compat.resolve_revision, None], ids=["resolve_revision", "by a file"])
def test_a_folder_in_the_hub_s_cache_loads_by_name(
    asking: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout that a download leaves behind, offline: the revision is the snapshot's commit, in both ways to ask."""
    monkeypatch.setattr(compat, "resolve_revision", asking)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny-vl-2m"
    shutil.copytree(BUNDLED_FOLDER, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    checkpoint = open_checkpoint("somebody/tiny-vl-2m", cache_dir=str(tmp_path))
    assert checkpoint.revision == commit
    assert open_checkpoint("somebody/tiny-vl-2m", cache_dir=str(tmp_path), revision=commit).revision == commit
    assert load_weights(checkpoint, cache_dir=str(tmp_path)).num_layers == 6
    with pytest.raises(ModelError, match=r"cannot load model 'somebody/else'.*check the name"):
        open_checkpoint("somebody/else", cache_dir=str(tmp_path))
    with pytest.raises(ModelError, match=r"the folder \./nothing does not exist"):
        open_checkpoint("./nothing")


def test_a_folder_s_revision_sees_every_byte(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy"))
    before = open_checkpoint(str(copy)).revision
    assert before == open_checkpoint("shapes").revision
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert open_checkpoint(str(copy)).revision != before
    (copy / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        load_weights(open_checkpoint(str(copy)))
    with pytest.raises(ModelError, match="on gpu"):
        load_weights(open_checkpoint("shapes"), device="gpu")


def test_bfloat16_states_point_the_same_way(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The design's contract: cosine of at least .999 with the float32 states."""
    assert extract(data, tmp_path, "--dtype", "bfloat16", "--no-answers") == 0
    ours, reference = open_shards(tmp_path), open_shards(uninterrupted)
    for name in reference.representations:
        a, b = ours.vectors(name), reference.vectors(name)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert np.median(cosine) >= 0.999


def test_two_runs_do_not_share_a_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold = f"import fcntl; f = open('{tmp_path}/.lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held'); input()"
    with subprocess.Popen([sys.executable, "-uc", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert extract(data, tmp_path) == 2
        other.kill()
    assert "another run is writing" in capsys.readouterr().err
    assert extract(data, tmp_path, "--test") == 0  # the lock went with its process


def test_test_mode_takes_three(data: Path, tmp_path: Path) -> None:
    assert extract(data, tmp_path, "--test", "--no-answers", "--no-question-view", "--layers", "all") == 0
    shards = open_shards(tmp_path)
    assert list(shards.question_ids) == table_ids(data)[:3]
    assert shards.text("answer") == ["", "", ""] and set(shards.numbers("answer_tokens")) == {0}
    assert len(shards.representations) == 2 + 2 * 6
    assert np.isfinite(shards.numbers("first_token_entropy")).all()
    assert extract(data, tmp_path, "--no-answers", "--layers", "all") == 0  # the rest, without the test mode
    assert len(open_shards(tmp_path).question_ids) == 76


def test_windows_and_batches_do_not_change_what_is_stored(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another window, budget and interval: the same rows in the same order, floats within the contract."""
    monkeypatch.setattr(batching, "WINDOW", 7)
    assert extract(data, tmp_path, "--batch-tokens", "1", "--checkpoint-interval", "1000") == 0
    ours, reference = open_shards(tmp_path), open_shards(uninterrupted)
    assert ours.question_ids == reference.question_ids and ours.text("answer") == reference.text("answer")
    for name in reference.representations:
        expected = reference.vectors(name)
        scale = np.abs(expected).max(1, keepdims=True)
        assert (np.abs(ours.vectors(name) - expected) <= 1e-5 * scale).all()


def test_stored_positions_are_those_of_the_input_ids(
    data: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["audit", "--shards", str(uninterrupted), "--images-dir", str(data / "images")]
    assert main(call) == 0
    assert "76 of 76 rows" in capsys.readouterr().out


def test_the_audit_finds_a_wrong_position(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(uninterrupted, tmp_path / "copy"))
    with h5py.File(copy / "shapes_embeddings_part_002.h5", "r+") as file:
        file["_columns/token_index/vision"][4] -= 1
    assert main(["audit", "--shards", str(copy), "--images-dir", str(data / "images")]) == 1


def test_an_unwritable_output_is_one_error(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert extract(data, tmp_path / "file") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_unknown_model_type_says_what_to_add(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    assert extract(data, tmp_path / "out", "--model", str(tmp_path / "model")) == 2
    error = capsys.readouterr().err
    assert "'bert' is not supported" in error and "halp_probe/models/families/" in error
    (tmp_path / "model" / "config.json").write_text('{"model_type": "nonesuch"}')
    assert extract(data, tmp_path / "out", "--model", str(tmp_path / "model")) == 2
    error = capsys.readouterr().err
    assert "model_type 'nonesuch'" in error and "upgrade transformers" in error and "halp-probe families" in error


def test_a_run_keeps_the_date_of_its_prompts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled model with a template that writes the day's date."""
    model = tmp_path / "model"
    shutil.copytree(BUNDLED_FOLDER, model)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ strftime_now('%Y-%m-%d') }}")
    call = ["--model", str(model), "--layers", "0", "--no-answers"]
    assert extract(data, tmp_path / "out", *call, "--prompt-date", "2025-02-03", "--test") == 0
    assert extract(data, tmp_path / "out", *call) == 0  # today, and yet
    shards = open_shards(tmp_path / "out")
    assert shards.attributes["prompt_date"] == "2025-02-03"
    assert extract(data, tmp_path / "whole", *call, "--prompt-date", "2025-02-03") == 0
    whole = open_shards(tmp_path / "whole")
    assert shards.question_ids == whole.question_ids
    assert np.array_equal(shards.numbers("token_id/query"), whole.numbers("token_id/query"))
    assert main(["audit", "--shards", str(tmp_path / "out"), "--images-dir", str(data / "images")]) == 0
    capsys.readouterr()
    assert extract(data, tmp_path / "out", *call, "--prompt-date", "2025-02-04") == 2
    assert "prompt_date is '2025-02-03' there and '2025-02-04' now" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        extract(data, tmp_path / "out", *call, "--prompt-date", "yesterday")


def test_template_options_are_part_of_a_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUNDLED_FOLDER, model)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if brief is defined and brief %}yes or no{% endif %}")
    call = ["--model", str(model), "--layers", "0", "--no-answers", "--test"]
    assert extract(data, tmp_path / "brief", *call, "--template-option", "brief=true") == 0
    assert extract(data, tmp_path / "plain", *call) == 0
    brief, plain = open_shards(tmp_path / "brief"), open_shards(tmp_path / "plain")
    assert brief.attributes["template_options"] == '{"brief": true}' and "template_options" not in plain.attributes
    assert (brief.numbers("prompt_tokens") > plain.numbers("prompt_tokens")).all()
    assert main(["audit", "--shards", str(tmp_path / "brief"), "--images-dir", str(data / "images")]) == 0
    capsys.readouterr()
    assert extract(data, tmp_path / "brief", *call) == 2
    assert "template_options is '{\"brief\": true}' there and None now" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        extract(data, tmp_path / "none", *call, "--template-option", "brief")
    assert "is not NAME=VALUE" in capsys.readouterr().err
