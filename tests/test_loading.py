"""Loading by flags: quantized weights are bitsandbytes', nobody's code runs unasked, mistakes are named."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_adapters import adapters, captured, changed, difference, extract, plain, table
from tiny_models import tiny_model
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from halp_probe.commands.extract import DEFAULT_MODEL
from halp_probe.commands.model_flags import add_model_arguments, model_options
from halp_probe.models import loading
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.models.options import ModelOptions, load
from halp_probe.shapes.model import build_processor
from halp_probe.shards.reader import open_shards

__all__ = ["adapters", "plain", "table"]  # fixtures


def options(*flags: str, default: str | None = DEFAULT_MODEL) -> ModelOptions:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser, default=default)
    return model_options(parser.parse_args(flags))


def test_the_default_model_holds_where_nothing_is_named() -> None:
    assert options().model == DEFAULT_MODEL and options(default=None).model is None
    assert options("--adapter", "a").model is None
    assert options("--adapter", "a", "--adapter", "b", "--model", "m") == ModelOptions(model="m", adapter=("a", "b"))
    assert options("--trust-lookup").trust_lookup and not options().trust_lookup


def test_every_flag_reaches_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(loading, "open_checkpoint", lambda name, **how: asked.update(how, model=name))
    monkeypatch.setattr(loading, "load_weights", lambda checkpoint, **how: asked.update(how))
    flags = {
        "model": "m", "revision": "v1", "cache_dir": "c", "dtype": "float16", "device": "cpu", "device_map": "auto",
        "attn_implementation": "eager", "quantization": "8bit", "trust_remote_code": "o/m",
    }  # fmt: skip
    given = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
    load(options(*given, "--adapter", "a", "--trust-lookup", "--verify-weights"))
    assert asked == {**flags, "adapters": ("a",), "trust_lookup": True, "verify_weights": True}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose layers all take multiples of 64, as 4-bit weights on some CPUs must."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    config = json.loads((BUNDLED_FOLDER / "config.json").read_text())
    config["vision_config"] |= {"hidden_size": 64, "intermediate_size": 128, "num_heads": 2}
    Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)).float().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


def test_4bit_is_the_model_of_the_dequantized_weights(wide: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    quantized, whole = (load_weights(open_checkpoint(str(wide)), **how) for how in ({"quantization": "4bit"}, {}))
    reference = captured(whole)
    count = 0
    for name, module in quantized.model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            assert module.weight.quant_state.quant_type == "nf4"
            weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            whole.model.get_submodule(name).weight.data = weight.float()
            count += 1
    assert count == 4 * 5 + 2 + 6 * 7  # all of the tower, the merger and the decoder; not the LM head
    found = captured(quantized)
    assert difference(found, captured(whole)) <= 0.03  # on a CPU the products are made in bfloat16
    assert difference(found, reference) > 0.1
    assert quantized.quantization == "4bit" and quantized.model.dtype == torch.float32


def test_8bit_is_near_the_model(plain: LoadedModel, adapters: Callable[..., Path]) -> None:
    pytest.importorskip("bitsandbytes")
    reference = captured(plain)
    quantized = load_weights(open_checkpoint("shapes"), quantization="8bit")
    assert 1e-4 < difference(captured(quantized), reference) < 0.05
    one = open_checkpoint("shapes", adapters=[str(adapters("first"))])
    adapted = captured(load_weights(one))
    assert 1e-4 < difference(captured(load_weights(one, quantization="8bit")), adapted) < 0.05  # QLoRA
    assert difference(adapted, reference) > 0.05


def test_quantization_is_recorded(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bitsandbytes")
    assert extract(table, tmp_path / "out", "--model", "shapes", "--quantization", "8bit") == 0
    assert open_shards(tmp_path / "out").attributes["quantization"] == "8bit"
    assert extract(table, tmp_path / "out", "--model", "shapes") == 2
    assert "quantization is '8bit' there and None now" in capsys.readouterr().err


def test_what_cannot_be_quantized_is_refused(
    adapters: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = open_checkpoint("shapes", adapters=[str(adapters("first")), str(adapters("second", seed=1))])
    with pytest.raises(ModelError, match=r"2 adapters on quantized weights.*halp-probe merge"):
        load_weights(stack, quantization="4bit")
    copy = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is already quantized; leave `quantization` out"):
        load_weights(open_checkpoint(str(copy)), quantization="4bit")
    monkeypatch.setattr("halp_probe.models.quantization.find_spec", lambda package: None)
    with pytest.raises(
        ModelError, match=r"needs bitsandbytes and accelerate: pip install 'halp_probe\[quantization\]'"
    ):
        load_weights(open_checkpoint("shapes"), quantization="4bit")


def test_4bit_that_would_fail_at_the_first_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: True)
    with pytest.raises(
        ModelError, match=r"multiples of 64, model\.visual.*use a CUDA device, or `quantization='8bit'`"
    ):
        load_weights(open_checkpoint("shapes"), device="cpu", quantization="4bit")


def test_a_device_map_is_the_same_model(plain: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    assert difference(captured(load_weights(open_checkpoint("shapes"), device_map="auto")), captured(plain)) <= 1e-5
    with pytest.raises(ModelError, match="leave `device` cpu out"):
        load_weights(open_checkpoint("shapes"), device="cpu", device_map="auto")
    read_weights = loading.read_weights

    def spread(*args: object, **how: object) -> object:
        model = read_weights(*args, **how)  # type: ignore[arg-type]
        model.hf_device_map = {"model.visual": 0, "model.language_model": "cpu"}
        return model

    monkeypatch.setattr(loading, "read_weights", spread)
    with pytest.raises(ModelError, match="does not fit the GPUs"):
        load_weights(open_checkpoint("shapes"), device_map="auto")


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A checkpoint whose configuration class is its own; running it leaves a file behind."""
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "with_code"))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own_code.OwnConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own_code.py").write_text(
        f"from transformers import Qwen2_5_VLConfig\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "class OwnConfig(Qwen2_5_VLConfig):\n    pass\n"
    )
    return folder


def test_code_runs_only_when_its_repository_is_named(with_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where somebody at the keyboard would say yes."""
    ran = with_code.parent / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    untrusted = open_checkpoint(str(with_code))
    assert type(untrusted.config).__name__ == "Qwen2_5_VLConfig" and not ran.exists()
    with pytest.raises(ModelError, match="`trust_remote_code` somebody/else is not the model"):
        open_checkpoint(str(with_code), trust_remote_code="somebody/else")
    assert not ran.exists()
    trusted = open_checkpoint(str(with_code), trust_remote_code=str(with_code))
    assert type(trusted.config).__name__ == "OwnConfig" and ran.exists()
    (with_code / "own_code.py").write_text((with_code / "own_code.py").read_text() + "# another\n")
    assert open_checkpoint(str(with_code), trust_remote_code=str(with_code)).revision != trusted.revision
    assert open_checkpoint(str(with_code)).revision == untrusted.revision  # code that does not run is no part of it


def test_code_of_a_third_repository_does_not_run(with_code: Path) -> None:
    config = json.loads((with_code / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "somebody/else--own_code.OwnConfig"}
    (with_code / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"was trusted, but its config\.json runs code of somebody/else"):
        open_checkpoint(str(with_code), trust_remote_code=str(with_code))


def test_a_model_that_needs_its_code_says_how_to_allow_it(with_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    config = json.loads((with_code / "config.json").read_text())
    (with_code / "config.json").write_text(json.dumps({**config, "model_type": "own_vl"}))
    with pytest.raises(ModelError, match=r"contains its own Python code; read it.*`trust_remote_code` .*with_code"):
        open_checkpoint(str(with_code))
    assert not (with_code.parent / "ran").exists()


def test_the_base_s_revision_is_the_adapter_s(adapters: Callable[..., Path], tmp_path: Path) -> None:
    """Where neither flag nor name says another; two commits of one hub model lie in the cache."""
    old, new = "1" * 40, "2" * 40
    repository = tmp_path / "models--somebody--tiny-vl"
    for commit in (old, new):
        shutil.copytree(BUNDLED_FOLDER, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(new)
    named = {"base_model_name_or_path": "somebody/tiny-vl"}
    free, pinned = changed(adapters("first"), tmp_path / "free", **named), tmp_path / "pinned"
    changed(adapters("first"), pinned, **named, revision=old)
    by_path = {"base_model_name_or_path": f"/old/cache/models--somebody--tiny-vl/snapshots/{old}"}
    snapshot = changed(adapters("first"), tmp_path / "snapshot", **by_path)
    for folder, revision, expected in (
        (free, None, new), (pinned, None, old), (snapshot, None, old), (pinned, new, new), (free, old, old),
    ):  # fmt: skip
        for name in (None, "somebody/tiny-vl"):
            found = open_checkpoint(name, adapters=[str(folder)], cache_dir=str(tmp_path), revision=revision)
            assert (found.name, found.revision) == ("somebody/tiny-vl", expected)
    assert open_checkpoint("somebody/tiny-vl", cache_dir=str(tmp_path)).revision == new


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    """A flag that would change nothing is refused; a snapshot's own commit is one that it has."""
    snapshot = tmp_path / "models--somebody--tiny-vl" / "snapshots" / ("1" * 40)
    shutil.copytree(BUNDLED_FOLDER, snapshot)
    for name in ("shapes", str(BUNDLED_FOLDER), str(snapshot)):
        with pytest.raises(ModelError, match=f"`revision` v2: {name} is a folder"):
            open_checkpoint(name, revision="v2")
    assert open_checkpoint(str(snapshot), revision="1" * 40).revision == open_checkpoint(str(snapshot)).revision


def test_a_loaded_llama_4_runs(tmp_path: Path) -> None:
    """In transformers 5.24 it reads an output of its language model that is not there, and fails unless helped."""
    made = tiny_model("llama4")
    made.model.save_pretrained(tmp_path)
    made.checkpoint.processor.save_pretrained(tmp_path)
    loaded = load_weights(open_checkpoint(str(tmp_path)), device="cpu")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, made.model(input_ids=ids).logits)
