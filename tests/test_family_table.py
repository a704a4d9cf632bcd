"""The table of families: its page is in step, and a row that is wrong fails its proof."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_proof import LAYERS, QUESTIONS, Family, Reference, assert_close
from PIL import Image
from tiny_models import TINY, tiny_model
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from halp_probe.cli import main
from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompter, PromptError
from halp_probe.models.families import FAMILIES
from halp_probe.models.families.released_code import RELEASED_CODE
from halp_probe.models.families.unsupported import UNSUPPORTED
from halp_probe.models.family_page import families_page
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
HALP_PAPER = ("gemma3", "fast_vlm", "llava_next", "molmo2", "qwen2_5_vl", "mllama", "phi4_multimodal", "smolvlm")
PICTURES = ((112, 112), (70, 130))


def prove(name: str, **wrong: Any) -> None:
    """The core of `test_equality.py` with a row in which these fields are other ones."""
    loaded = tiny_model(name)
    row = replace(loaded.checkpoint.family, **wrong)
    told = LoadedModel(checkpoint=replace(loaded.checkpoint, family=row), model=loaded.model)
    pixels = np.random.default_rng(3).integers(0, 255, size=(130, 112, 3), dtype=np.uint8)
    pictures = [LoadedImage(Image.fromarray(pixels).resize(size), str(k)) for k, size in enumerate(PICTURES)]
    samples = [Sample(question_id=str(k), image_id="", question=QUESTIONS[k], answer="") for k in range(len(pictures))]
    wrongly, rightly = Prompter(checkpoint=told.checkpoint), Prompter(checkpoint=loaded.checkpoint)
    rows = Engine(told, CaptureSpec(LAYERS, 0)).run(list(map(wrongly.prompt, samples, pictures)))
    prompts = list(map(rightly.prompt, samples, pictures))
    for captured, prompt in zip(rows, prompts, strict=True):
        reference = Reference(Family(TINY[name], loaded, prompts), prompt)
        assert captured.vision_index == reference.vision_index
        for layer in LAYERS:
            assert_close(captured.vision_token[layer], reference.state(layer, reference.vision_index))
            assert_close(captured.query_token[layer], reference.state(layer, reference.query_index))
        assert_close(captured.vision_only, reference.vision_only)
        assert_close(captured.vision_encoder, reference.vision_encoder)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("llava", {"decoder_blocks": "model.vision_tower.encoder.layers"}),
        ("llava", {"decoder_blocks": "model.language_model.blocks"}),
        ("llava", {"projector": "model.language_model.norm"}),
        ("llava", {"projector": "model.multi_modal_projector.linear_2"}),
        ("qwen2_5_vl", {"projector": "model.visual.blocks.0"}),
        ("qwen2_5_vl", {"image_token_id": "vision_start_token_id"}),
        ("qwen2_5_vl", {"decoder_blocks": "model.visual.blocks"}),
        ("gemma3", {"token_types": None, "unused_outputs": ("token_type_ids",)}),
        ("paligemma", {"token_types": None, "unused_outputs": ("token_type_ids", "labels")}),
    ],
)
def test_a_wrong_row_fails_its_proof(name: str, wrong: dict[str, Any]) -> None:
    prove(name)
    with pytest.raises((AssertionError, AttributeError, IndexError, KeyError, PromptError, RuntimeError, ValueError)):
        prove(name, **wrong)


def test_every_family_has_a_tiny_model() -> None:
    proved = {tiny_model(name).checkpoint.model_type for name in TINY}
    assert proved == set(FAMILIES) and len(FAMILIES) >= 30


def test_the_page_is_in_step_with_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """To write it anew: `halp-probe families --markdown > docs/families.md`."""
    assert PAGE.read_text(encoding="utf-8") == families_page()
    assert main(["families", "--markdown"]) == 0
    assert capsys.readouterr().out == families_page()
    for name, family in FAMILIES.items():
        assert f"### {name}\n" in families_page() and family.notes.checkpoint in families_page()


def test_the_families_of_the_paper_are_there_with_what_its_code_reads() -> None:
    assert set(RELEASED_CODE) == set(HALP_PAPER) and set(HALP_PAPER) <= set(FAMILIES)
    for name, code in RELEASED_CODE.items():
        assert f"| `{name}` | {code.vision_token} |" in families_page().replace("\\|", "|")
    table = families_page().split("## The families of the HALP paper")[1].split("## Not supported")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}  # bars inside cells are escaped


def test_what_transformers_lists_is_supported_or_has_a_reason() -> None:
    listed = set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    assert not set(UNSUPPORTED) & set(FAMILIES)
    assert listed <= set(UNSUPPORTED) | set(FAMILIES)
    page = families_page().split("## Not supported, and why")[1].split("## What is read")[0]
    for name, reason in UNSUPPORTED.items():
        assert f"| `{name}` | {reason} |" in page


def test_tokens_are_code_and_not_html() -> None:
    details = families_page().split("## What is read", 1)[1]
    assert "`<|image|>`" in details and "`[IMG]`" in details
    assert not re.search(r"(?<!`)<[^<>\s]+>", details)


def test_the_list_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FAMILIES) + 1
    assert [line.split()[0] for line in lines[:-1]] == sorted(FAMILIES)
