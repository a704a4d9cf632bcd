"""`halp-probe fuse` writes what `build` builds, whole or not at all, and asks where a guess would be silent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_fused_original import Original, asked, original
from transformers import AutoModelForImageTextToText, AutoProcessor

from halp_probe.cli import main
from halp_probe.fused.model import FusedParts, build
from halp_probe.fused.original import CONNECTOR_FILE, LORA_FOLDER
from halp_probe.models.loading import load_weights, open_checkpoint

pytestmark = pytest.mark.slow

__all__ = ["original"]  # the fixture


def fuse(original: Original, output: Path, *flags: str) -> int:
    return main(
        ["fuse", "--vision", original.vision, "--language", original.language, "--output-dir", str(output), *flags]
    )


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ((), {}),
        (("--vision-layernorm",), {"vision_layernorm": True}),
        (("--no-vision-layernorm", "--tiles", "3"), {"tiles": 3}),
    ],
)
def test_the_folder_is_what_build_builds(
    original: Original,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    chosen: dict[str, int],
) -> None:
    assert fuse(original, tmp_path / "out", *flags, "--seed", "3") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]
    expected = build(FusedParts(vision=original.vision, language=original.language, **chosen), seed=3)  # type: ignore[arg-type]
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "model")
    inputs = asked(AutoProcessor.from_pretrained(tmp_path / "out" / "model"))
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected.model(**asked(expected.processor)).logits)
    told = capsys.readouterr().out
    assert ("after" if "--vision-layernorm" in flags else "before") + " the final LayerNorm" in told
    assert "fresh" in told and "float32" in told


def test_the_originals_files_become_a_model_and_its_adapter(original: Original, tmp_path: Path) -> None:
    files = ["--connector", str(original.folder / CONNECTOR_FILE), "--lora", str(original.folder / LORA_FOLDER)]
    assert fuse(original, tmp_path / "out", *files, "--vision-layernorm") == 0
    model, adapter = tmp_path / "out" / "model", tmp_path / "out" / "adapter"
    loaded = load_weights(open_checkpoint(str(model), adapters=[str(adapter)]))
    inputs = asked(loaded.checkpoint.processor)
    expected = original.logits(inputs["pixel_values"], inputs["input_ids"], loaded.checkpoint.image_token_id)
    with torch.no_grad():
        assert (loaded.model(**inputs).logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert open_checkpoint(None, adapters=[str(adapter)]).source == str(model)  # the adapter names its base


def test_what_would_be_a_silent_guess_is_asked(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connector, lora = str(original.folder / CONNECTOR_FILE), str(original.folder / LORA_FOLDER)
    for flags, message in (
        (["--connector", connector], "pass --vision-layernorm or --no-vision-layernorm"),
        (["--lora", lora], "was trained together with a connector; pass its --connector too"),
        (["--connector", connector, "--vision-layernorm", "--tiles", "2"], "no vector for a newline"),
        (["--connector", lora, "--vision-layernorm"], "cannot be read"),
        (["--connector", connector, "--vision-layernorm", "--lora", str(tmp_path)], "not a configuration of a LoRA"),
    ):
        assert fuse(original, tmp_path / "out", *flags) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("kept")
    assert fuse(original, tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err and (tmp_path / "mine").read_text() == "kept"


def test_the_config_records_the_parts_by_name(original: Original, tmp_path: Path) -> None:
    assert fuse(original, tmp_path / "out", "--vision-layernorm") == 0
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["vision_config"]["_name_or_path"] == original.vision
    assert config["text_config"]["_name_or_path"] == original.language
    assert config["vision_config"]["tie_last_hidden_states"] is True


def test_a_part_in_a_folder_that_is_not_there_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = str(tmp_path / "none")
    assert main(["fuse", "--vision", part, "--output-dir", str(tmp_path / "out")]) == 2
    assert f"the folder {part} does not exist" in capsys.readouterr().err
