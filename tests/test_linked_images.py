"""Folders whose images are links: refused with the remedy, read where `--allow-links` says so, with the same states."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halp_probe.cli import main
from halp_probe.shards.reader import open_shards


def write(folder: Path) -> list[str]:
    """Pictures on another disk, so to speak, links to them, a table with three rows; the flags that name them."""
    (folder / "disk").mkdir()
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("disk/a.png", "disk/b.png", "secret.png"):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / name)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).symlink_to(folder / "disk" / name)
    images = ["a.png", "b.png", "../secret.png"]
    rows = [f"q{k},{image},Is there a red shape?,yes\n" for k, image in enumerate(images)]
    (folder / "vqa.csv").write_text("question_id,image_id,question,answer\n" + "".join(rows))
    return ["--vqa-dataset", str(folder / "vqa.csv"), "--model", "shapes", "--max-new-tokens", "2"]


def failures(folder: Path) -> dict[str, str]:
    with (folder / "failures.csv").open(newline="") as file:
        return {row["question_id"]: row["reason"] for row in csv.DictReader(file)}


def test_links_are_followed_where_their_owner_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = write(tmp_path)
    images, out = ["--images-dir", str(tmp_path / "images")], tmp_path / "out"
    assert main(["extract", *call, *images, "--output-dir", str(out)]) == 1
    assert all("with `allow_links=True`" in failures(out)[name] for name in ("q0", "q1"))
    assert main(["extract", *call, *images, "--output-dir", str(out), "--allow-links"]) == 0  # the rerun finds them
    assert list(failures(out)) == ["q2"] and "leads out of" in failures(out)["q2"]  # a table's path is no link
    straight = ["--images-dir", str(tmp_path / "disk"), "--output-dir", str(tmp_path / "ref")]
    assert main(["extract", *call, *straight]) == 0
    shards, reference = open_shards(out), open_shards(tmp_path / "ref")
    assert shards.question_ids == reference.question_ids == ("q0", "q1")
    assert shards.text("image_sha256") == reference.text("image_sha256")
    for name in reference.representations:
        assert np.array_equal(shards.vectors(name), reference.vectors(name))
    capsys.readouterr()
    audit = ["audit", "--shards", str(out), *images, "--model", "shapes"]
    assert main(audit) == 2
    assert "or trust the folder's links with --allow-links" in capsys.readouterr().err
    assert main([*audit, "--allow-links"]) == 0
