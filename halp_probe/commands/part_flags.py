"""Flags that name the parts of a fused model."""

from __future__ import annotations

import argparse

from halp_probe.commands.arguments import positive
from halp_probe.fused.options import FusedParts


def add_part_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the flags that make a FusedParts; `vision_layernorm` is None where neither of its flags is given."""
    add = parser.add_argument
    add(
        "--vision",
        default=FusedParts.vision,
        help="hub name or folder of a ViT, CLIP or SigLIP; 'shapes-vit' is bundled (%(default)s)",
    )
    add(
        "--language",
        default=FusedParts.language,
        help="hub name or folder of a Qwen2 or Qwen3; 'shapes-lm' is bundled (%(default)s)",
    )
    add("--tiles", type=positive, default=0, metavar="N", help="cut pictures into at most N tiles beside an overview")
    add(
        "--vision-layernorm",
        action=argparse.BooleanOptionalAction,
        help="whether the connector reads the tower's states after its final LayerNorm (before it, as LLaVA does)",
    )


def fused_parts(args: argparse.Namespace) -> FusedParts:
    """Return the parts that the parsed flags name."""
    return FusedParts(
        vision=args.vision, language=args.language, tiles=args.tiles, vision_layernorm=bool(args.vision_layernorm)
    )
