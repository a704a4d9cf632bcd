"""Processor and image settings of the thirteen folders, each in the form in which its checkpoint has them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

Files = Mapping[str, Mapping[str, Any]]

_CLIP_PIXELS = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
}
_HALF_PIXELS = {**_CLIP_PIXELS, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET_PIXELS = {**_CLIP_PIXELS, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_LLAVA = {"image_token": "<image>", "patch_size": 14, "vision_feature_select_strategy": "default"}
_SQUARE336 = {"crop_size": {"height": 336, "width": 336}, "do_center_crop": True, "size": {"shortest_edge": 336}}
NEXT_CANVASES = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]  # height, width
ONEVISION_CANVASES = [[384 * rows, 384 * columns] for rows, columns in product(range(1, 7), repeat=2)]

QWEN2: Files = {
    "preprocessor_config.json": {
        **_CLIP_PIXELS,
        "image_processor_type": "Qwen2VLImageProcessor",
        "max_pixels": 12845056,
        "merge_size": 2,
        "min_pixels": 3136,
        "patch_size": 14,
        "processor_class": "Qwen2VLProcessor",
        "temporal_patch_size": 2,
    }
}
QWEN25: Files = {
    "preprocessor_config.json": {**QWEN2["preprocessor_config.json"], "processor_class": "Qwen2_5_VLProcessor"}
}
QWEN3: Files = {
    "preprocessor_config.json": {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
    },
    "video_preprocessor_config.json": {
        "size": {"longest_edge": 25165824, "shortest_edge": 4096},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "processor_class": "Qwen3VLProcessor",
        "video_processor_type": "Qwen3VLVideoProcessor",
    },
}
LLAVA15: Files = {
    "preprocessor_config.json": {
        **_CLIP_PIXELS,
        **_SQUARE336,
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
    },
    "processor_config.json": {**_LLAVA, "processor_class": "LlavaProcessor", "num_additional_image_tokens": 1},
}
LLAVA16: Files = {
    "preprocessor_config.json": {
        **_CLIP_PIXELS,
        **_SQUARE336,
        "aspect_ratio_setting": "anyres",
        "image_grid_pinpoints": NEXT_CANVASES,
        "image_processor_type": "LlavaNextImageProcessor",
        "processor_class": "LlavaNextProcessor",
    },
    "processor_config.json": {**_LLAVA, "processor_class": "LlavaNextProcessor", "num_additional_image_tokens": 1},
}
ONEVISION: Files = {
    "preprocessor_config.json": {
        **_HALF_PIXELS,
        "do_pad": True,
        "image_grid_pinpoints": ONEVISION_CANVASES,
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "processor_class": "LlavaOnevisionProcessor",
        "size": {"height": 384, "width": 384},
    },
    "processor_config.json": {
        "image_token": "<image>",
        "num_image_tokens": 729,
        "processor_class": "LlavaOnevisionProcessor",
        "video_token": "<video>",
        "vision_feature_select_strategy": "full",
    },
}
INTERNVL: Files = {
    "preprocessor_config.json": {
        **_IMAGENET_PIXELS,
        "crop_to_patches": True,
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "max_patches": 12,
        "min_patches": 1,
        "processor_class": "InternVLProcessor",
        "size": {"height": 448, "width": 448},
    },
    "processor_config.json": {"image_seq_length": 256, "processor_class": "InternVLProcessor"},
    "video_preprocessor_config.json": {
        "processor_class": "InternVLProcessor",
        "size": {"height": 448, "width": 448},
        "video_processor_type": "InternVLVideoProcessor",
    },
}
GEMMA3: Files = {
    "preprocessor_config.json": {
        **_HALF_PIXELS,
        "do_pan_and_scan": None,
        "image_processor_type": "Gemma3ImageProcessor",
        "image_seq_length": 256,
        "processor_class": "Gemma3Processor",
        "resample": 2,
        "size": {"height": 896, "width": 896},
    },
    "processor_config.json": {"image_seq_length": 256, "processor_class": "Gemma3Processor"},
}
MLLAMA: Files = {
    "preprocessor_config.json": {
        **_CLIP_PIXELS,
        "do_pad": True,
        "image_processor_type": "MllamaImageProcessor",
        "max_image_tiles": 4,
        "processor_class": "MllamaProcessor",
        "resample": 2,
        "size": {"height": 560, "width": 560},
    }
}
SMOLVLM: Files = {
    "preprocessor_config.json": {
        **_HALF_PIXELS,
        "do_image_splitting": True,
        "do_pad": True,
        "image_processor_type": "SmolVLMImageProcessor",
        "max_image_size": {"longest_edge": 512},
        "processor_class": "SmolVLMProcessor",
        "resample": 1,
        "size": {"longest_edge": 2048},
    },
    "processor_config.json": {"image_seq_len": 64, "processor_class": "SmolVLMProcessor"},
}
IDEFICS3: Files = {
    "preprocessor_config.json": {
        **_HALF_PIXELS,
        "do_image_splitting": True,
        "do_pad": True,
        "image_processor_type": "Idefics3ImageProcessor",
        "max_image_size": {"longest_edge": 364},
        "processor_class": "Idefics3Processor",
        "resample": 1,
        "size": {"longest_edge": 1456},
    },
    "processor_config.json": {"image_seq_len": 169, "processor_class": "Idefics3Processor"},
}
