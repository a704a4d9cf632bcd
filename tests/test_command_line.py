"""The laptop half never loads torch or transformers, and mistakes on the command line are one clear line."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shard_data import ATTRIBUTES, columns

from halp_probe.cli import COMMANDS, main, module_of, run_script
from halp_probe.commands import extract as extraction
from halp_probe.commands.task_inputs import INPUTS
from halp_probe.shards.names import shard_name
from halp_probe.shards.writer import write_shard

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BLOCKED = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "qwen_vl_utils"):
            raise ImportError(f"{name} must not be loaded here")
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
"""


def without_torch(*argv: str, body: str = 'runpy.run_path(sys.argv[0], run_name="__main__")') -> str:
    """Run a script in a process in which torch and transformers cannot be imported; what it prints."""
    done = subprocess.run([sys.executable, "-c", BLOCKED + body, *argv], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """60 samples on 30 images, whose answers' rightness stands in one vector."""
    folder = tmp_path / "shards"
    folder.mkdir()
    data = columns([f"q{k}" for k in range(60)])
    wrong = np.random.default_rng(0).random(60) < 0.5
    data.texts["ground_truth_answer"] = ["yes"] * 60
    data.texts["answer"] = ["No." if w else "Yes." for w in wrong]
    data.texts["image_sha256"] = [f"{k // 2:064x}" for k in range(60)]
    data.vectors["query_token_representation/layer_7"][:, 0] += 3 * wrong
    write_shard(folder / shard_name("m", 1), data, ATTRIBUTES)
    return folder


def test_the_blocker_blocks() -> None:
    with pytest.raises(AssertionError, match="torch must not be loaded"):
        without_torch("x", body="import torch")


def test_import_is_light() -> None:
    loaded = without_torch("x", body="import halp_probe; print(*sys.modules)")
    assert not {"numpy", "h5py", "sklearn"} & set(loaded.split())


def test_tasks_and_their_files_need_no_model() -> None:
    """All modules of both packages, none of which may be missing here."""
    folders = [ROOT / "halp_probe" / name for name in ("tasks", "task_files")]
    names = [f"halp_probe.{path.parent.name}.{path.stem}" for folder in folders for path in folder.glob("[!_]*.py")]
    assert len(names) > 30
    without_torch(*names, body="import importlib; [importlib.import_module(name) for name in sys.argv]")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str) -> None:
    body = "from halp_probe.cli import main; sys.exit(main(sys.argv))"
    assert "--" in without_torch(command, "--help", body=body)


@pytest.mark.parametrize("script", ["extract.py", "train_probes.py", "inspect_h5.py"])
def test_help_of_every_script(script: str) -> None:
    shown = without_torch(script, "--help")
    assert f"python {script} " in shown  # the example command


def test_the_laptop_half_runs_without_torch(shards: Path, tmp_path: Path) -> None:
    labels, output = tmp_path / "labels.csv", tmp_path / "probes"
    assert "\nvalid\n" in without_torch("inspect_h5.py", str(shards))
    body = "from halp_probe.cli import main; sys.exit(main(sys.argv))"
    without_torch("label", "--shards", str(shards), "--out", str(labels), body=body)
    with labels.open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"0", "1"}
    arguments = ["--shards", str(shards), "--labels", str(labels), "--output-dir", str(output), "--bootstrap", "50"]
    shown = without_torch("train_probes.py", *arguments)
    assert "query token, layer" in shown
    with (output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= len(columns(["q"]).vectors)


def test_inspect_reports_a_sample_and_json(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script("inspect", None, [str(shards), "--question", "q3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    vectors = columns([f"q{k}" for k in range(60)]).vectors["vision_only_representation"]
    shown = report["representations"]["vision_only_representation"]
    assert shown["shape"] == [60, 8] and shown["nan"] == 0
    assert shown["mean"] == pytest.approx(vectors.mean(), rel=1e-4) and shown["max"] == vectors.max()
    assert report["question"]["question"] == "What of q3?" and report["layers"] == [0, 7] and report["valid"]
    assert main(["inspect", str(shards), "--question", "nothing"]) == 2
    assert "no question 'nothing'" in capsys.readouterr().err


def test_inspect_says_why_a_file_is_not_valid(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shards / shard_name("m", 1)
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["inspect", str(shards)]) == 1
    assert "not valid" in capsys.readouterr().out


def test_every_command_with_a_folder_of_images_can_trust_its_links() -> None:
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        module_of(command).add_arguments(parser)
        flags = {name for action in parser._actions for name in action.option_strings}
        folders = {"--images-dir", "--records-images", "--data-root", "--text-vqa"} & flags
        assert ("--allow-links" in flags) == bool(folders), command


def test_an_unfinished_run_is_told(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "journal").mkdir()
    write_shard(shards / "journal" / "00000001.h5", columns(["late"]), ATTRIBUTES)
    labels = str(tmp_path / "labels.csv")
    assert main(["label", "--shards", str(shards), "--out", labels]) == 0
    assert main(["inspect", str(shards)]) == 0
    arguments = ["--shards", str(shards), "--labels", labels, "--output-dir", str(tmp_path / "o"), "--bootstrap", "20"]
    assert run_script("train-probes", None, [*arguments, "--representations", "vision_only_representation"]) == 0
    assert capsys.readouterr().out.count("note: the run is not finished: 1 batches are in no shard yet") == 3


def test_output_may_be_cut_by_its_reader(shards: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} inspect_h5.py {shards} | head -1", shell=True, capture_output=True, text=True, cwd=ROOT
    )
    assert "60 samples" in done.stdout and done.stderr == ""


def test_what_is_no_shard_is_not_to_be_deleted(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(ROOT / "README.md")]) == 1
    assert "README.md is not a shard; pass a file that ends in .h5" in capsys.readouterr().out
    assert main(["inspect", str(shards.parent)]) == 1
    assert f"but {shards} does; pass that folder" in capsys.readouterr().out


def test_inspect_shows_failures(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "failures.csv").write_text("question_id,stage,reason\nq99,image,no file\n")
    assert main(["inspect", str(shards)]) == 0
    assert "'q99' (image): no file" in capsys.readouterr().out


@pytest.mark.parametrize("flag", [("--layers", "x"), ("--batch-tokens", "0"), ("--checkpoint-interval", "-1")])
def test_bad_flags_are_refused(flag: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vqa.csv").write_text("question_id,image_id,question,answer\nq,a.png,Why?,x\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(tmp_path), "--model", "shapes", *flag]
    try:
        status = run_script("extract", None, [*call, "--output-dir", str(tmp_path / "out")])
    except SystemExit as error:  # argparse's own
        status = int(error.code or 0)
    assert status == 2
    assert flag[0] in capsys.readouterr().err


@pytest.mark.parametrize("task", INPUTS)
def test_extraction_allows_a_task_s_replies_the_length_that_its_own_command_does(task: str) -> None:
    parsers = argparse.ArgumentParser(), argparse.ArgumentParser()
    extraction.add_arguments(parsers[0])
    importlib.import_module(INPUTS[task]).add_arguments(parsers[1])
    own = parsers[1].parse_args([]).max_new_tokens
    for flags, length in (([], own), (["--max-new-tokens", "7"], 7)):
        options = extraction.extract_options(parsers[0].parse_args(["--task", task, *flags]))
        assert options.max_new_tokens == length
