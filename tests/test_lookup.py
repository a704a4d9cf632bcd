"""A model type that is not in the table: told what the lookups find, or tried with them and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model
from transformers import BertConfig

from halp_probe.cli import main, run_script
from halp_probe.errors import InputError
from halp_probe.models import lookup
from halp_probe.models.families import FAMILIES
from halp_probe.models.loading import open_checkpoint
from halp_probe.models.lookup import family_for, look_up
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

LOOKED_UP = ("qwen2_5_vl", "qwen3_vl", "llava")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=5, questions_a_scene=3, seed=900)
    return folder


@pytest.fixture(params=LOOKED_UP)
def unknown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A saved checkpoint of a family that the table does not have, as it were."""
    loaded = tiny_model(request.param)
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.checkpoint.processor.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(lookup, "FAMILIES", {k: row for k, row in FAMILIES.items() if k != request.param})
    return tmp_path / "model"


def extract(data: Path, model: Path, output: Path, *more: str) -> int:
    call = ["--vqa-dataset", str(data / "vqa.csv"), "--images-dir", str(data / "images"), "--model", str(model)]
    return run_script("extract", None, [*call, "--output-dir", str(output), "--max-new-tokens", "4", *more])


def test_without_trust_the_error_prints_the_row(unknown: Path) -> None:
    name = json.loads((unknown / "config.json").read_text())["model_type"]
    with pytest.raises(InputError) as error:
        open_checkpoint(str(unknown))
    message = str(error.value)
    for part in (
        f"model_type '{name}' is not supported",
        f'"{name}": replace(',
        "decoder_blocks='model.language_model",
    ):
        assert part in message
    assert "tests/tiny/" in message and "`trust_lookup`" in message and "image_inputs=('pixel_values'" in message


def test_with_trust_states_are_those_of_the_table(
    unknown: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(data, unknown, tmp_path / "looked_up", "--trust-lookup") == 0
    assert "was looked up, and checked" in capsys.readouterr().err
    if "qwen3_vl" in (unknown / "config.json").read_text():
        return  # these pictures need another size: the table has qwen-vl-utils make it, the lookups the processor
    monkeypatch.setattr(lookup, "FAMILIES", FAMILIES)
    assert extract(data, unknown, tmp_path / "table") == 0
    ours, table = open_shards(tmp_path / "looked_up"), open_shards(tmp_path / "table")
    assert ours.attributes["family_looked_up"] and "family_looked_up" not in table.attributes
    assert ours.text("answer") == table.text("answer")
    for name in table.representations:
        if name == "vision_encoder_representation" and "llava" in str(table.attributes["config_model_type"]):
            continue  # the table knows that LLaVA's projector reads the last block but one, without its class token
        a, b = ours.vectors(name), table.vectors(name)
        assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all(), name


def test_the_audit_looks_up_what_was_looked_up(
    unknown: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(data, unknown, tmp_path / "out", "--trust-lookup") == 0
    call = ["audit", "--shards", str(tmp_path / "out"), "--images-dir", str(data / "images")]
    assert main(call) == 0
    assert "15 of 15 rows" in capsys.readouterr().out
    monkeypatch.setattr(lookup, "FAMILIES", FAMILIES)  # as after an upgrade, whose table says how to read it
    assert main(call) == 2
    assert "family_looked_up is True in the shards and none here" in capsys.readouterr().err


def test_what_the_lookups_find_is_checked_before_anything_is_stored(
    unknown: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here they find positions that count from one, and blocks in another order."""
    found = lookup.look_up

    def reversed_blocks(*args: object, **options: object) -> object:
        right = found(*args, **options)

        class Wrong(type(right)):  # type: ignore[misc]
            def blocks(self, model: object) -> object:
                return super().blocks(model)[::-1]

        return Wrong(**{name: getattr(right, name) for name in right.__dataclass_fields__})

    monkeypatch.setattr(lookup, "look_up", reversed_blocks)
    assert extract(data, unknown, tmp_path / "out", "--trust-lookup") == 2
    assert "what the lookups found for" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.h5"))


def test_types_that_the_lookups_cannot_know() -> None:
    shapes = open_checkpoint("shapes")
    with pytest.raises(InputError, match=r"'bert' is not supported .* neither image_token_id nor image_token_index"):
        family_for(BertConfig(), lambda: shapes.processor, "x", trust_lookup=True)

    def broken() -> object:
        raise OSError("no preprocessor_config.json\nand more")

    with pytest.raises(InputError, match=r"processor cannot be loaded .no preprocessor_config.json."):
        look_up(shapes.config, broken, "x")


def test_a_row_from_the_table_is_never_looked_up() -> None:
    shapes = open_checkpoint("shapes", trust_lookup=True)
    assert shapes.family is FAMILIES["qwen2_5_vl"]
    assert not shapes.family.looked_up
