"""Tiny models whose decoder blocks pass on several residual streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Glm5NextConfig,
    Glm5NextForConditionalGeneration,
    Glm5NextImageProcessor,
    Glm5NextProcessor,
    Glm5NextVideoProcessor,
)

from halp_probe.models.loading import LoadedModel
from halp_probe.shapes.model import CHAT_TEMPLATE
from tiny.glm import GLM_TEMPLATE
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, text_fields, tiny_tokenizer, without_zeros

_GLM_TOKENS = ("<|image|>", "<|video|>", "<|user|>", "<|assistant|>", "[gMASK]", "<sop>")
_GLM_MARKS = tuple(f"<|{end}_of_{kind}|>" for kind in ("image", "video") for end in ("begin", "end"))
_DECODER = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 2,
    "num_experts_per_tok": 2,  # all of them: bfloat16's rounding would choose others
    "mlp_layer_types": ["dense", *["sparse"] * 5],
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "v_head_dim": 8,
    "index_topk": 32,
    "index_head_dim": 8,
    "index_n_heads": 32,  # with few, many scores are zero and chance chooses
    "hc_mult": 3,
}
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "initializer_range": INITIALIZER_RANGE}


def _hy_v4_vl() -> tuple[Any, Any]:
    from transformers import (  # later than transformers 5.17
        HYV4VLConfig,
        HYV4VLForConditionalGeneration,
        HYV4VLImageProcessor,
        HYV4VLProcessor,
        HYV4VLVideoProcessor,
    )

    tokenizer = tiny_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = {**text_fields(tokenizer, rope_parameters=rope), **_DECODER, "qk_rope_head_dim": 8, "qk_nope_head_dim": 4}
    tower = {**_TOWER, "num_hidden_layers": 3, "num_attention_heads": 2, "max_image_size": 128}
    config = HYV4VLConfig(
        text_config=text,
        vision_config={**tower, "out_hidden_size": WIDTH},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    processor = HYV4VLProcessor(
        image_processor=HYV4VLImageProcessor(min_pixels=64 * 64, max_pixels=160 * 160),
        tokenizer=tokenizer,
        video_processor=HYV4VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return _with_full_embeddings(HYV4VLForConditionalGeneration(config)), processor


def _glm5_next() -> tuple[Any, Any]:
    """Five recurrent blocks, one that reads the tokens which an indexer chooses in groups of four."""
    tokenizer = tiny_tokenizer(*_GLM_TOKENS, *_GLM_MARKS)
    kinds = [*["linear_attention"] * 3, "full_attention", *["linear_attention"] * 2]
    recurrent = {"linear_num_heads": 2, "linear_head_dim": 8, "hc_sinkhorn_iters": 3, "index_kpool": 4}
    text = {**text_fields(tokenizer, layer_types=kinds), **_DECODER, **recurrent, "qk_nope_head_dim": 8}
    config = Glm5NextConfig(
        text_config=text,
        vision_config={**_TOWER, "depth": 3, "num_heads": 2, "out_hidden_size": WIDTH, "image_size": 112},
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
            for name, token in (
                ("image", "<|image|>"),
                ("video", "<|video|>"),
                ("image_start", "<|begin_of_image|>"),
                ("image_end", "<|end_of_image|>"),
                ("video_start", "<|begin_of_video|>"),
                ("video_end", "<|end_of_video|>"),
            )
        },
    )
    size = {"shortest_edge": 2 * 56 * 56, "longest_edge": 2 * 140 * 140}  # twice: a picture is two frames
    processor = Glm5NextProcessor(
        image_processor=Glm5NextImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Glm5NextVideoProcessor(),
        chat_template=GLM_TEMPLATE,
    )
    return _with_full_embeddings(Glm5NextForConditionalGeneration(config)), processor


def _with_full_embeddings(model: Any) -> Any:
    """Also of the padding token, which starts at zero: said as an answer, chance would choose what is read."""
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=INITIALIZER_RANGE)
    return without_zeros(model)


def _side_by_side(output: Any) -> torch.Tensor:
    streams: torch.Tensor = output[0]
    return streams.flatten(2)


def _before_merger(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_tower
    states: torch.Tensor = tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state
    return states[0]


def _merged(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_tower
    tokens: torch.Tensor = tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).pooler_output
    return tokens[0]


def _after_norm(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower, states = loaded.model.model.visual, []
    hook = tower.blocks[-1].register_forward_hook(lambda _module, _args, output: states.append(output))
    tower(images["pixel_values"], images["image_grid_thw"])
    hook.remove()
    normed: torch.Tensor = tower.post_layernorm(states[0])
    return normed


def _tokens(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tokens: torch.Tensor = loaded.model.model.visual(images["pixel_values"], images["image_grid_thw"]).pooler_output
    return tokens


_STREAMS: dict[str, Any] = {"block_states": _side_by_side, "hidden_states": False, "token_axis": -3}
TINY = {
    "hy_v4_vl": Tiny(_hy_v4_vl, _before_merger, vision_only=_merged, **_STREAMS, later="HYV4VLConfig"),
    "glm5_next": Tiny(_glm5_next, _after_norm, vision_only=_tokens, **_STREAMS),
}
