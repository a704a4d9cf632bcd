"""A tiny Llama 3.2 Vision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    Qwen2Tokenizer,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from halp_probe.engine.prompting import Prompt
from halp_probe.models.loading import LoadedModel
from tiny.parts import INITIALIZER_RANGE, Tiny, text_fields, tokenizer_files, without_zeros

# As meta-llama/Llama-3.2-11B-Vision-Instruct has it, for one turn with an image.
MLLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TILES, TILE = 4, 72


def _mllama() -> tuple[Any, Any]:
    """Cross-attention in blocks 1, 3 and 4; the four pictures fill four, two, three and one tile."""
    tokenizer = _tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    text = MllamaTextConfig(
        **text_fields(
            tokenizer,
            vocab_size=len(tokenizer) - 1,  # the image token is none that can be answered, and comes last
            bos_token_id=ids("<|begin_of_text|>"),
            eos_token_id=ids("<|eot_id|>"),
        ),
        cross_attention_layers=[1, 3, 4],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    vision = MllamaVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_global_layers=1,
        attention_heads=2,
        image_size=TILE,
        patch_size=18,
        max_num_tiles=TILES,
        intermediate_layers_indices=[0, 1],
        vision_output_dim=16 * 3,
        initializer_range=INITIALIZER_RANGE,
    )
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=ids("<|image|>"))
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size={"height": TILE, "width": TILE}, max_image_tiles=TILES),
        tokenizer=tokenizer,
        chat_template=MLLAMA_TEMPLATE,
    )
    model = without_zeros(MllamaForConditionalGeneration(config))
    for block in text.cross_attention_layers:  # gates that let much of the image through
        cross = model.model.language_model.layers[block]
        cross.cross_attn_attn_gate.data.fill_(1.0)
        cross.cross_attn_mlp_gate.data.fill_(-0.6)
    return model, processor


def _tokenizer() -> Any:
    known = tokenizer_files()
    headers = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"]
    return Qwen2Tokenizer(
        vocab=known._vocab,
        merges=known._merges,
        bos_token="<|begin_of_text|>",
        extra_special_tokens=[*known.extra_special_tokens, *headers, "<|image|>"],
    )


def _states(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The tower's output for the tiles that come first: as many as the picture fills."""
    states = loaded.model.model.vision_model(**images).last_hidden_state  # [1, 1, tiles, N, V]
    return states[0, 0, : _filled(images)].flatten(0, 1)


def _projected(loaded: LoadedModel, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return loaded.model.model.multi_modal_projector(_states(loaded, images))


def _filled(images: Mapping[str, torch.Tensor]) -> int:
    return int(images["aspect_ratio_mask"].sum())


def _cross_attention_mask(loaded: LoadedModel, prompt: Prompt) -> Mapping[str, torch.Tensor]:
    """Of the one prompt, by the processor's own functions."""
    ids, tiles = prompt.input_ids.tolist(), _filled(prompt.images)
    sparse = [get_cross_attention_token_mask(ids, loaded.checkpoint.image_token_id)]
    dense = convert_sparse_cross_attention_mask_to_dense(sparse, [[tiles]], TILES, len(ids))
    return {"cross_attention_mask": torch.from_numpy(dense)}


TINY = {
    "mllama": Tiny(_mllama, _states, vision_only=_projected, inputs=_cross_attention_mask, handed_out=False),
}
