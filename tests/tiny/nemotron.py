"""A tiny Nemotron 3 Omni."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import NemotronHConfig, ParakeetFeatureExtractor

from halp_probe.models.loading import LoadedModel
from tiny.ocr import CHATML
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, named_tokenizer, text_fields, without_zeros

_TOKENS = {
    "image_token": "<image>",
    "video_token": "<video>",
    "audio_token": "<so_embedding>",
    "image_start_token": "<img>",
    "image_end_token": "</img>",
}


def _nemotron_h_omni() -> tuple[Any, Any]:
    """A block is Mamba, attention, one network or a mixture of them; no ears."""
    from transformers import (  # later than transformers 5.17
        NemotronH_Omni_Reasoning_V3,
        NemotronH_Omni_Reasoning_V3_Config,
        NemotronH_Omni_Reasoning_V3ImageProcessor,
        NemotronH_Omni_Reasoning_V3Processor,
        NemotronH_Omni_Reasoning_V3VideoProcessor,
        RadioConfig,
    )

    tokenizer = named_tokenizer(_TOKENS, "<so_start>", "<so_end>")
    mamba = {"ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "chunk_size": 16}
    experts = {"n_routed_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    kinds = ["linear_attention", "moe", "full_attention", "linear_attention", "mlp", "linear_attention"]
    fields = text_fields(tokenizer, head_dim=8, layers_block_type=kinds, moe_shared_expert_intermediate_size=16)
    del fields["num_hidden_layers"]
    vision = RadioConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        mlp_ratio=2.0,
        image_size=96,
        max_img_size=128,
        num_registers=2,
        video_temporal_patch_size=2,
        initializer_range=INITIALIZER_RANGE,
    )
    config = NemotronH_Omni_Reasoning_V3_Config(
        vision_config=vision,
        text_config=NemotronHConfig(**fields, **mamba, **experts),
        vision_hidden_size=16,
        projector_hidden_size=WIDTH,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        audio_token_id=tokenizer.audio_token_id,
    )
    processor = NemotronH_Omni_Reasoning_V3Processor(
        image_processor=NemotronH_Omni_Reasoning_V3ImageProcessor(min_num_patches=16, max_num_patches=64),
        video_processor=NemotronH_Omni_Reasoning_V3VideoProcessor(),
        tokenizer=tokenizer,
        feature_extractor=ParakeetFeatureExtractor(),
        chat_template=CHATML.replace("PLACEHOLDER", "<image>\n"),
    )
    return without_zeros(NemotronH_Omni_Reasoning_V3(config)), processor


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    features: torch.Tensor = loaded.model.vision_model(
        images["pixel_values"], image_grid_hw=images["image_grid_hw"]
    ).features
    return features


TINY = {"nemotron_h_omni": Tiny(_nemotron_h_omni, _patches, later="NemotronH_Omni_Reasoning_V3")}
