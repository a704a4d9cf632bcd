"""Tiny models of families that stand for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AriaConfig,
    AriaForConditionalGeneration,
    AriaImageProcessor,
    AriaProcessor,
    AriaTextConfig,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    DeepseekVLHybridImageProcessor,
    DeepseekVLHybridProcessor,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    Idefics3VisionConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAEConfig,
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    LlamaConfig,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessor,
    Ovis2Processor,
    Ovis2VisionConfig,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen3VLVideoProcessor,
    SamVisionConfig,
    Siglip2VisionConfig,
    TimmWrapperConfig,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import (
    INITIALIZER_RANGE,
    WIDTH,
    Tiny,
    named_tokenizer,
    siglip,
    text_fields,
    tiny_tokenizer,
    without_zeros,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{{ after }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEEPSEEK_TEMPLATE = (
    "{% for message in messages %}{{ 'User' if message['role'] == 'user' else 'Assistant' }}: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image_placeholder>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}\n\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 14,
    "initializer_range": INITIALIZER_RANGE,
}


def _lfm2_vl() -> tuple[Any, Any]:
    """Attention in two of six blocks; a wide picture becomes tiles and a thumbnail with other numbers of patches."""
    places = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = tiny_tokenizer("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *places)
    text = Lfm2Config(
        **text_fields(tokenizer),
        block_auto_adjust_ff_dim=False,
        layer_types=["conv", "conv", "full_attention"] * 2,
    )
    config = Lfm2VlConfig(
        text_config=text,
        vision_config=Siglip2VisionConfig(**VISION, num_patches=16, vision_use_head=False),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=48,
    )
    images = Lfm2VlImageProcessor(
        encoder_patch_size=14, tile_size=56, min_image_tokens=4, max_image_tokens=9, max_tiles=4
    )
    processor = Lfm2VlProcessor(images, tokenizer, chat_template=CHATML)
    return Lfm2VlForConditionalGeneration(config), processor


def _lfm3_vl() -> tuple[Any, Any]:
    """Convolutions, a sliding window and attention in both halves; four patches become one image token."""
    from transformers import (  # later than transformers 5.17
        Lfm3Config,
        Lfm3VlConfig,
        Lfm3VlForConditionalGeneration,
        Lfm3VlProcessor,
        Lfm3VlVisionConfig,
    )

    tokenizer = tiny_tokenizer()
    text = Lfm3Config(
        **text_fields(tokenizer, head_dim=8),
        conv_L_cache=4,
        sliding_window=24,
        layer_types=["conv", "sliding_attention", "full_attention"] * 2,
    )
    vision = Lfm3VlVisionConfig(
        **{**VISION, "patch_size": 16}, num_key_value_heads=1, layer_types=["conv", "full_attention", "conv"]
    )
    ids = tokenizer.convert_tokens_to_ids
    config = Lfm3VlConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        projector_hidden_size=48,
    )
    processor = Lfm3VlProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=64 * 64, max_pixels=160 * 160, patch_size=16, merge_size=2),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHATML.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Lfm3VlForConditionalGeneration(config), processor


def _ovis2() -> tuple[Any, Any]:
    """A vocabulary of 40 visual words, the last five of them marks; four patches become one image token."""
    marks = [f"<IMG_{mark}>" for mark in ("START", "GRID", "COL", "ROW", "END")]
    tokenizer = tiny_tokenizer("<image>", "<IMG_ATOM>", *marks)
    config = Ovis2Config(
        text_config=Qwen2Config(**text_fields(tokenizer)),
        vision_config=Ovis2VisionConfig(**VISION, image_size=56, hidden_stride=2, vocab_size=40),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        initializer_range=INITIALIZER_RANGE,
    )
    images = Ovis2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4)
    processor = Ovis2Processor(images, tokenizer, chat_template=CHATML.replace("{{ after }}", "\n"), image_seq_length=4)
    return Ovis2ForConditionalGeneration(config), processor


def _janus() -> tuple[Any, Any]:
    """With its picture maker, as small as its groups of 32 channels allow."""
    tokenizer = named_tokenizer(
        {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    )
    vision = JanusVisionConfig(
        **{**VISION, "intermediate_size": None}, mlp_ratio=2, image_size=56, projection_dim=WIDTH, num_image_tokens=16
    )
    maker = JanusVQVAEConfig(
        num_embeddings=16,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=[1, 1],
        num_res_blocks=1,
        projection_dim=WIDTH,
        image_token_embed_dim=WIDTH,
    )
    config = JanusConfig(
        text_config=LlamaConfig(**text_fields(tokenizer)),
        vision_config=vision,
        vq_config=maker,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = JanusImageProcessor(size={"height": 56, "width": 56})
    processor = JanusProcessor(images, tokenizer, chat_template=DEEPSEEK_TEMPLATE, num_image_tokens=16)
    model = JanusForConditionalGeneration(config)
    model.generation_config.guidance_scale = 5.0  # as the checkpoints have it
    return model, processor


def _deepseek_vl() -> tuple[Any, Any]:
    tokenizer = named_tokenizer({"image_token": "<image_placeholder>"})
    config = DeepseekVLConfig(
        text_config=LlamaConfig(**text_fields(tokenizer)),
        vision_config=siglip(56),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = DeepseekVLImageProcessor(size={"height": 56, "width": 56})
    processor = DeepseekVLProcessor(images, tokenizer, chat_template=DEEPSEEK_TEMPLATE, num_image_tokens=16)
    return DeepseekVLForConditionalGeneration(config), processor


def _deepseek_vl_hybrid() -> tuple[Any, Any]:
    """SAM looks at 96 × 96 pixels in windows, SigLIP at 56 × 56."""
    tokenizer = named_tokenizer({"image_token": "<image_placeholder>"})
    sam = SamVisionConfig(
        hidden_size=16,
        output_channels=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=96,
        patch_size=16,
        window_size=3,
        global_attn_indexes=[1, 2],
        mlp_dim=32,
        initializer_range=INITIALIZER_RANGE,
    )
    config = DeepseekVLHybridConfig(
        text_config=LlamaConfig(**text_fields(tokenizer)),
        vision_config=siglip(56),
        high_res_vision_config=sam,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = DeepseekVLHybridImageProcessor(size={"height": 56, "width": 56}, high_res_size={"height": 96, "width": 96})
    processor = DeepseekVLHybridProcessor(images, tokenizer, chat_template=DEEPSEEK_TEMPLATE, num_image_tokens=16)
    return without_zeros(DeepseekVLHybridForConditionalGeneration(config)), processor


def _perception_lm() -> tuple[Any, Any]:
    """The perception encoder of timm with its class token; four patches are pooled into one image token."""
    tokenizer = named_tokenizer({"image_token": "<|image|>", "video_token": "<|video|>"})
    encoder = {
        "embed_dim": 16,
        "depth": 3,
        "num_heads": 2,
        "img_size": [56, 56],
        "ref_feat_shape": [4, 4],
        "global_pool": "",
        "use_post_transformer_norm": False,
        "init_values": 0.1,
    }
    config = PerceptionLMConfig(
        text_config=LlamaConfig(**text_fields(tokenizer)),
        vision_config=TimmWrapperConfig(architecture="vit_pe_core_large_patch14_336", model_args=encoder),
        projector_pooling_ratio=2,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    processor = PerceptionLMProcessor(
        video_processor=PerceptionLMVideoProcessor(size={"height": 56, "width": 56}),
        image_processor=PerceptionLMImageProcessor(tile_size=56, max_num_tiles=4),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=CHATML.replace("<image>", "<|image|>"),
        pooling_ratio=2,
    )
    return PerceptionLMForConditionalGeneration(config), processor


def _aria() -> tuple[Any, Any]:
    """Its processor knows squares of 490 pixels, so patches are large; the projector reads the block before last."""
    tokenizer = named_tokenizer({"image_token": "<|img|>"})
    config = AriaConfig(
        text_config=AriaTextConfig(**text_fields(tokenizer), moe_num_experts=4),
        vision_config=Idefics3VisionConfig(**{**VISION, "patch_size": 70}, image_size=490),
        vision_feature_layer=-2,
        projector_patch_to_query_dict={49: 5},
        image_token_index=tokenizer.image_token_id,
        initializer_range=INITIALIZER_RANGE,
    )
    processor = AriaProcessor(
        AriaImageProcessor(),
        tokenizer,
        chat_template=CHATML.replace("<image>", "<fim_prefix><|img|><fim_suffix>"),
        size_conversion={490: 5},
    )
    wishes = getattr(processor, "images_kwargs", {})  # of every checkpoint; 5.17 keeps them elsewhere
    processor.images_kwargs = {**wishes, "max_image_size": 490}
    return without_zeros(AriaForConditionalGeneration(config)), processor


def _naflex(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Each tile by itself, without its padding."""
    tower, states = loaded.model.model.vision_tower, []
    for pixels, shape in zip(images["pixel_values"], images["spatial_shapes"], strict=True):
        patches = int(shape.prod())
        ones = torch.ones(1, patches, dtype=torch.int64)
        states.append(tower(pixels[None, :patches], pixel_attention_mask=ones, spatial_shapes=shape[None]))
    return torch.cat([state.last_hidden_state[0] for state in states])


def _packed(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"], grid_thw=images["image_grid_thw"]).last_hidden_state


def _ovis2_patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower.transformer(images["pixel_values"]).last_hidden_state.flatten(0, 1)


def _siglip(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_model(images["pixel_values"]).last_hidden_state[0]


def _timm(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    features = loaded.model.model.vision_tower.timm_model.forward_features(images["pixel_values"][0])
    return features[:, 1:].flatten(0, 1)


def _cut_square(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Without the rows and columns of patches that hold padding alone."""
    height, width = (70 * -(-int(images["pixel_mask"][0].any(axis).sum()) // 70) for axis in (1, 0))
    pixels = images["pixel_values"][:, :, :height, :width]
    return loaded.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][0]


TINY = {
    "lfm2_vl": Tiny(_lfm2_vl, _naflex),
    "lfm3_vl": Tiny(_lfm3_vl, _packed, later="Lfm3VlConfig"),
    "ovis2": Tiny(_ovis2, _ovis2_patches),
    "janus": Tiny(_janus, _siglip),
    "deepseek_vl": Tiny(_deepseek_vl, _siglip),
    "deepseek_vl_hybrid": Tiny(_deepseek_vl_hybrid, _siglip),
    "perception_lm": Tiny(_perception_lm, _timm),
    "aria": Tiny(_aria, _cut_square),
}
