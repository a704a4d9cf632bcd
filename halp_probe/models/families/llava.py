"""LLaVA and its relatives: a vision transformer, a projector, a causal language model."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes

ROWS: dict[str, Family] = {
    "llava": replace(
        PLAIN,
        notes=Notes("llava-hf/llava-1.5-7b-hf", oddities="the class token is left out before the projector"),
        images_together=True,
    ),
}
