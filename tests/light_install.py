"""Run what needs no torch in an environment that has none: `python tests/light_install.py DEMO`; see `make light`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "02_linear_probes.ipynb"
TOOLS = ("pip", "setuptools", "pkg_resources")
EXTRAS = ("torch", "transformers", "torchvision", "peft", "openai", "streamlit")


def command(*arguments: str, status: int = 0) -> str:
    """Run `halp-probe` of this environment; what it printed."""
    program = Path(sys.executable).with_name("halp-probe")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != status:
        raise SystemExit(f"halp-probe {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def run_notebook(demo: Path, folder: Path) -> int:
    """Execute the notebook's code cells in one namespace, `../demo_output` being the demo; how many there were."""
    (folder / "demo_output").symlink_to(demo)
    (folder / "notebooks").mkdir()
    os.chdir(folder / "notebooks")
    os.environ["MPLBACKEND"] = "agg"
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), namespace)
    return len(cells)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def main() -> None:
    demo = Path(sys.argv[1]).resolve()
    found = [name for name in EXTRAS if importlib.util.find_spec(name)]
    if found:
        raise SystemExit(f"this environment is not light: it has {', '.join(found)}")
    shards = str(demo / "shards")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        labels, probes = str(folder / "labels.csv"), str(folder / "probes")
        assert "\nvalid\n" in command("inspect", shards)
        command("label", "--shards", shards, "--out", labels)
        assert Path(labels).read_text() == (demo / "labels.csv").read_text()
        shown = command("train-probes", "--shards", shards, "--labels", labels, "--output-dir", probes)
        assert "selected probe" in shown and (folder / "probes" / "report.html").exists()
        refused = command("extract", "--vqa-dataset", "t.csv", "--images-dir", "i", status=2)
        assert "pip install 'halp_probe[extract]'" in refused
        cells = run_notebook(demo, folder)
        os.chdir("/")
    print(f"inspect, label, train-probes and the {cells} cells of {NOTEBOOK.name} run without torch")
    prefix = Path(sys.prefix)
    tools = sum(
        megabytes(path)
        for name in ("pip", "setuptools", "pkg_resources")
        for path in prefix.rglob(f"site-packages/{name}")
    )
    print(f"this environment: {megabytes(prefix):.0f} MB, of which pip and setuptools {tools:.0f} MB")


if __name__ == "__main__":
    main()
