"""A model that says a NUL character: its answers are stored as said, and everything that reads them goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_model

import halp_probe
from halp_probe.engine.prompting import Prompter
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A tiny Gemma 3 that says NUL and nothing else."""
    model = tiny_model("gemma3")
    tokenizer = model.checkpoint.processor.tokenizer
    nul = next(token for token in range(len(tokenizer)) if tokenizer.decode([token]) == "\0")

    def prefer_nul(_head: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        logits[..., nul] += 1000.0
        return logits

    model.model.lm_head.register_forward_hook(prefer_nul)
    return model


def test_the_answers_are_stored_and_read(loaded: LoadedModel, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40, 3), 99, dtype=np.uint8)).save(tmp_path / "a.png")
    table = [
        {"question_id": f"q{k}", "image_id": "a.png", "question": question, "answer": truth}
        for k, (question, truth) in enumerate([("Is it red?", "yes"), ("Wh\0y?", "be\0cause"), ("What?", "")])
    ]
    for _ in range(2):  # a rerun finds them
        run = halp_probe.extract(table, tmp_path, tmp_path / "out", model=loaded, max_new_tokens=4)
        assert run.failures == ()
    shards = run.shards
    assert shards.text("question")[shards.question_ids.index("q1")] == "Wh\0y?"
    assert shards.text("ground_truth_answer")[shards.question_ids.index("q1")] == "be\0cause"
    said = dict(zip(shards.question_ids, shards.text("answer"), strict=True))
    for row in table:
        alone = halp_probe.capture(loaded, tmp_path / "a.png", row["question"], max_new_tokens=4)
        assert said[row["question_id"]] == alone.answer
    assert set(said.values()) == {"\0" * 4}
    halp_probe.label(tmp_path / "out").write(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["question_id"]: row for row in csv.DictReader(file)}
    assert {key: row["model_answer"] for key, row in rows.items()} == {
        key: answer.replace("\0", "\\u0000") for key, answer in said.items()
    }


def test_a_system_message_must_be_whole_text(loaded: LoadedModel) -> None:
    """It becomes an attribute of every shard."""
    with pytest.raises(InputError, match="`system_prompt` holds a NUL character"):
        Prompter(checkpoint=loaded.checkpoint, system="be\0brief")
