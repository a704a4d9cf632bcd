"""A whole Qwen-Omni checkpoint, as the hub has it, is opened as the part of it that answers in text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from family_proof import family_of_prompts, single_inputs
from safetensors.torch import save_file

from halp_probe.models.loading import load_weights, open_checkpoint


@pytest.mark.parametrize("name", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"])
def test_a_whole_checkpoint_is_opened_as_its_thinker(name: str, tmp_path: Path) -> None:
    family = family_of_prompts(name)
    thinker, folder = family.loaded.model, tmp_path / "whole"
    family.loaded.checkpoint.processor.save_pretrained(folder)
    thinker.save_pretrained(folder)
    whole = {"model_type": name.removesuffix("_thinker"), "enable_audio_output": False, "enable_talker": False}
    part = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, "thinker_config": part}))
    weights = {f"thinker.{key}": value.clone() for key, value in thinker.state_dict().items()}
    save_file({**weights, "talker.codec_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")

    loaded = load_weights(open_checkpoint(str(folder)), device="cpu")
    assert loaded.checkpoint.model_type == name and type(loaded.model) is type(thinker)
    prompt = family.prompts[0]
    with torch.no_grad():
        ours, expected = (model(**single_inputs(family.loaded, prompt)).logits for model in (loaded.model, thinker))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
