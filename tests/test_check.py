"""`halp-probe check` tells what a run would meet: prompt and positions, tokens, states, answers; and what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

from halp_probe.cli import main
from halp_probe.engine.engine import Engine
from halp_probe.engine.prompting import Prompter
from halp_probe.extraction.check import check_model
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.models.naming import BUNDLED_FOLDER

pytestmark = pytest.mark.slow

SUBJECTS = ["model", "prompt", "pictures", "states", "answers", "sharing", "cost"]


@pytest.mark.parametrize("family", ["llava_next", "gemma3n", "ernie4_5_vl_moe", "mllama", "paligemma"])
def test_a_sound_model_passes_in_every_kind_of_family(family: str) -> None:
    loaded = tiny_model(family)
    findings = {each.subject: each for each in check_model(loaded, Prompter(checkpoint=loaded.checkpoint))}
    assert list(findings) == SUBJECTS
    assert all(each.passed for each in findings.values()), findings
    assert "4 of 4 are those of generate" in findings["answers"].text
    assert "of a vector's length" in findings["states"].text


def test_the_positions_are_marked_in_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    """At the places that the ids themselves have, by a count of their own."""
    assert main(["check", "shapes"]) == 0
    shown = capsys.readouterr().out
    assert (
        "<|vision_start|><|image_pad|> × 16 ⟦vision token, 30⟧<|vision_end|>Is there a person in this image?" in shown
    )
    assert "⟦query token, 58⟧" in shown and shown.endswith("All checks passed.\n")
    processor = open_checkpoint("shapes").processor
    content = [{"type": "image"}, {"type": "text", "text": "Is there a person in this image?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    ids = processor(text=[text], images=[Image.new("RGB", (112, 112))]).input_ids[0]
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (len(ids) - 1 - ids[::-1].index(image), len(ids) - 1) == (30, 58)


def test_pictures_of_a_folder_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for width, name in ((56, "a.png"), (84, "b.jpg"), (112, "c.png")):
        Image.new("RGB", (width, 56)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert main(["check", "shapes", "--images-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for size, tokens in (("56 × 56", 4), ("84 × 56", 6), ("112 × 56", 8)):
        assert f"{size}: {tokens} image tokens" in shown
    Image.new("RGB", (2000, 4)).save(tmp_path / "d.png")
    assert main(["check", "shapes", "--images-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "FAIL pictures: " in shown and "1 of the checks failed." in shown


def test_broken_folders_and_names_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(BUNDLED_FOLDER, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    for arguments, told in (
        ([str(folder)], "missing from the files (model.language_model.layers.6."),
        (["shapes", "--model", "shapes"], "the model is named twice"),
        (["shapes", "--images-dir", str(tmp_path / "none")], "is not a folder"),
    ):
        assert main(["check", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_states_and_answers_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that reads one token too early, and whose answers are another model's."""
    loaded = load_weights(open_checkpoint("shapes"))
    compute = Engine.run

    def wrong(engine: Engine, prompts: object) -> list[object]:
        rows = compute(engine, prompts)  # type: ignore[arg-type]
        for row in rows:
            for state in row.query_token.values():
                state += 1
            object.__setattr__(row, "answer", "something else")
        return rows  # type: ignore[return-value]

    monkeypatch.setattr(Engine, "run", wrong)
    findings = {each.subject: each for each in check_model(loaded, Prompter(checkpoint=loaded.checkpoint))}
    assert not findings["states"].passed and not findings["answers"].passed
    assert "'something else' for " in findings["answers"].text


def test_a_model_that_fails_is_told_check_by_check(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_weights(open_checkpoint("shapes"))
    monkeypatch.setattr(type(loaded.model), "forward", lambda *args, **kwargs: torch.zeros(1).view(2))
    findings = {each.subject: each for each in check_model(loaded, Prompter(checkpoint=loaded.checkpoint))}
    assert findings["prompt"].passed and not findings["cost"].passed
    assert "RuntimeError" in findings["cost"].text
