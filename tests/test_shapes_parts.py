"""The bundled parts: the ViT knows what stands where, the language model is the bundled model's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from halp_probe.finetuning import shapes_samples
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.shapes import parts_training, scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED, FIRST_TUNING_SEED
from halp_probe.shapes.model import build_tokenizer
from halp_probe.shapes.parts_training import VisionTraining
from halp_probe.shapes.train import TrainConfig

PARTS = Path(parts_training.__file__).parent / "parts"


def _cells(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Last hidden state before the final LayerNorm [S · cells, D] and, of each cell, `red circle` or nothing."""
    vit = AutoModel.from_pretrained(PARTS / "vit", dtype=torch.float32).eval()
    drawn = [scenes.make_scene(seed, scenes.MILD) for seed in seeds]
    processor = AutoImageProcessor.from_pretrained(PARTS / "vit")
    pixels = processor(images=[scenes.render(scene) for scene in drawn], return_tensors="pt")
    with torch.no_grad():
        states = vit(**pixels, output_hidden_states=True).hidden_states[-1]
    names = np.full((len(drawn), scenes.GRID**2), "", dtype=object)
    for row, scene in enumerate(drawn):
        for thing in scene.things:
            names[row, thing.cell] = f"{thing.colour} {thing.shape}"
    return states[:, 1:].flatten(0, 1).numpy(), names.flatten()


def test_a_patch_of_the_vit_tells_what_stands_there() -> None:
    """A linear read-out of colour and one of shape, fitted on few scenes, name the things of others."""
    seen, told = _cells(range(100))
    new, truth = _cells(range(1000, 1100))
    right = np.ones(len(truth), dtype=bool)
    for word in (0, 1):
        wanted, fitted = ([(name.split() or ["", ""])[word] for name in names] for names in (truth, told))
        readout = LogisticRegression(max_iter=300).fit(seen, fitted)
        right &= readout.predict(new) == np.array(wanted)
    there = truth != ""
    assert right[there].mean() > 0.8  # by chance: one in thirty
    assert right[~there].mean() > 0.95


def test_the_language_model_is_the_bundled_models_decoder() -> None:
    """On text, where its three-dimensional positions are one: the same logits from two classes."""
    bundled = load_weights(open_checkpoint("shapes"), device="cpu")
    model = AutoModelForCausalLM.from_pretrained(PARTS / "lm", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(PARTS / "lm")
    messages = [{"role": "user", "content": "Is there a red circle?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == bundled.checkpoint.processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert torch.equal(ids, bundled.checkpoint.processor.tokenizer(text, return_tensors="pt").input_ids)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, bundled.model(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    assert model.generation_config.eos_token_id == bundled.model.generation_config.eos_token_id


def test_the_parts_can_be_made_again(tmp_path: Path) -> None:
    parts_training.save_language_part(tmp_path)
    made, there = load_file(tmp_path / "model.safetensors"), load_file(PARTS / "lm" / "model.safetensors")
    assert made.keys() == there.keys() and all(torch.equal(made[name], there[name]) for name in made)


def test_scenes_of_training_are_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny run of the training learns, and draws no scene that `halp-probe shapes` could write."""
    drawn: list[int] = []

    def watched(seed: int, hardest: float = scenes.HARDEST) -> scenes.Scene:
        drawn.append(seed)
        return make_scene(seed, hardest)

    make_scene = scenes.make_scene
    monkeypatch.setattr(scenes, "make_scene", watched)
    losses = parts_training.train_vit(VisionTraining(steps=30, scenes_a_step=16, scenes=64)).losses
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert min(drawn) >= FIRST_TRAINING_SEED


def test_train_vlm_draws_scenes_that_no_bundled_part_has_learned(tmp_path: Path) -> None:
    decoder, tower = TrainConfig(), VisionTraining()
    learned = max(decoder.steps * decoder.scenes_a_step, tower.scenes)
    assert FIRST_TRAINING_SEED + learned <= FIRST_TUNING_SEED
    drawn = [scene.seed for scene, _ in shapes_samples.draw(tmp_path, 2)]
    assert drawn == [FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1]


def test_the_parts_are_small_and_load_by_folder() -> None:
    files = [path for path in PARTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4e6
    vit, lm = AutoModel.from_pretrained(PARTS / "vit"), AutoModelForCausalLM.from_pretrained(PARTS / "lm")
    assert type(vit).__name__ == "ViTModel" and vit.config.hidden_size == 64
    assert type(lm).__name__ == "Qwen2ForCausalLM" and lm.config.hidden_size == 128
    assert lm.lm_head.weight is lm.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(PARTS / "lm")
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    turn_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert turn_end in lm.generation_config.eos_token_id
