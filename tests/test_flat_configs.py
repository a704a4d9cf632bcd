"""Settings of a language model that transformers drops from a flat config.json are refused, with their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real.folders import FOLDERS
from tiny_models import TINY
from transformers import AutoConfig

from halp_probe.models.errors import ModelError
from halp_probe.models.flat_configs import check_flat_keys
from halp_probe.models.loading import open_checkpoint

TEXT = {  # as transformers' Llama has it by default
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
}  # fmt: skip
HARMLESS = {"pad_token_id": 3, "eos_token_id": 5, "torch_dtype": "bfloat16", "transformers_version": "4.37.0",
            "initializer_range": 0.5, "use_cache": False, "architectures": ["X"], "_name_or_path": "a/b",
            "sliding_window": None}  # fmt: skip


def check(raw: dict[str, Any], path: Path) -> None:
    (path / "config.json").write_text(json.dumps(raw))
    check_flat_keys(AutoConfig.from_pretrained(path), raw)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"partial_rotary_factor": 0.5}, r"'llava': partial_rotary_factor 0\.5 \(no partial_rotary_factor loaded\)"),
        ({"rope_theta": 5000.0}, r"rope_theta 5000\.0 \(rope_theta 10000\.0 loaded\); move it into config.json's text"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"\(no factor loaded\)"),
        ({"num_hidden_layers": 40, "rms_norm_eps": 1e-5}, r"num_hidden_layers 40 \(32 loaded\), rms_norm_eps .*; move"),
    ],
)
def test_a_dropped_key_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """LLaVA's class takes the language model's settings from `text_config` alone."""
    flat = {"model_type": "llava", **TEXT, **HARMLESS}
    check(flat, tmp_path)
    with pytest.raises(ModelError, match=message):
        check({**flat, **changed}, tmp_path)
    check({**flat, "text_config": {"model_type": "llama", **TEXT, **changed}}, tmp_path)  # where the remedy puts it


def test_a_flat_glm4v_is_read_or_refused(tmp_path: Path) -> None:
    """transformers 5.17 reads it, later releases do not."""
    rope = {"rope_theta": 5000.0, "partial_rotary_factor": 0.5}
    raw = {"model_type": "glm4v", **rope, "rope_scaling": {"type": "default", "mrope_section": [8, 12, 12]}}
    refused = False
    try:
        check(raw, tmp_path)
    except ModelError as error:
        refused = "partial_rotary_factor 0.5" in str(error)
    loaded = AutoConfig.from_pretrained(tmp_path).get_text_config().rope_parameters
    assert refused != (loaded == {**loaded, **rope})


def test_a_flat_llava_is_refused_at_opening(tmp_path: Path) -> None:
    """As the first LLaVA checkpoints are, with the type that transformers gave to its own."""
    other = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}
    flat = {"model_type": "llava", **TEXT, **other, "max_position_embeddings": 4096}
    FOLDERS["llava15"].changed("config.json", flat).save(tmp_path)
    with pytest.raises(ModelError, match=r"for 'llava': hidden_size 5120 \(4096 loaded\), .*, …; move them"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", FOLDERS)
def test_real_configs_pass_with_what_stands_beside(name: str, tmp_path: Path) -> None:
    raw = {**HARMLESS, **FOLDERS[name].config}
    check({key: value for key, value in raw.items() if not key.endswith(("token_id", "token_index"))}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TINY if name != "gemma3n"])  # whose config cannot be saved
def test_saved_configs_pass(name: str, tmp_path: Path) -> None:
    config = TINY[name].build()[0].config
    config.save_pretrained(tmp_path)
    check(json.loads((tmp_path / "config.json").read_text()), tmp_path)


@pytest.mark.parametrize(
    "change", [{}, {"rope_scaling": {"type": "yarn", "factor": 4.0, "mrope_section": [16, 24, 24]}}]
)
def test_flat_keys_that_arrive_pass(change: dict[str, Any], tmp_path: Path) -> None:
    flat = {key: value for key, value in FOLDERS["qwen25vl"].config.items() if not key.endswith("_token_id")}
    check({**flat, **change, "rms_norm_eps": 3e-6, "num_hidden_layers": 7}, tmp_path)


def test_flat_keys_are_read_beside_those_of_the_text_config(tmp_path: Path) -> None:
    """A window counts only where the text config switches windows on; the class's own is 4096."""
    config = {"model_type": "qwen2_5_vl", "text_config": {**TEXT, "use_sliding_window": True}}
    check({**config, "sliding_window": 4096}, tmp_path)
    with pytest.raises(ModelError, match=r"sliding_window 2048 \(4096 loaded\)"):
        check({**config, "sliding_window": 2048}, tmp_path)
    check({**config, "text_config": {**TEXT, "use_sliding_window": False}, "sliding_window": 2048}, tmp_path)
