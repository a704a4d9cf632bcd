"""Weights in 4 or 8 bits by bitsandbytes, through transformers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from halp_probe.models.errors import ModelError

QUANTIZATIONS = ("4bit", "8bit")


def bitsandbytes_config(quantization: str, dtype: str) -> Any:
    """What `from_pretrained` takes: 4bit is NF4 that computes in `dtype`, 8bit is LLM.int8().

    Raises ModelError where a package is missing.
    """
    import torch
    from transformers import BitsAndBytesConfig

    missing = [package for package in ("bitsandbytes", "accelerate") if find_spec(package) is None]
    if missing:
        raise ModelError(
            f"--quantization {quantization} needs {' and '.join(missing)}: pip install 'halp_probe[quantization]'"
        )
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )
