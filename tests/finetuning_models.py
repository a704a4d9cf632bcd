"""Models that conversations are made for: the bundled one, and tiny fused ones on one square or on tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny.parts import INITIALIZER_RANGE, text_fields, tiny_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM, ViTConfig, ViTImageProcessor, ViTModel

from halp_probe.engine.images import LoadedImage
from halp_probe.fused.model import FusedParts, build
from halp_probe.models.families import family_of
from halp_probe.models.loading import Checkpoint, LoadedModel, load_weights, open_checkpoint

SIDE, PATCH = 56, 14  # pixels: 4 × 4 patches and, on one square, the class token
NAMES = ("bundled", "square", "tiles")


def model_of(name: str, folder: Path) -> LoadedModel:
    """`bundled`: ShapesVQA's Qwen2.5-VL; `square` and `tiles`: fused models, whose parts are written into `folder`."""
    if name == "bundled":
        return load_weights(open_checkpoint("shapes"), device="cpu")
    torch.manual_seed(7)
    vision, language = _vision(folder / "vision"), _language(folder / "language")
    fused = build(FusedParts(vision=str(vision), language=str(language), tiles=3 if name == "tiles" else 0))
    config = fused.model.config
    checkpoint = Checkpoint(
        name=name,
        source=str(folder),
        revision="random",
        config=config,
        processor=fused.processor,
        family=family_of(config.model_type),
    )
    return LoadedModel(checkpoint=checkpoint, model=fused.model)


def picture(width: int, height: int, seed: int = 0) -> LoadedImage:
    """Noise without black in it."""
    pixels = np.random.default_rng(seed).integers(1, 256, size=(height, width, 3), dtype=np.uint8)
    return LoadedImage(Image.fromarray(pixels), f"picture {seed}")


def _vision(folder: Path) -> Path:
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_range=INITIALIZER_RANGE,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def _language(folder: Path) -> Path:
    tokenizer = tiny_tokenizer()
    Qwen2ForCausalLM(Qwen2Config(**text_fields(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
