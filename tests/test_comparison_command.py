"""`halp-probe compare` on models: a LoRA moves what it can reach and nothing else, to the last bit."""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_adapters import LANGUAGE_ATTENTION, train_lora

from halp_probe.cli import main
from halp_probe.commands.compare_sides import two_extractions
from halp_probe.commands.model_flags import model_options
from halp_probe.models import options
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.shapes.dataset import write_dataset

pytestmark = pytest.mark.slow

ENCODER, PROJECTED = "vision_encoder_representation", "vision_only_representation"
LATE_LAYERS = r".*language_model.*layers\.[345]\..*\.(q_proj|v_proj)"  # of 6
TOWER_TOO = r".*\.(q_proj|v_proj|q|v|qkv)"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 questions on 6 pictures."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=6, questions_a_scene=2, seed=500)
    return folder


def compare(data: Path, out: Path, *sides: str) -> dict[str, dict[str, str]]:
    """Run the command; the rows of comparison.csv by representation."""
    table = ("--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"))
    settings = ("--output-dir", str(out), "--max-new-tokens", "4", "--bootstrap", "50")
    assert main(["compare", *table, *settings, *sides]) == 0
    with (out / "comparison.csv").open() as file:
        return {row["representation"]: row for row in csv.DictReader(file)}


def still(row: dict[str, str]) -> bool:
    """Whether every number says that nothing moved, exactly."""
    zeros = {row[f"relative_l2_{name}"] for name in ("mean", "median", "max")}
    ones = {row["cosine_mean"], row["cosine_min"], row["cka"]}
    return zeros == {"0.0"} and ones == {"1.0"} and row["identical_rows"] == row["rows"]


def column(folder: Path, name: str) -> np.ndarray:
    """[N, D] straight from the one shard in the folder."""
    (path,) = folder.glob("*.h5")
    with h5py.File(path) as file:
        return file["_columns"][name][()].astype(np.float64)


def test_a_lora_of_the_decoders_attention_leaves_the_vision_tower_untouched(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = train_lora(tmp_path / "lora", target_modules=LANGUAGE_ATTENTION)
    rows = compare(data, tmp_path / "out", "--adapter", str(lora))
    shown = capsys.readouterr().out
    for name, row in rows.items():
        a, b = column(tmp_path / "out" / "a", name), column(tmp_path / "out" / "b", name)
        relative = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
        assert float(row["relative_l2_mean"]) == pytest.approx(relative.mean(), rel=1e-9, abs=0)
        assert row["rows"] == "12" and row["images"] == "6"
        assert still(row) == (name in (ENCODER, PROJECTED))
    for name in (ENCODER, PROJECTED):
        assert (column(tmp_path / "out" / "a", name) == column(tmp_path / "out" / "b", name)).all()
        assert f"{name}: identical, the difference is exactly 0 in all 12 rows" in shown
    assert shown.count("identical, the difference") == 2 and f"with adapter {lora}" in shown

    compare(data, tmp_path / "out", "--adapter", str(lora))
    assert capsys.readouterr().out.count("0 questions captured, 12 were there already") == 2


def test_layers_before_the_first_trained_one_are_untouched(data: Path, tmp_path: Path) -> None:
    lora = train_lora(tmp_path / "lora", target_modules=LATE_LAYERS)
    rows = compare(
        data, tmp_path / "out", "--model", "shapes", "--adapter", str(lora), "--layers", "all", "--no-answers"
    )
    early = {row["representation"] for row in rows.values() if row["layer"] in ("", "0", "1", "2")}
    assert {name for name, row in rows.items() if still(row)} == early and len(rows) == 2 + 2 * 6


def test_a_lora_of_the_vision_tower_moves_it(data: Path, tmp_path: Path) -> None:
    """The control: were the adapter lost on the way, the first test would pass on the tower all the same."""
    lora = train_lora(tmp_path / "lora", target_modules=TOWER_TOO)
    rows = compare(data, tmp_path / "out", "--adapter", str(lora), "--no-answers")
    assert not any(still(row) for row in rows.values())


def test_two_models_that_are_one(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("--model", "shapes", "--model", str(BUNDLED_FOLDER))
    rows = compare(data, tmp_path / "out", *models)
    assert all(still(row) for row in rows.values())
    shown = capsys.readouterr().out
    assert "answers: 0 of 12 changed, 0.0 % (0.0 to 45.9)" in shown  # 6 images: 1 - .025 ** (1 / 6)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "name two sides: --shards A --shards B, or --model A --model B"),
        (("--model", "shapes"), "name two sides"),
        (("--model", "a", "--model", "b", "--model", "c"), "name two sides"),
        (("--model", "a", "--model", "b", "--adapter", "c"), "--adapter goes with one --model"),
        (("--model", "a", "--model", "b", "--revision", "c"), "give --revision once for each --model"),
        (("--model", "a", "--adapter", "b", "--revision", "c", "--revision", "d"), "name two sides"),
        (("--adapter", "no/such/folder"), "no/such/folder is not a local folder"),
        (("--shards", "a"), "--shards is given 1 times; give it twice"),
        (("--shards", "a", "--shards", "b", "--model", "c"), "--model does not go with --shards"),
        (("--shards", "a", "--shards", "b", "--layers", "3"), "--layers does not go with --shards"),
    ],
)
def test_flags_that_name_no_two_sides(
    flags: tuple[str, ...], told: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (
        () if "--shards" in flags else ("--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"))
    )
    assert main(["compare", "--output-dir", str(tmp_path / "out"), *table, *flags]) == 2
    assert told in capsys.readouterr().err


def test_a_table_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--output-dir", str(tmp_path), "--model", "a", "--model", "b"]) == 2
    assert "--vqa-dataset is missing" in capsys.readouterr().err


def parsed(*flags: str) -> argparse.Namespace:
    from halp_probe.commands.compare import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--output-dir", "out", *flags])


def named(side: argparse.Namespace) -> tuple[str, str | None, list[str] | None, str]:
    return side.model, side.revision, side.adapter, str(side.output_dir)


def test_models_and_revisions_go_to_their_sides() -> None:
    a, b = two_extractions(parsed("--model", "x", "--model", "y", "--revision", "r", "--revision", "s"))
    assert (named(a), named(b)) == (("x", "r", None, "out/a"), ("y", "s", None, "out/b"))
    a, b = two_extractions(parsed("--model", "x", "--revision", "r", "--revision", "s"))
    assert (named(a), named(b)) == (("x", "r", None, "out/a"), ("x", "s", None, "out/b"))
    a, b = two_extractions(parsed("--model", "x", "--model", "y", "--layers", "all"))
    assert (named(a), named(b)) == (("x", None, None, "out/a"), ("y", None, None, "out/b"))
    assert a.layers == b.layers == "all"


def test_both_sides_take_the_commit_that_the_adapter_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the model without the adapter would be the newest one, and the difference not the adapter's alone."""

    @dataclass
    class Opened:
        name: str = "owner/model"
        revision: str = "f" * 40

    monkeypatch.setattr(options, "open_model", lambda asked: Opened() if asked.adapter == ("l1", "l2") else None)
    a, b = two_extractions(parsed("--adapter", "l1", "--adapter", "l2"))
    assert named(a) == ("owner/model", "f" * 40, None, "out/a")
    assert named(b) == ("owner/model", "f" * 40, ["l1", "l2"], "out/b")


def test_a_folder_has_no_commit_to_take(tmp_path: Path) -> None:
    """Not even a snapshot in a hub's cache, which is called by its owner and name."""
    snapshot = tmp_path / "models--somebody--tiny" / "snapshots" / ("1" * 40)
    shutil.copytree(BUNDLED_FOLDER, snapshot)
    adapter = train_lora(tmp_path / "adapter", base=snapshot, steps=1)
    for side in two_extractions(parsed("--model", str(snapshot), "--adapter", str(adapter))):
        assert (side.model, side.revision) == (str(snapshot), None)
        assert options.open_model(model_options(side)).revision.startswith("local-")


def test_a_side_that_cannot_be_extracted_ends_the_command(data: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()  # without a picture
    table = ("--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(tmp_path / "images"))
    out = tmp_path / "out"
    assert main(["compare", *table, "--output-dir", str(out), "--model", "shapes", "--model", "shapes"]) == 1
    assert not (out / "b").exists() and not (out / "comparison.csv").exists()
