"""A merged checkpoint is the model with its adapters, for PEFT and for the engine; one that is not gets no name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from test_adapters import KINDS, adapters, captured, difference, extract, plain, table, with_adapters
from tiny_adapters import LANGUAGE_ATTENTION, train_adapter, train_lora
from tiny_models import tiny_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from halp_probe.cli import main
from halp_probe.merging import checkpoint as merging
from halp_probe.merging.checkpoint import TOLERANCE, largest_difference, own_dtype, read
from halp_probe.models.loading import LoadedModel, load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

__all__ = ["adapters", "plain", "table"]  # fixtures


def merge(output: Path, *folders: Path, model: str | None = "shapes", more: tuple[str, ...] = ()) -> int:
    named = ["--model", model] if model else []
    stack = [part for folder in folders for part in ("--adapter", str(folder))]
    return main(["merge", *named, *stack, "--output-dir", str(output), *more])


def merged_model(output: Path, *folders: Path, more: tuple[str, ...] = ("--dtype", "float32")) -> LoadedModel:
    assert merge(output, *folders, more=more) == 0
    return load_weights(open_checkpoint(str(output)), dtype="float32")


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"embeddings", "only tokens", "tokens"}))
def test_a_merged_model_is_the_one_with_the_adapter(
    kind: str, plain: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_adapter(tmp_path / "adapter", KINDS[kind](), rate=3e-2)
    merged = captured(merged_model(tmp_path / "merged", folder))
    assert difference(merged, captured(with_adapters(folder))) <= 1e-5
    assert difference(merged, captured(plain)) > 1e-3
    assert "largest difference" in capsys.readouterr().out


def test_two_merged_in_order_are_the_stack(adapters: Callable[..., Path], tmp_path: Path) -> None:
    pair = [adapters(f"dora {k}", seed=k, use_dora=True) for k in range(2)]
    merged = captured(merged_model(tmp_path / "merged", *pair))
    assert difference(merged, captured(with_adapters(*pair))) <= 1e-5
    assert difference(merged, captured(with_adapters(*pair[::-1]))) > 1e-5
    step = merged_model(tmp_path / "step", pair[0])
    by_peft = peft.PeftModel.from_pretrained(step.model, str(pair[1])).eval().get_base_model()
    assert difference(captured(LoadedModel(checkpoint=step.checkpoint, model=by_peft)), merged) <= 1e-5


def test_the_weights_are_the_sums(adapters: Callable[..., Path], tmp_path: Path) -> None:
    """Oracle: W + alpha / r · B A, computed here from the files in float64, then rounded to the saved dtype once."""
    first, second = adapters("first"), adapters("second", seed=1)
    assert merge(tmp_path / "merged", first, second) == 0
    base, merged = load_file(BUNDLED_FOLDER / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    assert {name: (v.shape, v.dtype) for name, v in merged.items()} == {n: (v.shape, v.dtype) for n, v in base.items()}
    changed = 0
    for name, weight in base.items():
        total = weight.double()
        for folder in (first, second):
            loras = load_file(folder / "adapter_model.safetensors")
            module = name.removesuffix(".weight").replace("model.layers", "model.language_model.layers")  # as in files
            key = f"base_model.model.{module}"
            a, b = (loras.get(f"{key}.lora_{part}.weight") for part in "AB")
            if a is not None and b is not None:
                total = total + 16 / 4 * b.double() @ a.double()
                changed += 1
        assert torch.allclose(merged[name].double(), total.to(weight.dtype).double(), rtol=1e-3, atol=1e-7), name
        if torch.equal(total, weight.double()):
            assert torch.equal(merged[name], weight), name
    assert changed == 2 * 6 * 2  # q_proj and v_proj of six blocks, twice


def test_the_folder_is_a_checkpoint_of_its_own(
    adapters: Callable[..., Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads in transformers without us, in the base's dtype; extract takes it; it tells what it was made of."""
    first, output = adapters("first"), tmp_path / "merged"
    output.mkdir()  # an empty folder may be there
    assert merge(output, first, model=None) == 0
    printed = capsys.readouterr().out
    assert f"{output}: shapes with {first} merged" in printed and "float16" in printed
    config = json.loads((output / "config.json").read_text())
    assert {config[part]["dtype"] for part in ("text_config", "vision_config")} == {config["dtype"]} == {"float16"}
    assert "adapter" not in json.dumps(config) and "peft" not in json.dumps(config)
    record = json.loads((output / "merged_from.json").read_text())
    stacked = open_checkpoint("shapes", adapters=[str(first)])
    assert record["base_revision"] == stacked.revision
    assert [adapter["identity"] for adapter in record["adapters"]] == [stacked.stack]
    model = AutoModelForImageTextToText.from_pretrained(str(output))
    base = AutoModelForImageTextToText.from_pretrained(str(BUNDLED_FOLDER))
    assert model.dtype == torch.float16
    assert model.generation_config.to_dict() == base.generation_config.to_dict()
    template = AutoProcessor.from_pretrained(str(BUNDLED_FOLDER)).chat_template
    assert AutoProcessor.from_pretrained(str(output)).chat_template == template
    assert extract(table, tmp_path / "one", "--model", str(output)) == 0
    assert extract(table, tmp_path / "other", "--adapter", str(first)) == 0
    ours, theirs = open_shards(tmp_path / "one"), open_shards(tmp_path / "other")
    name = "query_token_representation/layer_5"
    a, b = ours.vectors(name), theirs.vectors(name)
    assert (np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max() < 1e-2  # float16's weights
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_libraries_keep_quiet(adapters: Callable[..., Path], tmp_path: Path) -> None:
    """In a process of its own, as a user sees it: no progress bar in a log, no warning that nobody can act on."""
    command = [sys.executable, "-c", "from halp_probe.cli import main; raise SystemExit(main())"]
    arguments = ["merge", "--adapter", str(adapters("first")), "--output-dir", str(tmp_path / "merged")]
    ran = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert ran.stderr == "" and len(ran.stdout.splitlines()) == 2


def test_large_weights_are_cut_into_files(adapters: Callable[..., Path], tmp_path: Path) -> None:
    assert merge(tmp_path / "merged", adapters("first"), more=("--max-shard-size", "1MB")) == 0
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    assert len(files) > 3 and max(file.stat().st_size for file in files) < 1.2e6
    assert (
        difference(
            captured(load_weights(open_checkpoint(str(tmp_path / "merged")))),
            captured(with_adapters(adapters("first"))),
        )
        < 1e-2
    )


@pytest.mark.parametrize("name", ["qwen3_vl", "llava", "gemma3"])
def test_other_families_merge(name: str, tmp_path: Path) -> None:
    tiny = tiny_model(name)
    base = tmp_path / f"tiny-{name}"
    tiny.model.save_pretrained(base)
    tiny.checkpoint.processor.save_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=LANGUAGE_ATTENTION, init_lora_weights=False)
    torch.manual_seed(0)
    peft.get_peft_model(AutoModelForImageTextToText.from_pretrained(base), config).save_pretrained(str(tmp_path / "a"))
    assert merge(tmp_path / "merged", tmp_path / "a", model=None) == 0
    adapted = read(load_weights(open_checkpoint(None, adapters=[str(tmp_path / "a")])))
    assert largest_difference(read(load_weights(open_checkpoint(str(tmp_path / "merged")))), adapted)[0] <= 1e-5
    assert largest_difference(read(load_weights(open_checkpoint(str(base)))), adapted)[0] > 1e-3


def nothing_left(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if "merged" in path.name]


def test_a_merge_that_changes_the_model_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LoRA beside tied embeddings leaves the LM head alone, merged into them it does not: PEFT only warns."""
    folder = train_adapter(tmp_path / "adapter", KINDS["embeddings"](), rate=3e-2)
    assert merge(tmp_path / "merged", folder, more=("--dtype", "float32")) == 2
    error = capsys.readouterr().err
    assert "merging" in error and "logits by" in error and "nothing was kept" in error
    assert nothing_left(tmp_path)


def test_files_that_differ_from_memory_are_not_kept(
    adapters: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit in a saved weight, a template, a file cut short: each is found before the folder gets its name."""
    first, write = adapters("first"), merging.write_merge_record

    def damaged(change: Callable[[Path], None]) -> str:
        def record(folder: Path, *rest: object) -> None:
            write(folder, *rest)  # type: ignore[arg-type]
            change(folder)

        monkeypatch.setattr(merging, "write_merge_record", record)
        assert merge(tmp_path / "merged", first) == 2
        assert nothing_left(tmp_path)
        return capsys.readouterr().err

    def flip(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-4001] ^= 0x40  # the high byte of a float16
        path.write_bytes(data)

    def other_template(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text().replace("helpful", "harmful"))

    assert "what was saved differs from the merged model" in damaged(flip)
    assert "what was saved differs from the merged model" in damaged(other_template)
    assert "is not a whole safetensors file" in damaged(lambda folder: os.truncate(folder / "model.safetensors", 1000))


@pytest.mark.parametrize("kind", ["tokens", "only tokens", "saved head"])
def test_merged_or_refused_but_never_wrong(kind: str, tmp_path: Path) -> None:
    """Kinds that meddle with tied embeddings: what gets its name is right."""
    more = {"saved head": lambda: peft.LoraConfig(r=4, target_modules=LANGUAGE_ATTENTION, modules_to_save=["lm_head"])}
    folder = train_adapter(tmp_path / "adapter", {**KINDS, **more}[kind](), rate=3e-2)
    if merge(tmp_path / "merged", folder, more=("--dtype", "float32")) == 0:
        merged = captured(load_weights(open_checkpoint(str(tmp_path / "merged"))))
        assert difference(merged, captured(with_adapters(folder))) <= 1e-5
    else:
        assert nothing_left(tmp_path)


def test_what_cannot_be_merged_is_refused(
    adapters: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = adapters("first")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for call, message in (
        (lambda: merge(tmp_path / "merged"), "nothing to merge: pass --adapter"),
        (lambda: merge(tmp_path / "full", first), "exists and is not empty"),
        (lambda: merge(tmp_path / "full" / "file", first), "exists and is not empty"),
        (lambda: merge(tmp_path / "full" / "file" / "merged", first), "cannot be written"),
        (lambda: merge(tmp_path / "merged", first, model="./nothing"), "does not exist"),
        (lambda: merge(Path(), first), "--output-dir .: name a new folder"),
    ):
        assert call() == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        merge(tmp_path / "merged", first, more=("--max-shard-size", "5"))
    assert nothing_left(tmp_path) and (tmp_path / "full" / "file").read_text() == ""


def test_adapters_that_break_the_weights_are_refused(
    adapters: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = train_lora(tmp_path / "broken", steps=1)
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = torch.nan
    from safetensors.torch import save_file

    save_file(weights, broken / "adapter_model.safetensors")
    assert merge(tmp_path / "merged", broken) == 2
    assert "cannot be merged: NaNs detected" in capsys.readouterr().err
    assert nothing_left(tmp_path)


def test_the_largest_difference_is_found() -> None:
    reference = {"a": np.array([[3.0, 4.0], [0.0, 0.0]]), "b": np.ones((1, 4))}
    assert largest_difference(reference, reference)[0] == 0
    other = {"a": np.array([[3.0, 4.5], [0.0, 0.0]]), "b": np.full((1, 4), 1.01)}
    assert largest_difference(other, reference) == (pytest.approx(0.1), "a")
    assert largest_difference({**reference, "b": np.full((1, 4), np.nan)}, reference) == (np.inf, "b")
    assert TOLERANCE == 1e-5 and own_dtype(open_checkpoint("shapes")) == "float16"
