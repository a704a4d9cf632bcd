"""The examples of all public names run, in a folder that holds what the guide's steps leave with the bundled model."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path

import pytest

import halp_probe
from halp_probe.cli import main
from halp_probe.shapes.dataset import write_dataset

PARSER = doctest.DocTestParser()
NAMES = [name for name in halp_probe.__all__ if not name.startswith("_")]


@pytest.fixture(scope="session")
def guide(tmp_path_factory) -> Path:
    """`vqa.csv`, `images/`, `output/` with shards of 360 questions, `labels.csv` and `probes/`."""
    folder = tmp_path_factory.mktemp("guide")
    table, images, shards, labels = (str(folder / name) for name in ("vqa.csv", "images", "output", "labels.csv"))
    write_dataset(folder / "data", n_scenes=60, seed=0)
    shutil.move(folder / "data" / "vqa.csv", table)
    shutil.move(folder / "data" / "images", images)
    data = ["--vqa-dataset", table, "--images-dir", images]
    fast = ["--folds", "3", "--bootstrap", "50", "--strengths", "0.001", "0.1"]
    for command in (
        ["extract", "--model", "shapes", *data, "--output-dir", shards, "--max-new-tokens", "8"],
        ["label", "--shards", shards, "--out", labels],
        ["train-probes", "--shards", shards, "--labels", labels, "--output-dir", str(folder / "probes"), *fast],
    ):
        assert main(command) == 0
    return folder


@pytest.fixture
def own_copy(guide, tmp_path, monkeypatch) -> Path:
    """The working folder of one example: what it writes is seen by no other."""
    folder = tmp_path / "work"
    shutil.copytree(guide, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, own_copy):
    docstring = inspect.getdoc(getattr(halp_probe, name)) or ""
    test = PARSER.get_doctest(docstring, {}, name, f"halp_probe.{name}", 0)
    assert test.examples, f"{name} has no example"
    assert any(example.want for example in test.examples), f"{name}: no line of its example shows what comes out"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


def test_an_example_that_shows_something_else_is_found():
    test = PARSER.get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "wrong", 0)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1
