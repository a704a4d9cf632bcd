"""A model that lies whole in the hub's cache is opened without a word to the network; any other asks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from halp_probe.models.hub_cache import locate
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER

OLD, NEW = "1" * 40, "2" * 40
NO_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    print("asked the network", args[:1])
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = refuse
from halp_probe.models.options import load_model
loaded = load_model("somebody/tiny-vl", cache_dir=sys.argv[1])
print(loaded.checkpoint.name, loaded.checkpoint.revision)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The cache's folder of a model with two commits, as the hub lays them out."""
    repository = tmp_path / "models--somebody--tiny-vl"
    for commit in (OLD, NEW):
        (repository / "snapshots" / commit).mkdir(parents=True)
        for file in BUNDLED_FOLDER.iterdir():
            blob = repository / "blobs" / file.name
            blob.parent.mkdir(exist_ok=True)
            shutil.copy(file, blob)
            (repository / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{file.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    return repository


@pytest.mark.slow
def test_the_network_is_not_asked_for_a_model_in_the_cache(repository: Path) -> None:
    """With the hub's offline mode off, which the other tests have on."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", NO_NETWORK, str(repository.parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split("\n") == [f"somebody/tiny-vl {NEW}", ""], done.stderr


def test_states_and_names_are_those_of_the_hub_s_model(repository: Path) -> None:
    cache = str(repository.parent)
    for revision, commit in ((None, NEW), ("main", NEW), (OLD, OLD)):
        checkpoint = open_checkpoint("somebody/tiny-vl", cache_dir=cache, revision=revision)
        assert (checkpoint.name, checkpoint.revision) == ("somebody/tiny-vl", commit)
    assert load_weights(checkpoint, cache_dir=cache).num_layers == 6


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_a_model_that_is_not_whole_is_asked_for(repository: Path, lost: str) -> None:
    if lost == "tokenizer_config.json":
        (repository / "snapshots" / NEW / "processor_config.json").unlink()
    (repository / "snapshots" / NEW / lost).unlink()
    try:
        place, _ = locate("somebody/tiny-vl", None, cache_dir=str(repository.parent))
    except OSError:  # the hub cannot be asked here
        place = "somebody/tiny-vl"
    assert place == "somebody/tiny-vl"


def test_a_folder_is_its_own_place(tmp_path: Path) -> None:
    assert locate(str(tmp_path), None, cache_dir=None) == (str(tmp_path), None)
