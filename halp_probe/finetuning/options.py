"""Options of `halp-probe train-vlm`; nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halp_probe.engine.images import ImagesDir
from halp_probe.finetuning.plan import Schedule, Stage
from halp_probe.fused.options import FusedParts

STAGE_1 = ("captions", "shapes_captions")
STAGE_2 = ("llava_instruct", "text_vqa", "viz_wiz", "shapes")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the data sets and their proportions."""

    files: Mapping[str, tuple[Path, ImagesDir]]  # name -> JSON, folder of its images
    shapes: int | None  # scenes of ShapesVQA
    weights: Mapping[str, float]  # name -> share of an epoch; empty: every conversation once
    held_out: float  # share of each source's pictures
    max_tokens: int  # longer samples are left out

    def names(self, stage: int) -> list[str]:
        """Return the sources of a stage."""
        own = STAGE_1 if stage == 1 else STAGE_2
        return [name for name in own if name in self.files or (name.startswith("shapes") and self.shapes)]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Device and number format of training."""

    device: str
    dtype: str
    quantization: str | None
    attn_implementation: str | None


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run."""

    output_dir: Path
    model: str | None  # a fused model to start from, instead of the parts
    parts: FusedParts
    cache_dir: str
    data: DataOptions
    stages: tuple[Stage, ...]
    schedule: Schedule
    machine: Machine
    questions: int  # held-out questions to answer at the end, of each source
    max_new_tokens: int
