"""Eight folders of LLaVA's kind, Gemma, Llama and Idefics."""

from __future__ import annotations

from real import image_settings, tokenizers
from real.folder import BEGIN, CHATML, GQA, SAMPLED, SMALL, Folder, turns

_IDEFICS = turns("{{ message.role | capitalize }}:CONTENT<end_of_utterance>\n", "<image>")
_IDEFICS += "{% if add_generation_prompt %}Assistant:{% endif %}"
_LLAMA3_ROPE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
_QWEN2_TEXT = {**GQA, "model_type": "qwen2", "rope_theta": 1000000.0, "vocab_size": 152064}
_CLIP336 = {
    "model_type": "clip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 2, "image_size": 336, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000,
}  # fmt: skip
_LLAVA = {
    "ignore_index": -100,
    "image_token_index": "@<image>",
    "pad_token_id": "@<pad>",
    "projector_hidden_act": "gelu",
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.36.0.dev0",
    "vision_config": _CLIP336,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}


OTHERS: dict[str, Folder] = {
    "llava15": Folder(
        words=tokenizers.VICUNA,
        config={
            **_LLAVA,
            "model_type": "llava",
            "text_config": {"model_type": "llama", **SMALL, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
                            "torch_dtype": "float16", "vocab_size": 32064},
        },
        files=image_settings.LLAVA15,
        generation={"bos_token_id": "@<s>", "eos_token_id": "@</s>", "pad_token_id": "@<pad>"},
        template=turns("{{ message.role | upper }}: CONTENT", "<image>\n")
        + "{% if add_generation_prompt %} ASSISTANT:{% endif %}",
    ),
    "llava16": Folder(
        words=tokenizers.MISTRAL,
        config={
            **_LLAVA,
            "model_type": "llava_next",
            "image_grid_pinpoints": image_settings.NEXT_CANVASES,
            "text_config": {"model_type": "mistral", **GQA, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05,
                            "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 32064},
            "use_image_newline_parameter": True,
        },
        files=image_settings.LLAVA16,
        generation={"bos_token_id": "@<s>", "eos_token_id": "@</s>", "pad_token_id": "@<pad>"},
        template=turns("[INST] CONTENT [/INST]", "<image>\n"),
    ),
    "onevision": Folder(
        words=tokenizers.ONEVISION,
        config={
            "model_type": "llava_onevision",
            "image_grid_pinpoints": image_settings.ONEVISION_CANVASES,
            "image_token_index": "@<image>",
            "video_token_index": "@<video>",
            "projector_hidden_act": "gelu",
            "text_config": _QWEN2_TEXT,
            "vision_aspect_ratio": "anyres_max_9",
            "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 64, "image_size": 384,
                              "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 4,
                              "patch_size": 14, "vision_use_head": False},
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
        files=image_settings.ONEVISION,
        generation={**SAMPLED, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
        template=CHATML.replace("IMAGE", "<image>\n") + BEGIN,
    ),
    "internvl3": Folder(
        words=tokenizers.INTERNVL,
        config={
            "model_type": "internvl",
            "downsample_ratio": 0.5,
            "image_seq_length": 256,
            "image_token_id": "@<IMG_CONTEXT>",
            "projector_hidden_act": "gelu",
            "text_config": {**_QWEN2_TEXT, "max_position_embeddings": 32768,
                            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}},
            "vision_config": {"model_type": "internvl_vision", "hidden_size": 64, "image_size": [448, 448],
                              "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 4,
                              "patch_size": [14, 14]},
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
        },
        files=image_settings.INTERNVL,
        generation={"bos_token_id": "@<|endoftext|>", "eos_token_id": "@<|im_end|>"},
        template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n") + BEGIN,
    ),
    "gemma3": Folder(
        words=tokenizers.GEMMA,
        config={
            "model_type": "gemma3",
            "boi_token_index": "@<start_of_image>",
            "eoi_token_index": "@<end_of_image>",
            "eos_token_id": ["@<eos>", "@<end_of_turn>"],
            "image_token_index": "@<image_soft_token>",
            "initializer_range": 0.02,
            "mm_tokens_per_image": 256,
            "text_config": {**GQA, "model_type": "gemma3_text", "num_hidden_layers": 6, "head_dim": 128,
                            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
                            "vocab_size": 262208},
            "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 64, "image_size": 896,
                              "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 4,
                              "patch_size": 14, "vision_use_head": False},
        },
        files=image_settings.GEMMA3,
        generation={"bos_token_id": "@<bos>", "eos_token_id": ["@<eos>", "@<end_of_turn>"], "pad_token_id": "@<pad>",
                    "cache_implementation": "hybrid", "do_sample": True, "top_k": 64, "top_p": 0.95},
        template="{{ bos_token }}"
        + turns("<start_of_turn>{{ message.role }}\nCONTENT<end_of_turn>\n", "<start_of_image>")
        + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    "mllama": Folder(
        words=tokenizers.LLAMA3,
        config={
            "model_type": "mllama",
            "image_token_index": "@<|image|>",
            "text_config": {**GQA, "model_type": "mllama_text_model", "cross_attention_layers": [1, 3],
                            "max_position_embeddings": 131072, "rope_scaling": _LLAMA3_ROPE, "rope_theta": 500000.0,
                            "vocab_size": 128256},
            "vision_config": {"model_type": "mllama_vision_model", "hidden_size": 64, "attention_heads": 2,
                              "image_size": 560, "patch_size": 14, "max_num_tiles": 4, "num_hidden_layers": 4,
                              "num_global_layers": 1, "intermediate_size": 128, "vision_output_dim": 128,
                              "intermediate_layers_indices": [1],
                              "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1],
                                                          [4, 1]]},
        },
        files=image_settings.MLLAMA,
        generation={"bos_token_id": "@<|begin_of_text|>", "do_sample": True, "temperature": 0.6, "top_p": 0.9,
                    "eos_token_id": ["@<|end_of_text|>", "@<|eom_id|>", "@<|eot_id|>"]},
        template="{{ bos_token }}"
        + turns("<|start_header_id|>{{ message.role }}<|end_header_id|>\n\nCONTENT<|eot_id|>", "<|image|>")
        + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "smolvlm": Folder(
        words=tokenizers.SMOLVLM,
        config={
            "model_type": "smolvlm", "image_token_id": "@<image>", "pad_token_id": "@<|im_end|>", "scale_factor": 4,
            "text_config": {"model_type": "llama", **GQA, "max_position_embeddings": 8192, "rope_theta": 100000,
                            "vocab_size": 49280},
            "tie_word_embeddings": False, "use_cache": False, "vocab_size": 49280,
            "vision_config": {"model_type": "smolvlm_vision", "hidden_size": 64, "image_size": 512, "patch_size": 16,
                              "num_attention_heads": 2, "num_hidden_layers": 4, "max_image_size": {"longest_edge": 512},
                              "size": {"longest_edge": 2048}, "use_base_siglip": False},
        },
        files=image_settings.SMOLVLM,
        generation={"bos_token_id": "@<|im_start|>", "eos_token_id": ["@<|im_end|>", "@<end_of_utterance>"]},
        template="<|im_start|>" + _IDEFICS,
    ),
    "idefics3": Folder(
        words=tokenizers.IDEFICS3,
        config={
            "model_type": "idefics3", "image_token_id": "@<image>", "pad_token_id": 2, "scale_factor": 2,
            "text_config": {"model_type": "llama", **GQA, "max_position_embeddings": 131072, "rope_theta": 500000.0,
                            "rope_scaling": _LLAMA3_ROPE, "vocab_size": 128259},
            "tie_word_embeddings": False, "use_cache": True, "vocab_size": 128259,
            "vision_config": {"hidden_size": 64, "image_size": 364, "intermediate_size": 128, "patch_size": 14,
                              "num_attention_heads": 2, "num_hidden_layers": 4},
        },
        files=image_settings.IDEFICS3,
        generation={"bos_token_id": "@<|begin_of_text|>", "eos_token_id": ["@<|end_of_text|>", "@<end_of_utterance>"]},
        template="{{ bos_token }}" + _IDEFICS,
    ),
}  # fmt: skip
