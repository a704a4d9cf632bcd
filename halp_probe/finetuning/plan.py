"""Plan of a training run: its stages, and the schedule that they share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on the language model (Hu and others 2021)."""

    rank: int = 64
    alpha: int = 128
    dropout: float = 0.05
    mlp: bool = False  # gate, up and down too, besides the attention's q, k, v and o


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stage of training: the connector is learned, and with `lora` an adapter of the language model."""

    number: int  # 1: connector on captions; 2: connector and LoRA on conversations
    learning_rate: float  # peak
    epochs: int = 1
    lora: Lora | None = None

    @property
    def name(self) -> str:
        """Name of its folder and in messages."""
        return f"stage{self.number}"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Schedule of every stage."""

    batch_size: int = 4  # conversations a forward pass
    accumulation: int = 16  # forward passes a step
    warmup: float = 0.03  # share of the steps in which the learning rate rises; then it falls as a cosine
    weight_decay: float = 0.0
    max_steps: int | None = None  # of each stage, for a try
    seed: int = 0
    workers: int = 0  # processes that read pictures ahead
    checkpoint_steps: int = 200
    gradient_checkpointing: bool = False
