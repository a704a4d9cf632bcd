"""Weights are those of the files: folders broken in each way are refused by name, harmless differences are not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model

from halp_probe.cli import main
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import LoadedModel, open_checkpoint
from halp_probe.models.whole_weights import read_weights, weight_names

Weights = dict[str, torch.Tensor]
DOWN = "model.language_model.layers.1.mlp.down_proj.weight"  # as the model names it
SHARD, INDEX = "model-00001-of-00002.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of LLaVA's kind: tower, projector, decoder and a head of its own, in one file."""
    folder = tmp_path_factory.mktemp("llava")
    loaded = tiny_model("llava")
    loaded.model.save_pretrained(folder)
    loaded.checkpoint.processor.save_pretrained(folder)
    return folder


def weights_of(folder: Path) -> Weights:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def in_two_shards(folder: Path, weights: Weights) -> None:
    """Replace the folder's weights by these, in two files with an index."""
    for file in folder.glob("*.safetensors"):
        file.unlink()
    names = sorted(weights)
    places = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name].contiguous() for name in part}, folder / shard, metadata={"format": "pt"})
        places.update(dict.fromkeys(part, shard))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def edited(change: Callable[[Weights], Weights]) -> Callable[[Path], None]:
    """What breaks a folder by a change to its weights alone."""
    return lambda folder: in_two_shards(folder, change(weights_of(folder)))


def without(*beginnings: str) -> Callable[[Path], None]:
    return edited(lambda weights: {name: w for name, w in weights.items() if not name.startswith(beginnings)})


def layers(count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["num_hidden_layers"] = count
        config["text_config"].pop("layer_types", None)
        (folder / "config.json").write_text(json.dumps(config))

    return change


def pointer(folder: Path) -> None:
    (folder / SHARD).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def truncated(folder: Path) -> None:
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[: len(content) // 2])


def lying_index(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["language_model.model.layers.1.mlp.other.weight"] = SHARD
    (folder / INDEX).write_text(json.dumps(index))


OTHER_LAYER = "model.language_model.layers.5."
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (without("language_model.model.layers.1.mlp.down_proj"), f"1 missing from the files ({DOWN})"),
    "renamed": (
        edited(lambda weights: {name.replace("1.mlp.down_proj", "1.mlp.down"): w for name, w in weights.items()}),
        "1 without a place in the model (model.language_model.layers.1.mlp.down.weight)",
    ),
    "prefixed": (edited(lambda weights: {f"base_model.{name}": w for name, w in weights.items()}), "base_model."),
    "reshaped": (
        edited(lambda weights: {name: w[:, :-1] if "1.mlp.down" in name else w for name, w in weights.items()}),
        f"1 of another shape ({DOWN}: (32, 63) for (32, 64))",
    ),
    "pointer": (pointer, SHARD),
    "truncated": (truncated, SHARD),
    "index lies": (lying_index, "language_model.model.layers.1.mlp.other.weight"),
    "lost shard": (lambda folder: (folder / SHARD).unlink(), SHARD),
    "shallower": (layers(5), OTHER_LAYER),
    "deeper": (layers(7), "model.language_model.layers.6."),
    "no tower": (without("vision_tower"), "model.vision_tower."),
    "no projector": (without("multi_modal_projector"), "model.multi_modal_projector."),
    "no head": (without("language_model.lm_head"), "lm_head.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_is_refused_by_name(
    llava: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    change, told = BROKEN[broken]
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    in_two_shards(folder, weights_of(folder))
    change(folder)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 60)).save(tmp_path / "images" / "a.png")
    (tmp_path / "q.csv").write_text("question_id,image_id,question,answer\nq,a.png,Is there a circle?,no\n")
    arguments = [
        "extract", "--model", str(folder), "--vqa-dataset", str(tmp_path / "q.csv"), "--images-dir",
        str(tmp_path / "images"), "--output-dir", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 2
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(shown) == 1 and told in shown[0]
    assert not [*(tmp_path / "out").glob("*.h5")]


def test_weights_beside_the_model_s_own_are_told_and_left_out(
    llava: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What real files hold besides: buffers of older versions, and blocks and heads of another purpose."""
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    more = {
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    in_two_shards(folder, weights_of(folder) | more)
    assert_same(read(folder), llava)
    assert not caplog.records
    in_two_shards(folder, weights_of(folder) | {"mtp.layers.0.weight": torch.ones(4), "value_head.bias": torch.ones(1)})
    assert_same(read(folder), llava)
    assert "2 weights in its files are not read (mtp.layers.0.weight, value_head.bias)" in caplog.text


def test_blocks_that_predict_further_tokens_are_left_out_where_the_config_counts_them(
    llava: Path, tmp_path: Path
) -> None:
    """They lie behind the last block of the decoder, as those of GLM and DeepSeek do; one more is too many."""
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    further = {f"language_model.model.layers.{block}.mlp.up_proj.weight": torch.ones(64, 32) for block in (6, 7)}
    in_two_shards(folder, weights_of(folder) | further)
    for blocks in (1, 2):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["num_nextn_predict_layers"] = blocks
        (folder / "config.json").write_text(json.dumps(config))
        if blocks == 1:
            with pytest.raises(ModelError, match=r"1 without a place in the model \(model.language_model.layers.7"):
                read(folder)
    assert_same(read(folder), llava)


def test_a_head_that_the_config_ties_is_not_missed(llava: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    without("language_model.lm_head")(folder)
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    model = read(folder).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_head_in_the_files_holds_whatever_the_config_ties(llava: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    assert_same(read(folder), llava)


@pytest.mark.parametrize("name", ["internvl", "mistral3", "gemma3"])
def test_a_head_is_tied_by_what_the_config_says_not_by_a_default(name: str, tmp_path: Path) -> None:
    """InternVL and Mistral 3 tie by transformers' default for the whole, though their language models do not.

    Gemma's is tied in every release, so its files hold no head, and its configs need not say so.
    """
    loaded = tiny_model(name)
    loaded.model.save_pretrained(tmp_path)
    in_two_shards(tmp_path, {key: w for key, w in weights_of(tmp_path).items() if not key.endswith("lm_head.weight")})
    config = json.loads((tmp_path / "config.json").read_text())
    for part in (config, config["text_config"]):
        part.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = replace(loaded.checkpoint, source=str(tmp_path), name=name)
    if name != "gemma3":
        with pytest.raises(ModelError, match=r"hold no lm_head\.weight, and its config\.json does not say"):
            read_weights(checkpoint, cache_dir=None, dtype="float32")
        (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    model = read_weights(checkpoint, cache_dir=None, dtype="float32")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def read(folder: Path) -> LoadedModel:
    checkpoint = open_checkpoint(str(folder))
    return LoadedModel(checkpoint=checkpoint, model=read_weights(checkpoint, cache_dir=None, dtype="float32"))


def assert_same(loaded: LoadedModel, folder: Path) -> None:
    states, expected = loaded.model.state_dict(), read(folder).model.state_dict()
    assert states.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(states[name], tensor), name


# Names in the index of released files, by family, and how each differs from what the model itself is called.
_QWEN_BLOCK = ("model.layers.0.self_attn.q_proj.bias", "visual.blocks.0.attn.qkv.weight", "visual.merger.ln_q.weight")
REAL_NAMES: dict[str, tuple[str, ...]] = {
    "qwen2_vl": (*_QWEN_BLOCK, "visual.blocks.0.mlp.fc1.bias", "model.embed_tokens.weight", "lm_head.weight"),
    "qwen2_5_vl": (*_QWEN_BLOCK, "visual.blocks.0.mlp.gate_proj.bias", "model.norm.weight", "lm_head.weight"),
    "qwen3_vl": (
        "model.language_model.layers.0.self_attn.q_norm.weight",
        "model.visual.deepstack_merger_list.0.linear_fc1.bias",
        "model.visual.pos_embed.weight",
    ),
    "qwen3_vl_moe": ("model.language_model.layers.0.mlp.experts.gate_up_proj",),
    "qwen3_5_moe": ("model.language_model.layers.0.mlp.experts.0.gate_proj.weight",),
    "glm4v_moe": ("model.language_model.layers.1.mlp.experts.0.up_proj.weight",),
    "ernie4_5_vl_moe": ("model.layers.1.mlp.experts.0.down_proj.weight",),
    "llava": (
        "language_model.model.layers.0.mlp.down_proj.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.bias",
        "multi_modal_projector.linear_1.weight",
    ),
    "gemma3": (
        "language_model.model.layers.0.pre_feedforward_layernorm.weight",
        "vision_tower.vision_model.embeddings.patch_embedding.bias",
        "multi_modal_projector.mm_soft_emb_norm.weight",
    ),
    "mllama": ("language_model.model.layers.1.cross_attn_attn_gate", "language_model.lm_head.weight"),
    "llava_onevision": ("image_newline", "vision_tower.vision_model.post_layernorm.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TINY) - {"gemma3n"}))  # its random config cannot be written
def test_saved_in_shards_under_its_released_names_a_model_is_read_whole(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = tiny_model(name)
    loaded.model.save_pretrained(tmp_path)
    weights = {
        # transformers 5 writes the towers of CLIP and SigLIP without the part of their name that released files have
        re.sub(r"^vision_tower\.(?=embeddings|encoder|pre_layrnorm|post_layernorm)", "vision_tower.vision_model.", key)
        if name in REAL_NAMES
        else key: tensor
        for key, tensor in weights_of(tmp_path).items()
    }
    in_two_shards(tmp_path, weights)
    missing = set(REAL_NAMES.get(name, ())) - weights.keys()
    assert not missing
    model = read_weights(replace(loaded.checkpoint, source=str(tmp_path), name=name), cache_dir=None, dtype="float32")
    states, expected = model.state_dict(), loaded.model.state_dict()
    assert states.keys() == expected.keys()
    assert not [record for record in caplog.records if record.name.startswith("halp_probe")]
    for key, tensor in expected.items():
        assert torch.equal(states[key], tensor), key


@pytest.mark.slow
def test_one_expert_of_many_is_missed(tmp_path: Path) -> None:
    """Experts that lie one by one in the files are stacked on the way."""
    loaded = tiny_model("qwen3_5_moe")
    loaded.model.save_pretrained(tmp_path)
    without("model.language_model.layers.1.mlp.experts.1.gate_proj")(tmp_path)
    with pytest.raises(ModelError, match=r"lack 1 .*layers\.1\.mlp\.experts\.1\.gate_proj"):
        read_weights(replace(loaded.checkpoint, source=str(tmp_path), name="m"), cache_dir=None, dtype="float32")


def test_names_are_read_from_the_header(llava: Path) -> None:

    with safe_open(llava / "model.safetensors", "pt") as file:
        assert weight_names(llava / "model.safetensors") == set(file.keys())
