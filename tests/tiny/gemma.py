"""Tiny Gemma models that see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3nAudioConfig,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    Gemma3nProcessor,
    Gemma3nTextConfig,
    Gemma3nVisionConfig,
    Gemma3Processor,
    Gemma3TextConfig,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedImageProcessor,
    Gemma4UnifiedProcessor,
    Gemma4UnifiedVideoProcessor,
    Gemma4VideoProcessor,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, WIDTH, Tiny, gemma_tokenizer, siglip, text_fields, without_zeros

# As google/gemma-3-4b-it has it, without its system turn.
GEMMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# As google/gemma-3n-E4B-it has it.
GEMMA3N_TEMPLATE = GEMMA3_TEMPLATE.replace("<start_of_image>", "<image_soft_token>")
# As google/gemma-4-31B-it has it, without thinking and tools.
GEMMA4_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
GEMMA4_TOKENS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
}
GEMMA4_PIXELS = {"patch_size": 4, "pooling_kernel_size": 2, "max_soft_tokens": 70}  # the fewest that it takes
# PaliGemma's checkpoints have none; its processor adds <bos> after the image and a line's end after the question.
PALIGEMMA_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}answer en {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def _gemma3() -> tuple[Any, Any]:
    """Two kinds of blocks, whose rotary bases differ; 36 patches are pooled into 9 image tokens."""
    images = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = gemma_tokenizer(images)
    text = Gemma3TextConfig(
        **_gemma_text(tokenizer),
        query_pre_attn_scalar=8,
        sliding_window=256,  # more than prompt and answer: padding on the right would stand in an answer's window
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=siglip(84),
        mm_tokens_per_image=9,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=False,
        initializer_range=INITIALIZER_RANGE,
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 84, "width": 84}),
        tokenizer=tokenizer,
        chat_template=GEMMA3_TEMPLATE,
        image_seq_length=9,
    )
    return without_zeros(Gemma3ForConditionalGeneration(config)), processor


def _gemma3n() -> tuple[Any, Any]:
    """Four streams; two last blocks read the keys and values of blocks 2 and 3; image tokens have no text embedding."""
    from timm.models._efficientnet_builder import decode_arch_def

    names = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<start_of_audio>"]
    names += ["<end_of_image>", "<image_soft_token>", "<end_of_audio>", "<audio_soft_token>"]
    keys = [
        "start_token",
        "end_token",
        "boi_token",
        "boa_token",
        "eoi_token",
        "image_token",
        "eoa_token",
        "audio_token",
    ]
    tokenizer = gemma_tokenizer(dict(zip(keys, names, strict=True)))
    ids = {key: tokenizer.convert_tokens_to_ids(name) for key, name in zip(keys, names, strict=True)}
    assert sorted(ids.values()) == list(range(len(tokenizer) - 8, len(tokenizer)))
    text = Gemma3nTextConfig(
        **_gemma_text(tokenizer),
        vocab_size_per_layer_input=ids["eoi_token"],
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        laurel_rank=8,
        sliding_window=256,
        layer_types=["sliding_attention", "full_attention"] * 3,
        activation_sparsity_pattern=[0.95, 0.5, 0.0, 0.0, 0.5, 0.0],
        final_logit_softcapping=5.0,
    )
    stages = [
        ["er_r1_k3_s2_e4_c8"],
        ["uir_r1_a3_k5_s2_e4_c16"],
        ["uir_r1_a5_k5_s2_e4_c16", "mqa_r1_k3_h2_v2_s1_d8_c16", "uir_r1_a0_k0_s1_e2_c16"],
        ["uir_r1_a5_k5_s2_e4_c32", "mqa_r1_k3_h2_s1_d8_c32", "uir_r1_a0_k0_s1_e2_c32"],
    ]
    vision = Gemma3nVisionConfig(
        initializer_range=INITIALIZER_RANGE,
        model_args={
            "block_args": decode_arch_def(stages),
            "stem_size": 8,
            "layer_scale_init_value": 0.5,
            "msfa_output_resolution": 3,
        },
        vocab_offset=ids["eoi_token"],
        vocab_size=2,
    )
    audio = Gemma3nAudioConfig(
        hidden_size=16,
        conf_num_attention_heads=2,
        conf_num_hidden_layers=1,
        sscp_conv_channel_size=(4, 4),
        vocab_offset=ids["eoa_token"],
        vocab_size=2,
    )
    config = Gemma3nConfig(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        vision_soft_tokens_per_image=9,
        **{f"{key}_id": index for key, index in ids.items() if key not in ("start_token", "end_token")},
        initializer_range=INITIALIZER_RANGE,
    )
    processor = Gemma3nProcessor(
        feature_extractor=Gemma3nAudioFeatureExtractor(),
        image_processor=SiglipImageProcessor(size={"height": 96, "width": 96}, do_normalize=False),
        tokenizer=tokenizer,
        chat_template=GEMMA3N_TEMPLATE,
        image_seq_length=9,
    )
    return without_zeros(Gemma3nForConditionalGeneration(config)), processor


def _gemma4() -> tuple[Any, Any]:
    """As the small ones: an embedding a layer, and two last blocks that read the keys and values of blocks 2 and 3."""
    processor = _gemma4_processor()
    model = _gemma4_of(
        processor,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(processor.tokenizer),
        num_kv_shared_layers=2,
        use_double_wide_mlp=True,
    )
    return model, processor


def _gemma4_large() -> tuple[Any, Any]:
    """As the large ones: image tokens see each other both ways in sliding layers; experts, softcapped logits."""
    processor = _gemma4_processor()
    model = _gemma4_of(
        processor,
        standardize=True,
        hidden_size_per_layer_input=0,
        use_bidirectional_attention="vision",
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        final_logit_softcapping=5.0,
        enable_moe_block=True,
        num_experts=2,
        top_k_experts=2,  # all of them: bfloat16's rounding would choose others
        moe_intermediate_size=16,
    )
    return model, processor


def _gemma4_unified() -> tuple[Any, Any]:
    """No vision encoder: pixels of patches, their places, two projections."""
    processor = Gemma4UnifiedProcessor(
        feature_extractor=Gemma4UnifiedAudioFeatureExtractor(),
        image_processor=Gemma4UnifiedImageProcessor(**GEMMA4_PIXELS),
        tokenizer=gemma_tokenizer(GEMMA4_TOKENS),
        video_processor=Gemma4UnifiedVideoProcessor(),
        chat_template=GEMMA4_TEMPLATE,
    )
    config = Gemma4UnifiedConfig(
        text_config=_gemma4_text(processor.tokenizer, num_kv_shared_layers=2, use_bidirectional_attention="vision"),
        vision_config={
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "mm_embed_dim": 16,
            "mm_posemb_size": 80,
            "output_proj_dims": 16,
            "initializer_range": INITIALIZER_RANGE,
        },
        **_gemma4_ids(processor.tokenizer),
    )
    return _softened(without_zeros(Gemma4UnifiedForConditionalGeneration(config))), processor


def _gemma4_processor() -> Any:
    return Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(**GEMMA4_PIXELS),
        tokenizer=gemma_tokenizer(GEMMA4_TOKENS),
        video_processor=Gemma4VideoProcessor(),
        chat_template=GEMMA4_TEMPLATE,
    )


def _gemma4_of(processor: Any, standardize: bool = False, **text: Any) -> Any:
    config = Gemma4Config(
        text_config=_gemma4_text(processor.tokenizer, **text),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 80,
            "standardize": standardize,
            "initializer_range": INITIALIZER_RANGE,
        },
        **_gemma4_ids(processor.tokenizer),
    )
    model = _softened(without_zeros(Gemma4ForConditionalGeneration(config)))
    torch.nn.init.normal_(model.model.vision_tower.patch_embedder.position_embedding_table, std=INITIALIZER_RANGE)
    if standardize:
        torch.nn.init.normal_(model.model.vision_tower.std_bias)
        torch.nn.init.uniform_(model.model.vision_tower.std_scale, 0.5, 1.5)
    return model


def _softened(model: Any) -> Any:
    """Attention's scores are not scaled by the width but by a trained norm: without one they magnify rounding."""
    for block in model.model.language_model.layers:
        torch.nn.init.constant_(block.self_attn.q_norm.weight, block.self_attn.head_dim**-0.5)
    return model


def _gemma4_text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        **_gemma_text(tokenizer),
        "global_head_dim": 16,
        "sliding_window": 512,  # prefix, padding, suffix and answer fit it
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        **more,
    }


def _gemma4_ids(tokenizer: Any) -> dict[str, Any]:
    names = {"boi_token_id": "<|image>", "eoi_token_id": "<image|>", "image_token_id": "<|image|>"}
    names |= {"boa_token_id": "<|audio>", "eoa_token_index": "<audio|>", "audio_token_id": "<|audio|>"}
    names |= {"video_token_id": "<|video|>"}
    return {
        **{field: tokenizer.convert_tokens_to_ids(name) for field, name in names.items()},
        "audio_config": None,
        "initializer_range": INITIALIZER_RANGE,
    }


def _paligemma() -> tuple[Any, Any]:
    processor = _paligemma_processor()
    return _paligemma_of(GemmaConfig(**_gemma_text(processor.tokenizer)), processor), processor


def _paligemma2() -> tuple[Any, Any]:
    """The same model type with Gemma 2 as its decoder: sliding windows, softcapped attention and logits."""
    processor = _paligemma_processor()
    text = Gemma2Config(
        **_gemma_text(processor.tokenizer),
        query_pre_attn_scalar=8,
        sliding_window=256,
        final_logit_softcapping=5.0,
        attn_logit_softcapping=5.0,
    )
    return _paligemma_of(text, processor), processor


def _paligemma_processor() -> Any:
    images = SiglipImageProcessor(size={"height": 56, "width": 56}, image_seq_length=16)
    return PaliGemmaProcessor(image_processor=images, tokenizer=gemma_tokenizer({}), chat_template=PALIGEMMA_TEMPLATE)


def _paligemma_of(text: Any, processor: Any) -> Any:
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=siglip(56),
        image_token_index=processor.image_token_id,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        tie_word_embeddings=False,
    )
    return without_zeros(PaliGemmaForConditionalGeneration(config))


def _gemma_text(tokenizer: Any) -> dict[str, Any]:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<{name}>") for name in ("eos", "bos", "pad")}
    return text_fields(tokenizer, head_dim=8, **{f"{name}_token_id": index for name, index in ids.items()})


def _patches(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.vision_tower(images["pixel_values"]).last_hidden_state[0]


def _cells(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of the feature map of timm's own model, row by row."""
    width_first = loaded.model.model.vision_tower.timm_model(images["pixel_values"])[0]  # [V, 3, 3]
    return torch.stack([width_first[:, row, column] for row in range(3) for column in range(3)]) * 2048**0.5


def _soft_tokens(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.embed_vision(inputs_embeds=_cells(loaded, images))


def _stream(output: torch.Tensor) -> torch.Tensor:
    assert output.ndim == 4
    return output.select(0, 0)


def _pooled(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """From the tower's last block on: means of 2 × 2 patches, one by one, of which padding is none."""
    tower = loaded.model.model.vision_tower
    places = images["image_position_ids"]
    shown = (places >= 0).all(-1)  # [1, patches]
    embedded = tower.patch_embedder(images["pixel_values"], places, ~shown)
    patches = tower.encoder(inputs_embeds=embedded, attention_mask=shown, pixel_position_ids=places).last_hidden_state
    cells: dict[tuple[int, int], list[torch.Tensor]] = {}
    for state, (x, y) in zip(patches[shown], places[shown].tolist(), strict=True):
        cells.setdefault((y // 2, x // 2), []).append(state)
    pooled = torch.stack([torch.stack(cells[place]).mean(0) * 16**0.5 for place in sorted(cells)])
    return (pooled - tower.std_bias) * tower.std_scale if tower.config.standardize else pooled


def _embedded(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Patches alone, without any padding, through the layers before the last projection."""
    embedder, places = loaded.model.model.embed_vision, images["image_position_ids"][0]
    count = next((k for k, place in enumerate(places.tolist()) if place == [-1, -1]), len(places))
    embedded = embedder.patch_ln2(embedder.patch_dense(embedder.patch_ln1(images["pixel_values"][0, :count])))
    across, down = (embedder.pos_embedding[places[:count, axis], axis] for axis in (0, 1))
    return embedder.pos_norm(embedded + across + down)


TINY = {
    "gemma3": Tiny(_gemma3, _patches),
    "gemma3n": Tiny(_gemma3n, _cells, vision_only=_soft_tokens, block_states=_stream, hidden_states=False),
    "gemma4": Tiny(_gemma4, _pooled),
    "gemma4_large": Tiny(_gemma4_large, _pooled),
    "gemma4_unified": Tiny(_gemma4_unified, _embedded),
    "paligemma": Tiny(_paligemma, _patches),
    "paligemma2": Tiny(_paligemma2, _patches),
}
