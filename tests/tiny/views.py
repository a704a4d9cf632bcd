"""Tiny models that read a picture as a whole and in crops of another size, behind SAM or a transformer of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    DeepseekOcr2Config,
    DeepseekOcr2ForConditionalGeneration,
    DeepseekOcr2ImageProcessor,
    DeepseekOcr2Processor,
    Step3p7Config,
    Step3p7ForConditionalGeneration,
    Step3p7ImageProcessor,
    Step3p7Processor,
)

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tiny_tokenizer, without_zeros

OCR_TEMPLATE = (  # as deepseek-community/DeepSeek-OCR-2 has it: no turns
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
STEP_TEMPLATE = (  # as stepfun-ai/Step-3.7-Flash has it, without thinking
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<im_patch>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STEP_TOKENS = ("<im_patch>", "<patch_start>", "<patch_end>", "<patch_newline>", "<im_start>", "<im_end>")
_EXPERTS = {
    "n_routed_experts": 2,
    "num_experts_per_tok": 2,  # all of them: bfloat16's rounding would choose others
    "moe_intermediate_size": 16,
    "mlp_layer_types": ["dense", *["sparse"] * 5],
}
_SAM = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "mlp_dim": 16,
    "output_channels": 8,
    "window_size": 8,
    "global_attn_indexes": [],
    "initializer_range": INITIALIZER_RANGE,
}


def _deepseek_ocr2() -> tuple[Any, Any]:
    """Its queries are 256 for the whole and 144 for a crop, whatever the size: patches are small, one is cropped."""
    tokenizer = tiny_tokenizer("<image>")
    encoder = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = DeepseekOcr2Config(
        text_config={
            **text_fields(tokenizer, **_EXPERTS),
            "max_position_embeddings": 1024,
            "n_shared_experts": 1,
            "eos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        },
        vision_config={
            "sam_config": {**_SAM, "image_size": 256, "patch_size": 4, "downsample_channels": [8, 16]},
            "encoder_config": {**encoder, "num_key_value_heads": 2, "initializer_range": INITIALIZER_RANGE},
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = DeepseekOcr2ImageProcessor(size={"height": 256, "width": 256}, tile_size=192, max_patches=2)
    processor = DeepseekOcr2Processor(images, tokenizer, chat_template=OCR_TEMPLATE, patch_size=4)
    return without_zeros(DeepseekOcr2ForConditionalGeneration(config)), processor


def _unlimited_ocr() -> tuple[Any, Any]:
    """CLIP behind SAM, both side by side; answer tokens see the prompt and the eight answer tokens before them."""
    from transformers import (  # later than transformers 5.17
        UnlimitedOcrConfig,
        UnlimitedOcrForConditionalGeneration,
        UnlimitedOcrImageProcessor,
        UnlimitedOcrProcessor,
    )

    tokenizer = tiny_tokenizer("<image>")
    encoder = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = UnlimitedOcrConfig(
        text_config={**text_fields(tokenizer, **_EXPERTS), "n_shared_experts": 1, "sliding_window": 8},
        vision_config={
            "sam_config": {**_SAM, "image_size": 64, "patch_size": 4, "downsample_channels": [8, 16]},
            "encoder_config": {**encoder, "image_size": 16, "patch_size": 4, "initializer_range": INITIALIZER_RANGE},
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = UnlimitedOcrImageProcessor(size={"height": 64, "width": 64}, tile_size=48, max_patches=4)
    processor = UnlimitedOcrProcessor(images, tokenizer, chat_template=OCR_TEMPLATE, patch_size=4)
    return without_zeros(UnlimitedOcrForConditionalGeneration(config)), processor


def _step3p7() -> tuple[Any, Any]:
    """Sixteen patches become one token; blocks that look through a window have twice as many heads."""
    tokenizer = tiny_tokenizer(*STEP_TOKENS)
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    text = text_fields(tokenizer, **_EXPERTS, head_dim=8, layer_types=kinds, sliding_window=256)
    config = Step3p7Config(
        text_config={
            **text,
            "num_sliding_attention_heads": 8,
            "share_expert_dim": 16,
            "moe_router_scaling_factor": 2.0,
        },
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "mlp_ratio": 2.0,
            "image_size": 112,
            "max_position_embeddings": 64,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<im_patch>"),
    )
    images = Step3p7ImageProcessor(size={"height": 112, "width": 112}, patch_size=56)
    processor = Step3p7Processor(images, tokenizer, chat_template=STEP_TEMPLATE)
    return without_zeros(Step3p7ForConditionalGeneration(config)), processor


def _both_views(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower = loaded.model.model.vision_tower
    views = [images[name] for name in ("pixel_values", "pixel_values_local") if name in images]
    return torch.cat([tower(view).last_hidden_state.flatten(0, 1) for view in views])


def _before_convolutions(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tower, states = loaded.model.model.vision_model, []
    hook = tower.layers[-1].register_forward_hook(lambda _module, _args, output: states.append(output.flatten(0, 1)))
    for name in ("pixel_values", "pixel_values_local"):
        if name in images:
            tower(images[name])
    hook.remove()
    return torch.cat(states)


def _lists(_loaded: LoadedModel, prompt: Prompt) -> dict[str, Any]:
    """As the processor gives them and the model takes them."""
    return {name: prompt.images[name].tolist() for name in ("num_local_patches", "patches_grid") if prompt.images}


TINY = {
    "deepseek_ocr2": Tiny(_deepseek_ocr2, _both_views),
    "unlimited_ocr": Tiny(_unlimited_ocr, _both_views, inputs=_lists, later="UnlimitedOcrConfig"),
    "step3p7": Tiny(_step3p7, _before_convolutions),
}
