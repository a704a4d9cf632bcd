"""The bundled parts: the ViT knows what stands where, the language model scenes told in words; neither saw a test's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from halp_probe.shapes import parts_training, questions, scenes
from halp_probe.shapes.dataset import FIRST_TRAINING_SEED
from halp_probe.shapes.model import build_tokenizer
from halp_probe.shapes.parts_text import tell
from halp_probe.shapes.parts_training import LanguageTraining, VisionTraining

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


def _is_right(things: list[tuple[str, str]], question: str, answer: str) -> bool:
    """Judged by the words of the question from the list of (colour, shape), not by the generator's own path."""
    words = question.rstrip("?").split()
    colour = next((word for word in words if word in scenes.COLOURS), None)
    shape = next((s for s in scenes.SHAPES for word in words if word in (s, s + "s", s + "es")), None)
    matching = [t for t in things if colour in (None, t[0]) and shape in (None, t[1])]
    if words[0] == "Is":
        return answer == ("yes" if matching else "no")
    if words[0] == "How":
        return answer == str(len(matching))
    return answer == (matching[0]["colour" not in words] if matching else questions.NOTHING)


def test_the_language_model_answers_on_scenes_told_in_words() -> None:
    """Greedy answers to single questions on described scenes, through the folder's own tokenizer and chat template."""
    model = AutoModelForCausalLM.from_pretrained(PARTS / "lm", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(PARTS / "lm", padding_side="left")
    asked, prompts = [], []
    for scene in map(scenes.make_scene, range(2000, 2050)):
        things = [(thing.colour, thing.shape) for thing in scene.things]
        told = " ".join(f"{thing.cell} {thing.colour} {thing.shape}" for thing in scene.things)
        for question in questions.ask(scene, 5):
            asked.append((things, question.text))
            messages = [{"role": "user", "content": f"{told}\n{question.text}"}]
            prompts.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    answers = tokenizer.batch_decode(tokens[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    right = [_is_right(things, question, answer) for (things, question), answer in zip(asked, answers, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("seed", range(40))
def test_a_description_tells_the_scene(seed: int) -> None:
    """What stands in front of the questions, read by its words alone, is the scene's list of things."""
    scene = scenes.make_scene(seed, scenes.MILD)
    words = re.findall(r"[a-z]+", tell(scene, 4).description)
    told = sorted(tuple(sorted(words[k : k + 2])) for k in range(0, len(words), 2))
    assert not words or told == sorted(tuple(sorted((t.colour, t.shape))) for t in scene.things)


def test_packed_loss_equals_single_conversations() -> None:
    """Questions in one row behind a shared description learn as much as asked one by one, to bfloat16's precision."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = parts_training.build_language_model(tokenizer).eval()
    tellings = [tell(scenes.make_scene(seed, scenes.MILD), 3) for seed in range(8)]
    assert {telling.alone for telling in tellings} == {True, False}
    packed = parts_training.packed_loss(model, parts_training.pack(tokenizer, tellings, other_tokens=0.0))
    losses = []
    for telling in tellings:
        for asked in [[e] for e in telling.exchanges] if telling.alone else [telling.exchanges]:
            ids, is_answer = [], []
            for number, exchange in enumerate(asked):
                system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>" if number == 0 else ""
                head = [f"{system}\n<|im_start|>user\n", telling.description if number == 0 else "", exchange.user]
                for text in (*head, "<|im_end|>\n<|im_start|>assistant\n", f"{exchange.assistant}<|im_end|>"):
                    ids += tokenizer(text).input_ids
                    is_answer += [text == f"{exchange.assistant}<|im_end|>"] * (len(ids) - len(is_answer))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            losses.append(loss[torch.tensor(is_answer[1:])])
    assert packed.item() == pytest.approx(torch.cat(losses).mean().item(), rel=2e-3)


def test_scenes_of_training_are_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny run of both trainings learns, and draws no scene that `halp-probe shapes` could write."""
    drawn: list[int] = []

    def watched(seed: int, hardest: float = scenes.HARDEST) -> scenes.Scene:
        drawn.append(seed)
        return make_scene(seed, hardest)

    make_scene = scenes.make_scene
    monkeypatch.setattr(scenes, "make_scene", watched)
    losses = parts_training.train_vit(VisionTraining(steps=30, scenes_a_step=16, scenes=64)).losses
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    training = LanguageTraining(steps=12, scenes_a_step=2)
    losses = parts_training.train_language_model(training, build_tokenizer()).losses
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert min(drawn) >= FIRST_TRAINING_SEED


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
