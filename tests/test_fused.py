"""A fused model is its parts to the bit, loads from its folder anywhere, and shows pictures without distortion."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny.fused import MEAN, PATCH, SIDE, STD, write_clip, write_language, write_siglip, write_vit
from tiny.parts import tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPModel,
    DonutImageProcessor,
    GPT2Config,
    GPT2LMHeadModel,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    SiglipModel,
    ViTForImageClassification,
    ViTModel,
)

from halp_probe import RiskScorer, load_probe
from halp_probe.cli import main, run_script
from halp_probe.errors import InputError
from halp_probe.fused import model as fused
from halp_probe.fused.model import FusedModel, FusedParts, build, connector, lora_targets, save
from halp_probe.models import compat, loading
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.models.naming import parse_name, source_of
from halp_probe.models.picture_shapes import check_picture_shape
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

PATCHES = (SIDE // PATCH) ** 2
Built = Callable[..., FusedModel]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(11)
    folder = tmp_path_factory.mktemp("parts")
    writers = {"vit": write_vit, "clip": write_clip, "siglip": write_siglip, "language": write_language}
    return {name: str(write(folder / name)) for name, write in writers.items()}


@pytest.fixture(scope="module")
def built(parts: dict[str, str]) -> Built:
    made: dict[Any, FusedModel] = {}

    def of(vision: str = "vit", **chosen: Any) -> FusedModel:
        key = (vision, *sorted(chosen.items()))
        if key not in made:
            made[key] = build(FusedParts(vision=parts[vision], language=parts["language"], **chosen))
        return made[key]

    return of


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 255, size=(height, width, 3), dtype=np.uint8))


def asked(processor: Any, image: Image.Image) -> Any:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is it red?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    return processor(text=[text], images=image, return_tensors="pt")


# The parts


@pytest.mark.parametrize(
    ("vision", "whole", "prefix"),
    [
        ("vit", ViTForImageClassification, "vit."),
        ("clip", CLIPModel, "vision_model."),
        ("siglip", SiglipModel, "vision_model."),
    ],
)
@pytest.mark.parametrize("tiles", [0, 2])
def test_weights_are_those_of_the_parts_to_the_bit(
    parts: dict[str, str], built: Built, vision: str, whole: Any, prefix: str, tiles: int
) -> None:
    model = built(vision, tiles=tiles).model
    source = whole.from_pretrained(parts[vision]).state_dict()
    expected = {key.removeprefix(prefix): value for key, value in source.items() if key.startswith(prefix)}
    found = model.model.vision_tower.state_dict()
    assert found.keys() - expected.keys() <= {"pooler.dense.weight", "pooler.dense.bias"}  # a ViT's, which is not read
    assert all(torch.equal(found[key], value) for key, value in expected.items()) and expected
    language = AutoModelForCausalLM.from_pretrained(parts["language"])
    ours = {**model.model.language_model.state_dict(prefix="model."), "lm_head.weight": model.lm_head.weight}
    assert ours.keys() == language.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in language.state_dict().items())
    ids = torch.tensor([[5, 9, 300, 17]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, language(input_ids=ids).logits)
    assert model.generation_config.to_dict() == language.generation_config.to_dict()
    assert isinstance(model.generation_config.eos_token_id, list)


def test_the_smallest_dtype_that_holds_both_parts_is_taken(parts: dict[str, str], tmp_path: Path) -> None:
    half = str(write_language(tmp_path / "half", dtype=torch.bfloat16))
    whole = build(FusedParts(vision=parts["vit"], language=half)).model
    assert {p.dtype for p in whole.parameters()} == {torch.float32} == {whole.config.text_config.dtype}
    rounded = build(FusedParts(vision=parts["vit"], language=half), dtype="bfloat16").model
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    frequencies = rounded.model.language_model.rotary_emb.inv_freq
    assert torch.equal(frequencies, whole.model.language_model.rotary_emb.inv_freq)  # not rounded
    save(FusedModel(rounded, build(FusedParts(vision=parts["vit"], language=half)).processor), tmp_path / "saved")
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "saved").dtype == torch.bfloat16


@pytest.mark.parametrize("tie", [True, False])
def test_embeddings_are_tied_as_in_the_language_model(parts: dict[str, str], tmp_path: Path, tie: bool) -> None:
    language = str(write_language(tmp_path / "language", tie=tie))
    fused = build(FusedParts(vision=parts["vit"], language=language))
    save(fused, tmp_path / "saved")
    for model in (fused.model, AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")):
        assert (model.lm_head.weight is model.get_input_embeddings().weight) is tie
        source = AutoModelForCausalLM.from_pretrained(language)
        assert torch.equal(model.lm_head.weight, source.lm_head.weight)


def test_a_turns_end_ends_an_answer_of_a_base_model_too(parts: dict[str, str], tmp_path: Path) -> None:
    folder = write_language(tmp_path / "base")
    tokenizer = tiny_tokenizer()
    end, of_text = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": of_text}))
    assert build(FusedParts(vision=parts["vit"], language=str(folder))).model.generation_config.eos_token_id == [
        end,
        of_text,
    ]


def test_the_connector_follows_the_seed_and_nothing_else(parts: dict[str, str]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed())
        made = build(FusedParts(vision=parts["vit"], language=parts["language"], tiles=1), seed=seed).model
        return torch.cat([*(p.flatten() for p in connector(made).parameters()), made.model.image_newline])

    one, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(one, again) and not torch.equal(one, other)
    before = torch.get_rng_state()
    build(FusedParts(vision=parts["vit"], language=parts["language"]))
    assert torch.equal(before, torch.get_rng_state())  # a run's own draws are not disturbed


def test_image_tokens_do_not_collapse_onto_one_vector(built: Built) -> None:
    """As they would where the fresh connector's biases outweigh what it reads."""
    made = built("vit", vision_layernorm=True)
    with torch.no_grad():
        tokens = made.model.get_image_features(asked(made.processor, picture(60, 60))["pixel_values"]).pooler_output[0]
    cosines = torch.nn.functional.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
    assert cosines[~torch.eye(len(tokens), dtype=torch.bool)].max() < 0.95
    assert 0.05 < tokens.pow(2).mean().sqrt() < 2


@pytest.mark.parametrize(
    ("vision", "chosen", "tokens", "kind"),
    [
        ("vit", {}, PATCHES + 1, LlavaForConditionalGeneration),
        ("clip", {}, PATCHES + 1, LlavaForConditionalGeneration),
        ("siglip", {"vision_layernorm": True}, PATCHES, LlavaForConditionalGeneration),
        ("vit", {"tiles": 3, "vision_layernorm": True}, None, LlavaNextForConditionalGeneration),
        ("siglip", {"tiles": 3}, None, LlavaNextForConditionalGeneration),
    ],
)
def test_a_saved_folder_loads_with_auto_classes_and_says_the_same(
    built: Built, tmp_path: Path, vision: str, chosen: dict[str, Any], tokens: int | None, kind: Any
) -> None:
    made = built(vision, **chosen)
    save(made, tmp_path)
    assert (tmp_path / "model.safetensors").is_file() and not list(tmp_path.glob("*.bin"))
    model, processor = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert type(model) is type(made.model) is kind
    assert model.state_dict().keys() == made.model.state_dict().keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in made.model.state_dict().items())
    assert model.generation_config.eos_token_id == made.model.generation_config.eos_token_id
    inputs, expected = asked(processor, picture(90, 40)), asked(made.processor, picture(90, 40))
    assert inputs.keys() == expected.keys() and all(torch.equal(inputs[key], expected[key]) for key in inputs)
    templates = {p.chat_template for made_by in (processor, made.processor) for p in (made_by, made_by.tokenizer)}
    assert len(templates) == 1
    shown = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert processor.tokenizer.convert_tokens_to_ids("<|image_pad|>") == model.config.image_token_id
    assert tokens is None or shown == tokens == model.config.image_seq_length
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, made.model(**expected).logits)


@pytest.mark.parametrize(("vision", "norm"), [("vit", "layernorm"), ("siglip", "post_layernorm")])
def test_vision_layernorm_decides_which_states_the_connector_reads(built: Built, vision: str, norm: str) -> None:
    for behind in (False, True):
        made = built(vision, vision_layernorm=behind)
        tower, pixels = made.model.model.vision_tower, asked(made.processor, picture(56, 56))["pixel_values"]
        read: list[torch.Tensor] = []
        before: list[torch.Tensor] = []
        hooks = [
            connector(made.model).register_forward_pre_hook(lambda _m, args, into=read: into.append(args[0])),
            getattr(tower, norm).register_forward_pre_hook(lambda _m, args, into=before: into.append(args[0])),
        ]
        with torch.no_grad():
            made.model.get_image_features(pixels)
            expected = getattr(tower, norm)(before[0]) if behind else before[0]
        for hook in hooks:
            hook.remove()
        assert torch.equal(read[0], expected)
        assert not torch.equal(read[0], before[0]) or not behind


# What is refused


def test_a_clips_final_layernorm_is_refused(parts: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="CLIP, whose final LayerNorm is for its pooled class token"):
        build(FusedParts(vision=parts["clip"], language=parts["language"], vision_layernorm=True))


def test_a_release_that_would_leave_the_layernorm_out_is_refused(
    parts: dict[str, str], built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(built("vit", vision_layernorm=True), tmp_path / "behind")
    save(built("vit"), tmp_path / "before")
    for module in (fused, loading):
        monkeypatch.setattr(module, "ties_last_hidden_states", lambda: False)
    with pytest.raises(ModelError, match="does not know and would leave out; upgrade transformers"):
        open_checkpoint(str(tmp_path / "behind"))
    open_checkpoint(str(tmp_path / "before"))
    with pytest.raises(ModelError, match="does not know tie_last_hidden_states"):
        build(FusedParts(vision=parts["vit"], language=parts["language"], vision_layernorm=True))


def test_what_a_release_knows_is_told_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.ties_last_hidden_states.cache_clear()
    assert compat.ties_last_hidden_states()
    forward = ViTModel.forward

    def without_the_setting(self: Any, *args: Any, **kwargs: Any) -> Any:  # as in transformers 5.17
        self.config.tie_last_hidden_states = None
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ViTModel, "forward", without_the_setting)
    compat.ties_last_hidden_states.cache_clear()
    assert not compat.ties_last_hidden_states()
    compat.ties_last_hidden_states.cache_clear()


def test_a_part_that_lacks_weights_is_refused(parts: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for part, key in (("vit", "vit.encoder.layer.1.layernorm_before.bias"), ("language", "model.norm.weight")):
        folder = tmp_path / part
        folder.mkdir()
        for file in Path(parts[part]).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        weights = load_file(folder / "model.safetensors")
        del weights[key]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        chosen = {"vision": parts["vit"], "language": parts["language"]} | {
            "vision" if part == "vit" else "language": str(folder)
        }
        with pytest.raises(ModelError, match=r"lacks 1 weights .*norm"):
            build(FusedParts(**chosen))


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_start|>", "<|im_end|>"])
def test_a_tokenizer_without_a_needed_token_is_refused_by_name(
    parts: dict[str, str], tmp_path: Path, token: str
) -> None:
    folder = write_language(tmp_path / "language")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text().replace(token, "<|other|>"))
    with pytest.raises(ModelError, match=f"has no token {token!r}".replace("|", r"\|")):
        build(FusedParts(vision=parts["vit"], language=str(folder)))


def test_other_parts_are_refused_with_what_is_supported(parts: dict[str, str], tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ModelError, match=r"of type 'gpt2'; supported are qwen2, qwen3"):
        build(FusedParts(vision=parts["vit"], language=str(tmp_path / "gpt2")))
    with pytest.raises(ModelError, match=r"of type 'qwen2'; supported are vit, clip_vision_model"):
        build(FusedParts(vision=parts["language"], language=parts["language"]))
    with pytest.raises(ModelError, match="cannot load vision model"):
        build(FusedParts(vision=str(tmp_path), language=parts["language"]))
    (Path(parts["vit"]) / "preprocessor_config.json").rename(tmp_path / "kept")
    try:
        with pytest.raises(ModelError, match=r"cannot load vision model .*processor"):
            build(FusedParts(vision=parts["vit"], language=parts["language"]))
    finally:
        (tmp_path / "kept").rename(Path(parts["vit"]) / "preprocessor_config.json")
    oblong = str(write_vit(tmp_path / "oblong", num_channels=3))
    config = json.loads((Path(oblong) / "config.json").read_text())
    (Path(oblong) / "config.json").write_text(json.dumps({**config, "image_size": [56, 28]}))
    with pytest.raises(ModelError, match="square pictures"):
        build(FusedParts(vision=oblong, language=parts["language"]))
    with pytest.raises(ModelError, match="-1 tiles"):
        FusedParts(tiles=-1)


def test_bundled_parts_have_names_of_their_own() -> None:
    for name, inside in (("shapes-vit", "shapes/parts/vit"), ("shapes-lm", "shapes/parts/lm")):
        assert source_of(name).endswith(f"halp_probe/{inside}")
        assert parse_name(f"/elsewhere/halp_probe/{inside}").name == name
    assert source_of("owner/model") == "owner/model"


# Pictures


def letterboxed(image: Image.Image) -> np.ndarray:
    """By Pillow: the longest side to SIDE, centred on black; [3, SIDE, SIDE] normalised."""
    scale = SIDE / max(image.size)
    width, height = (int(side * scale) for side in image.size)
    canvas = Image.new("RGB", (SIDE, SIDE))
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), ((SIDE - width) // 2, (SIDE - height) // 2))
    return ((np.asarray(canvas) / 255 - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize(("width", "height"), [(56, 56), (112, 56), (28, 84), (400, 100), (14, 7)])
def test_pictures_are_centred_on_black_without_distortion(built: Built, width: int, height: int) -> None:
    smooth = picture(4, 4).resize((width, height), Image.Resampling.BICUBIC)
    pixels = asked(built("vit").processor, smooth)["pixel_values"][0].numpy()
    expected = letterboxed(smooth)
    assert pixels.shape == expected.shape
    black = -np.divide(MEAN, STD)[:, None, None]
    assert np.array_equal(np.isclose(pixels, black, atol=1e-5).all(0), np.isclose(expected, black, atol=1e-5).all(0))
    assert np.abs(pixels - expected).max() * max(STD) < 0.05  # resized twice by torch, once by Pillow


def test_tiles_keep_the_shape_and_the_overview_is_the_whole_picture(built: Built) -> None:
    """A red left half and a blue right half, twice as wide as high: two tiles, one of each colour."""
    halves = Image.new("RGB", (120, 60), (255, 0, 0))
    halves.paste((0, 0, 255), (60, 0, 120, 60))
    made = built("vit", tiles=4)
    overview, left, right = asked(made.processor, halves)["pixel_values"][0] * torch.tensor(STD).view(3, 1, 1)
    plain = [part + torch.tensor(MEAN).view(3, 1, 1) for part in (overview, left, right)]
    assert torch.allclose(plain[1].mean((1, 2)), torch.tensor([1.0, 0, 0]), atol=0.02)
    assert torch.allclose(plain[2].mean((1, 2)), torch.tensor([0, 0, 1.0]), atol=0.02)
    assert torch.allclose(plain[0].mean((1, 2)), torch.tensor([0.5, 0, 0.5]), atol=0.02)


def test_the_canvases_are_all_grids_of_so_many_tiles(built: Built) -> None:
    grids = {
        tuple(side // SIDE for side in canvas) for canvas in built("vit", tiles=4).model.config.image_grid_pinpoints
    }
    assert grids == {(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1), (2, 2)}


@settings(max_examples=25)
@given(st.integers(1, 900), st.integers(1, 900))
@example(1, 2000)
@example(20000, 10)
def test_tiles_take_a_picture_of_any_shape(model_tiles: FusedModel, width: int, height: int) -> None:
    """The processor counts as many image tokens as the model makes."""
    inputs = asked(model_tiles.processor, Image.new("RGB", (width, height)))
    with torch.no_grad():
        features = model_tiles.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
    assert int((inputs["input_ids"] == model_tiles.model.config.image_token_id).sum()) == len(features[0])


@pytest.fixture(scope="module")
def model_tiles(built: Built) -> FusedModel:
    return built("vit", tiles=3)


def test_pictures_that_are_too_narrow_are_failures_of_their_own(built: Built, tmp_path: Path) -> None:
    save(built("vit"), tmp_path / "model")
    (tmp_path / "images").mkdir()
    shapes = {"thin": (1, 2000), "long": (20000, 10), "good": (90, 60), "wide": (1000, 20)}
    for name, size in shapes.items():
        Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "images" / f"{name}.png")
    rows = [f"{name},{name}.png,Is it red?,yes" for name in shapes]
    (tmp_path / "vqa.csv").write_text("\n".join(["question_id,image_id,question,answer", *rows]) + "\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(tmp_path / "images")]
    call += ["--model", str(tmp_path / "model"), "--output-dir", str(tmp_path / "out"), "--max-new-tokens", "2"]
    assert run_script("extract", None, [*call, "--workers", "0"]) == 0
    with (tmp_path / "out" / "failures.csv").open() as file:
        failures = {row["question_id"]: row for row in csv.DictReader(file)}
    assert failures.keys() == {"thin", "long"}
    assert {row["stage"] for row in failures.values()} == {"prompt"}
    assert all("too narrow for this model" in row["reason"] for row in failures.values())
    assert set(open_shards(tmp_path / "out").question_ids) == {"good", "wide"}


@pytest.mark.parametrize("side", [4, 56, 384])
def test_a_picture_that_is_taken_leaves_a_pixel_and_little_memory(side: int) -> None:
    """At the narrowest that is taken, and one more pixel is refused."""
    size = {"height": side, "width": side}
    processor = DonutImageProcessor(size=size, do_resize=True, do_thumbnail=True, do_pad=True)
    most = min(50, side)
    for short in (1, 7):
        check_picture_shape(processor, short, short * most)
        white = Image.new("RGB", (short * most, short), (255, 255, 255))
        assert (processor(white, return_tensors="pt")["pixel_values"] > 0).any()
        with pytest.raises(InputError, match=f"differ by at most {most} times; crop it"):
            check_picture_shape(processor, short * most + 1, short)


# Prompts


def test_prompts_are_chatml_with_the_marker_in_front_of_the_question(built: Built) -> None:
    template = built("vit").processor.apply_chat_template
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    parts = [{"type": "image"}, {"type": "text", "text": "Is it red?"}]
    one = f"{system}<|im_start|>user\n<|image_pad|>Is it red?<|im_end|>\n"
    assert template([{"role": "user", "content": parts}]) == one
    assert template([{"role": "user", "content": parts}], add_generation_prompt=True) == f"{one}<|im_start|>assistant\n"
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And round?"},
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
    ]
    assert template(turns) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|image_pad|>Is it red?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nAnd round?<|im_end|>\n"
        "<|im_start|>assistant\nNo.<|im_end|>\n"
    )
    assert "image_pad" not in template([{"role": "user", "content": "Without a picture?"}])


# Adapters


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("vision", ["vit", "clip", "siglip"])
def test_lora_is_put_on_the_language_model_alone(parts: dict[str, str], vision: str, mlp: bool) -> None:
    model = build(FusedParts(vision=parts[vision], language=parts["language"])).model
    config = peft.LoraConfig(r=2, target_modules=lora_targets(mlp))
    wrapped = peft.get_peft_model(model, config)
    adapted = {name for name, module in wrapped.named_modules() if isinstance(module, peft.tuners.lora.Linear)}
    projections = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")] * mlp
    assert adapted == {f"base_model.model.model.language_model.layers.{k}.{p}" for k in range(6) for p in projections}
    assert connector(wrapped) is connector(model) is model.model.multi_modal_projector


# Extraction and probes


def test_extraction_probes_and_scores_run_on_a_fused_model(built: Built, tmp_path: Path) -> None:
    save(built("vit", vision_layernorm=True), tmp_path / "model")
    shapes = ["shapes", "--output-dir", str(tmp_path / "shapes"), "--scenes", "30", "--questions", "2"]
    assert main(shapes) == 0
    where = ["--vqa-dataset", str(tmp_path / "shapes" / "vqa.csv"), "--images-dir", str(tmp_path / "shapes" / "images")]
    out = str(tmp_path / "out")
    extract = [*where, "--model", str(tmp_path / "model"), "--output-dir", out, "--max-new-tokens", "2"]
    assert run_script("extract", None, extract) == 0
    shards = open_shards(out)
    assert shards.attributes["prefix_shared"] and len(shards.question_ids) == 60
    assert shards.vectors("vision_encoder_representation").shape == (60, 16)
    rows = "".join(f"{question},{k % 2}\n" for k, question in enumerate(shards.question_ids))
    (tmp_path / "labels.csv").write_text(f"question_id,label\n{rows}")
    probes = ["--shards", out, "--labels", str(tmp_path / "labels.csv"), "--output-dir", str(tmp_path / "probes")]
    assert run_script("train-probes", None, [*probes, "--folds", "3", "--bootstrap", "20"]) == 0
    name = "query_token_representation/layer_3"
    folder = tmp_path / "probes" / "probes" / name.replace("/", "_")
    expected = load_probe(folder).risk(shards.vectors(name)[:1])[0]
    scorer = RiskScorer(str(tmp_path / "model"), folder)
    image = tmp_path / "shapes" / "images" / shards.text("image_id")[0]
    assert scorer.score(image, shards.text("question")[0]) == pytest.approx(expected, abs=1e-4)


def test_the_saved_folder_loads_like_any_family(built: Built, tmp_path: Path) -> None:
    save(built("siglip", tiles=2), tmp_path / "model")
    loaded = load_weights(open_checkpoint(str(tmp_path / "model")))
    assert (loaded.checkpoint.model_type, loaded.num_layers) == ("llava_next", 6)
