"""How images reach the decoders of Llama 3.2 Vision and Phi-4-multimodal: what the families' notes say of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from family_proof import single_inputs
from PIL import Image
from tiny.phi4 import CROP, PATCH
from tiny_models import TINY, tiny_model
from transformers import Phi4MultimodalImageProcessor

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter, PromptError
from halp_probe.models.cross_attention import CrossFeatures, cross_features
from halp_probe.models.embedded_images import EmbeddedFeatures, phi4_features, put_in_embeddings
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample

QUESTION = "Is there a red circle?"


@pytest.fixture(scope="module")
def mllama() -> LoadedModel:
    return tiny_model("mllama")


@pytest.fixture(scope="module")
def phi4() -> LoadedModel:
    return tiny_model("phi4_multimodal")


def picture(width: int, height: int, seed: int = 3) -> LoadedImage:
    pixels = np.random.default_rng(seed).integers(0, 255, size=(height, width, 3), dtype=np.uint8)
    return LoadedImage(Image.fromarray(pixels), f"{width} {height} {seed}")


def prompt(loaded: LoadedModel, image: LoadedImage, question: str = QUESTION) -> Prompt:
    return Prompter(checkpoint=loaded.checkpoint).prompt(
        Sample(question_id="q", image_id="i", question=question, answer=""), image
    )


def states(loaded: LoadedModel, asked: Prompt) -> torch.Tensor:
    """[layers + 1, T, D] of the plain model, the embeddings first."""
    with torch.no_grad():
        inputs = single_inputs(loaded, asked, TINY[loaded.checkpoint.name.removeprefix("tiny-")])
        return torch.stack(loaded.model(**inputs, output_hidden_states=True).hidden_states)[:, 0]


def test_mllama_reads_the_image_from_the_first_cross_attention_block_on(mllama: LoadedModel) -> None:
    """Of two pictures and one question: block 1 is the first. Also in front of the image token, as the notes say."""
    first, second = (prompt(mllama, picture(64, 64, seed)) for seed in (3, 4))
    vision = first.positions.vision_index
    one, other = states(mllama, first), states(mllama, second)
    assert mllama.model.config.text_config.cross_attention_layers[0] == 1
    assert torch.equal(one[1], other[1])
    for position in (0, vision, len(first) - 1):
        assert (one[2, position] - other[2, position]).abs().max() > 0.01
    rows = [Engine(mllama, CaptureSpec((0, 1), 0)).run([asked])[0] for asked in (first, second)]
    assert np.array_equal(rows[0].vision_token[0], rows[1].vision_token[0])
    assert np.abs(rows[0].vision_token[1] - rows[1].vision_token[1]).max() > 0.01


def test_mllama_leaves_empty_tiles_out_of_the_means_alone(mllama: LoadedModel) -> None:
    """What stands in them shows in the filled tiles' states: the tower attends to them, and so they must be passed."""
    images = prompt(mllama, picture(200, 90)).images
    filled = int(images["aspect_ratio_mask"].sum())
    other = {**images, "pixel_values": images["pixel_values"].clone()}
    other["pixel_values"][:, :, filled:] = 1.0
    with torch.no_grad():
        made, changed = cross_features(mllama.model, images), cross_features(mllama.model, other)
    assert isinstance(made, CrossFeatures)
    assert filled == 3 and made.pooler_output.shape == (3, 17, 32) and made.cross_attention_states.shape == (1, 68, 32)
    assert torch.equal(made.pooler_output.flatten(0, 1), made.cross_attention_states[0, : 3 * 17])
    assert (made.pooler_output - changed.pooler_output).abs().max() > 1e-3


def test_phi4_features_are_as_many_as_the_processor_says_in_bfloat16(phi4: LoadedModel) -> None:
    """272 rows of patches: bfloat16 knows no 257, and rounds the sums by which the model cuts the padding off."""
    tall = Phi4MultimodalImageProcessor(size={"height": CROP, "width": CROP}, patch_size=PATCH)
    made = tall(picture(100, 2600).pixels, return_tensors="pt")
    inputs = {name: made[name] for name in phi4.checkpoint.family.image_inputs}
    assert inputs["image_attention_mask"].shape[1] == 1 + 17
    half = tiny_model("phi4_multimodal").model.bfloat16()
    inputs = {name: value.to(half.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        features = phi4_features(half, inputs)
    assert len(features.pooler_output) == made["num_img_tokens"][0] and features.pooler_output.dtype == torch.bfloat16


def test_a_long_prompt_would_turn_the_positions_of_its_whole_batch_and_is_refused(
    phi4: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = phi4.model.config
    assert config.rope_parameters["original_max_position_embeddings"] == 1024 < config.max_position_embeddings
    short, room = prompt(phi4, picture(64, 64)), 1024 - len(prompt(phi4, picture(200, 90)))
    Prompter(checkpoint=phi4.checkpoint, answer_tokens=room).prompt(short.sample, picture(200, 90))
    with pytest.raises(PromptError, match=r"need 1025 tokens; beyond 1024 .*LongRoPE.* make the image smaller"):
        Prompter(checkpoint=phi4.checkpoint, answer_tokens=room + 1).prompt(short.sample, picture(200, 90))
    with pytest.raises(PromptError, match="LongRoPE"):
        prompt(phi4, picture(400, 400))
    monkeypatch.setattr(Prompter, "_check_length", lambda _self, _needed: None)
    engine, long = Engine(phi4, CaptureSpec((5,), 0)), prompt(phi4, picture(400, 400))
    alone, among = engine.run([short])[0].query_token[5], engine.run([short, long])[0].query_token[5]
    assert np.abs(alone - among).max() > 0.01 * np.abs(alone).max()  # were it not, they need not be refused


def test_phi4_is_itself_again_after_an_error(phi4: LoadedModel) -> None:
    model, asked = phi4.model, prompt(phi4, picture(64, 64))
    inputs = single_inputs(phi4, asked)
    features = EmbeddedFeatures(torch.zeros(asked.image_tokens, 32))
    with torch.no_grad():
        expected = model(**inputs).logits
        with pytest.raises(torch.OutOfMemoryError), put_in_embeddings(model, features, {}, {}):
            raise torch.OutOfMemoryError("pretended")
        assert torch.equal(model(**inputs).logits, expected)


def test_phi4_features_that_do_not_fit_the_prompt_are_an_error(phi4: LoadedModel) -> None:
    asked = prompt(phi4, picture(64, 64))
    ids = torch.from_numpy(asked.input_ids)[None]
    features = EmbeddedFeatures(torch.zeros(asked.image_tokens, 32))
    fewer = replace(features, pooler_output=features.pooler_output[1:])
    with pytest.raises(RuntimeError, match="544 image features for 545"), put_in_embeddings(phi4.model, fewer, {}, {}):
        phi4.model(input_ids=ids)
    with pytest.raises(RuntimeError, match="tokens 0 times"), put_in_embeddings(phi4.model, features, {}, {}):
        pass
