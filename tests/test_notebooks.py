"""The notebooks run from top to bottom on what `make demo` leaves, and leave the work to the library."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from halp_probe.cli import main

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The demo's folders, with fewer pictures."""
    folder = tmp_path_factory.mktemp("notebooks") / "demo_output"
    data, shards, labels = folder / "data", folder / "shards", folder / "labels.csv"
    images = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images")]
    for command in (
        ["shapes", "--output-dir", str(data), "--scenes", "150", "--seed", "0"],
        ["extract", "--model", "shapes", *images, "--output-dir", str(shards), "--max-new-tokens", "8"],
        ["label", "--shards", str(shards), "--out", str(labels)],
        ["train-probes", "--shards", str(shards), "--labels", str(labels), "--output-dir", str(folder / "probes")],
    ):
        assert main(command) == 0
    shutil.copytree(NOTEBOOKS[0].parent, folder.parent / "notebooks")
    return folder


def test_there_are_four():
    names = [
        "01_extract_and_inspect",
        "02_linear_probes",
        "03_controls_and_baselines",
        "04_risk_before_the_first_token",
    ]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(demo, path, monkeypatch):
    monkeypatch.delenv(
        "MPLBACKEND", raising=False
    )  # Streamlit sets it for the process that imports it, and its children
    notebook = nbformat.read(demo.parent / "notebooks" / path.name, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(demo.parent / "notebooks")}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs) or path.stem.startswith("03")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_calls_the_library_and_is_saved_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            tree = ast.parse(cell.source)
            defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
            assert not [node for node in ast.walk(tree) if isinstance(node, defined)]
