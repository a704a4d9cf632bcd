"""Adapters under the module names of older transformers are those under today's, to the bit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from test_adapters import CONFIG, KINDS, WEIGHTS, captured, difference, vectors, with_adapters, with_weights
from tiny_adapters import LANGUAGE_ATTENTION, train_adapter

from halp_probe.models.errors import ModelError

pytestmark = pytest.mark.slow

OLD = (  # what transformers up to 4.51 called the parts of Qwen2.5-VL: of weights, and of patterns
    (r"model\.model\.language_model\.", "model.model."),
    (r"model\.model\.visual\.", "model.visual."),
)


def old_names(folder: Path, to: Path, **settings: Any) -> Path:
    """Save a copy with names and target patterns as they were."""

    def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        for key, weight in weights.items():
            for new, old in OLD:
                key = re.sub(f"^base_model\\.{new}", f"base_model.{old}", key)
            found[key] = weight
        assert found.keys() != weights.keys()
        return found

    with_weights(folder, to, renamed)
    config = json.loads((to / CONFIG).read_text())
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(config.get(key), str):
            pattern = config[key].replace(".*language_model.*", r"^model\.layers\..*")
            config[key] = pattern.replace(".*visual.*", r"^visual\..*")
    (to / CONFIG).write_text(json.dumps({**config, **settings}))
    return to


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_new_names(kind: str, tmp_path: Path) -> None:
    new = train_adapter(tmp_path / "new", KINDS[kind](), rate=3e-2)
    old = old_names(new, tmp_path / "old")
    assert np.array_equal(vectors(captured(with_adapters(old))), vectors(captured(with_adapters(new))))


def test_ranks_and_scales_of_single_modules_are_kept(tmp_path: Path) -> None:
    """By full names, by their ends and by patterns; the general scale would give other states."""
    first, second = (f"model.layers.{k}.self_attn.q_proj" for k in (0, 1))
    today = [name.replace("model.layers", "model.language_model.layers") for name in (first, second)]
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=LANGUAGE_ATTENTION, init_lora_weights=False,
        rank_pattern={today[0]: 2, r"layers\.3\.self_attn\.v_proj": 6}, alpha_pattern={today[1]: 64, "v_proj": 3},
    )  # fmt: skip
    new = train_adapter(tmp_path / "new", config, steps=0)
    patterns = {
        "rank_pattern": {first: 2, r"layers\.3\.self_attn\.v_proj": 6},
        "alpha_pattern": {second: 64, "v_proj": 3},
    }
    old = old_names(new, tmp_path / "old", **patterns)
    assert np.array_equal(vectors(captured(with_adapters(old))), vectors(captured(with_adapters(new))))
    without = old_names(new, tmp_path / "without", **patterns | {"alpha_pattern": {}})
    assert difference(captured(with_adapters(without)), captured(with_adapters(new))) > 1e-4


def test_saved_modules_are_named_as_today(tmp_path: Path) -> None:
    """`model.norm` was the decoder's; its end is that of no module any more."""
    config = peft.LoraConfig(
        r=4,
        target_modules=LANGUAGE_ATTENTION,
        modules_to_save=["visual.merger", "model.language_model.norm", "language_model.embed_tokens"],
    )
    new = train_adapter(tmp_path / "new", config, rate=3e-2)
    old = old_names(new, tmp_path / "old", modules_to_save=["visual.merger", "model.norm", "model.embed_tokens"])
    assert np.array_equal(vectors(captured(with_adapters(old))), vectors(captured(with_adapters(new))))


def test_a_pattern_that_takes_in_more_than_was_trained_is_of_no_consequence(tmp_path: Path) -> None:
    """ms-swift's pattern, which today also fits other places: the file says which modules were trained."""
    new = train_adapter(tmp_path / "new", KINDS["lora"](), steps=0)
    old = old_names(new, tmp_path / "old", target_modules=r"^(model(?=\.).*\.(q_proj|k_proj|v_proj))$")
    assert np.array_equal(vectors(captured(with_adapters(old))), vectors(captured(with_adapters(new))))


def test_what_was_never_a_module_is_still_refused(tmp_path: Path) -> None:
    new = train_adapter(tmp_path / "new", KINDS["lora"](), steps=0)
    old = old_names(new, tmp_path / "old")

    def with_another(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        key, weight = next(iter(weights.items()))
        return {**weights, key.replace("layers.0", "layers.9"): weight.clone()}

    with pytest.raises(ModelError, match=r"1 weights belong to no module of the model .*layers\.9"):
        with_adapters(with_weights(old, tmp_path / "more", with_another))


def test_the_adapter_itself_stays_as_it_is(tmp_path: Path) -> None:
    old = old_names(train_adapter(tmp_path / "new", KINDS["lora"](), steps=0), tmp_path / "old")
    before, names = (old / WEIGHTS).read_bytes(), sorted(load_file(old / WEIGHTS))
    identity = with_adapters(old).checkpoint.adapters[0].identity
    assert (old / WEIGHTS).read_bytes() == before and sorted(load_file(old / WEIGHTS)) == names
    moved = Path(shutil.copytree(old, tmp_path / "moved"))
    assert with_adapters(moved).checkpoint.adapters[0].identity == identity
