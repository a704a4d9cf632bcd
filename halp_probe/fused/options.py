"""What a fused model is made of, and the flags that say so; nothing here loads torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from halp_probe.commands.arguments import positive
from halp_probe.models.errors import ModelError

MODEL, ADAPTER = "model", "adapter"  # folders in an `output_dir`


@dataclass(frozen=True)
class FusedParts:
    """The parts, and how they go together."""

    vision: str = "google/vit-base-patch32-384"  # hub name or folder of a ViT, CLIP or SigLIP; shapes-vit is bundled
    language: str = "Qwen/Qwen2.5-3B-Instruct"  # hub name or folder of a Qwen2 or Qwen3; shapes-lm is bundled
    tiles: int = 0  # the most tiles that a picture is cut into; 0: one square a picture
    vision_layernorm: bool = False  # whether the connector reads the tower's states behind its final LayerNorm

    def __post_init__(self) -> None:
        if self.tiles < 0:
            raise ModelError(f"{self.tiles} tiles: pass how many a picture is cut into at most, or 0")

    @classmethod
    def of(cls, args: argparse.Namespace) -> FusedParts:
        """From parsed flags."""
        return cls(args.vision, args.language, args.tiles, bool(args.vision_layernorm))


def add_part_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the flags that make a FusedParts; `vision_layernorm` is None where it was not said."""
    add = parser.add_argument
    add(
        "`vision`",
        default=FusedParts.vision,
        help="hub name or folder of a ViT, CLIP or SigLIP; 'shapes-vit' is bundled (%(default)s)",
    )
    add(
        "`language`",
        default=FusedParts.language,
        help="hub name or folder of a Qwen2 or Qwen3; 'shapes-lm' is bundled (%(default)s)",
    )
    add("--tiles", type=positive, default=0, metavar="N", help="cut pictures into at most N tiles beside an overview")
    add(
        "`vision_layernorm`",
        action=argparse.BooleanOptionalAction,
        help="whether the connector reads the tower's states behind its final LayerNorm (before it, as LLaVA does)",
    )
