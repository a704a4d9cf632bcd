"""The benchmark of extraction: its ways agree, its check can fail, and its counts are those of torch's own counter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CHECK = ["--preset", "tiny", "--device", "cpu", "--check", "--images", "3", "--batch-tokens", "150"]


@pytest.fixture
def extraction(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import extraction

    return extraction


def test_all_ways_agree(extraction: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """In several batches, some of more than one image."""
    assert extraction.main([*CHECK, "--questions-per-image", "1", "3"]) == 0
    assert capsys.readouterr().out.count("equal: ") == 2 * 2 * 3


def test_the_check_fails_when_a_token_is_wrong(extraction: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import ways

    def one_early(loaded: LoadedModel, prompts: list[Prompt], *rest: object) -> object:
        places = [replace(prompt.positions, query_index=prompt.positions.query_index - 1) for prompt in prompts]
        moved = [replace(prompt, positions=place) for prompt, place in zip(prompts, places, strict=True)]
        return three_passes(loaded, moved, *rest)

    three_passes = ways.three_passes
    monkeypatch.setattr(ways, "three_passes", one_early)
    assert extraction.main([*CHECK, "--questions-per-image", "2"]) == 1


def test_everything_measured_is_written(extraction: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    small = ["--preset", "tiny", "--device", "cpu", "--images", "2", "--repeats", "2", "--new-tokens", "3"]
    assert extraction.main([*small, "--questions-per-image", "2", "--reference-rows", "2", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [(s["questions_per_image"], s["rows"], s["new_tokens"]) for s in report["settings"]] == [
        (2, 4, 3),
        (2, 4, 0),
    ]
    for setting in report["settings"]:
        ways = setting["ways"]
        assert {name: way["rows"] for name, way in ways.items()} == {"three passes": 2, "plain batching": 4, "ours": 4}
        assert all(len(way["seconds"]) == 2 for way in ways.values())
        assert ways["three passes"]["flops_per_row"] > ways["plain batching"]["flops_per_row"]
        assert ways["plain batching"]["flops_per_row"] > ways["ours"]["flops_per_row"]


def test_counted_operations_are_those_of_the_counter(extraction: ModuleType) -> None:
    """The last of the three passes: vision tower, decoder and all logits.

    Run with eager attention, whose products are plain matrix products. The counter counts the masked half of causal
    attention too, which is added here.
    """
    import flops
    from presets import build_model, make_prompts

    loaded = build_model("tiny", torch.device("cpu"))
    prompt = make_prompts(loaded, 1, 1, (196, 140))[0]  # 7 by 5 image tokens of which a window holds 2 by 2
    config, tokens, grid = loaded.model.config, len(prompt), tuple(prompt.images["image_grid_thw"][0].tolist())
    assert grid == (1, 10, 14)
    loaded.model.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loaded.model(
            input_ids=torch.from_numpy(prompt.input_ids)[None],
            mm_token_type_ids=torch.from_numpy(prompt.token_types)[None],
            **prompt.images,
            use_cache=False,
        )
    text = config.get_text_config()
    masked = text.num_hidden_layers * flops.attention_products(tokens * (tokens - 1) // 2, text.hidden_size)
    counted = flops.vision_tower(config, grid) + flops.decoder(config, tokens) + flops.language_head(config, tokens)
    assert counted + masked == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_a_shared_prefix_saves_only_what_is_read_again(extraction: ModuleType) -> None:
    """Reading a prompt in two parts needs as many operations as reading it at once."""
    import flops
    from presets import PRESETS

    class Config:
        def get_text_config(self) -> object:
            return type("Text", (), PRESETS["tiny"].text)

    whole = flops.decoder(Config(), 42)
    assert flops.decoder(Config(), 30) + flops.decoder(Config(), 12, past=30) == whole
    width, mlp = PRESETS["tiny"].text["hidden_size"], PRESETS["tiny"].text["intermediate_size"]
    assert flops.decoder(Config(), 42, read=2) == whole - 40 * 2 * 3 * width * mlp
    split = flops.decoder(Config(), 30, read=1) + flops.decoder(Config(), 12, past=30, read=1)
    assert split == flops.decoder(Config(), 42, read=2)
