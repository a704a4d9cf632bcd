"""Checkpoints whose classes are their repository's own code: served where they say what they are, else refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from tiny_models import tiny_model

from halp_probe.cli import run_script
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

CODE = Path(__file__).parent / "own_code"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=4, questions_a_scene=2, seed=901)
    return folder


def saved(folder: Path, name: str) -> Path:
    loaded = tiny_model(name)
    loaded.model.save_pretrained(folder)
    loaded.checkpoint.processor.save_pretrained(folder)
    return folder


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture(params=["AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModel"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A LLaVA whose config, model and processor are classes of the folder, the model's named by one auto class."""
    folder = saved(tmp_path / "model", "llava")
    weights = tiny_model(
        "llava"
    ).model.state_dict()  # the file has LLaVA's older names, of which own classes know nothing
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for file in CODE.glob("*.py"):
        shutil.copy(file, folder)
    classes = {"AutoConfig": "configuration_own.OwnConfig", request.param: "modeling_own.OwnForConditionalGeneration"}
    change(folder / "config.json", model_type="own_vl", auto_map=classes)
    change(
        folder / "processor_config.json",
        processor_class="OwnProcessor",
        auto_map={"AutoProcessor": "processing_own.OwnProcessor"},
    )
    return folder


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """A folder in the style of InternVL's and MiniCPM-V's, with nothing but its code, configuration and tokenizer."""
    folder = tmp_path / "chatty"
    folder.mkdir()
    tiny_model("llava").checkpoint.processor.tokenizer.save_pretrained(folder)
    for file in CODE.glob("*.py"):
        shutil.copy(file, folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "model_type": "own_chat",
        "architectures": ["OwnChatModel"],
        "auto_map": {"AutoConfig": "configuration_own.OwnChatConfig", "AutoModel": "modeling_own.OwnChatModel"},
        "vision_config": {"model_type": "siglip_vision_model", **sizes},
        "llm_config": {"model_type": "qwen2", **sizes},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def extract(data: Path, model: Path, output: Path, *more: str) -> int:
    call = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", str(model)]
    return run_script("extract", None, [*call, "--output-dir", str(output), "--max-new-tokens", "4", *more])


def test_own_classes_are_served_like_those_they_are_made_of(own: Path, data: Path, tmp_path: Path) -> None:
    trust = ("--trust-remote-code", str(own), "--trust-lookup")
    assert extract(data, own, tmp_path / "own", *trust) == 0
    assert extract(data, saved(tmp_path / "llava", "llava"), tmp_path / "table") == 0
    ours, table = open_shards(tmp_path / "own"), open_shards(tmp_path / "table")
    assert ours.text("answer") == table.text("answer")
    for name in table.representations:
        if name != "vision_encoder_representation":  # the lookups do not know which block the projector reads
            a, b = ours.vectors(name), table.vectors(name)
            assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all(), name


def test_own_code_runs_only_where_it_was_named(own: Path) -> None:
    for options in ({}, {"trust_lookup": True}):
        with pytest.raises(ModelError, match=r"contains its own Python code; read it"):
            open_checkpoint(str(own), **options)
    loaded = load_weights(open_checkpoint(str(own), trust_remote_code=str(own), trust_lookup=True), device="cpu")
    assert type(loaded.model).__name__ == "OwnForConditionalGeneration"


@pytest.mark.parametrize("trust_lookup", [False, True])
def test_a_class_that_answers_through_chat_is_refused_in_one_line(chatty: Path, trust_lookup: bool) -> None:
    with pytest.raises(ModelError) as error:
        open_checkpoint(str(chatty), trust_remote_code=str(chatty), trust_lookup=trust_lookup)
    message = str(error.value)
    assert "OwnChatModel" in message and "chat()" in message and "get_image_features" in message and "-hf" in message
    assert "\n" not in message
