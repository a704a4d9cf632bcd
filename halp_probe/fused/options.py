"""Options of a fused model's parts; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from halp_probe.models.errors import ModelError

MODEL, ADAPTER = "model", "adapter"  # folders in an `output_dir`


@dataclass(frozen=True, kw_only=True)
class FusedParts:
    """Parts of a fused model, and how they are joined."""

    vision: str = "google/vit-base-patch32-384"  # hub name or folder of a ViT, CLIP or SigLIP; shapes-vit is bundled
    language: str = "Qwen/Qwen2.5-3B-Instruct"  # hub name or folder of a Qwen2 or Qwen3; shapes-lm is bundled
    tiles: int = 0  # the most tiles that a picture is cut into; 0: one square a picture
    vision_layernorm: bool = False  # whether the connector reads the tower's states after its final LayerNorm

    def __post_init__(self) -> None:
        if self.tiles < 0:
            raise ModelError(f"{self.tiles} tiles: pass the largest number of tiles a picture, or 0")
