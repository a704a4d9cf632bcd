"""Quantize weights to 4 or 8 bits with bitsandbytes, through transformers."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from halp_probe.models.errors import ModelError

QUANTIZATIONS = ("4bit", "8bit")


def quiet_bitsandbytes() -> None:
    """Silence bitsandbytes: it warns of kernels that are not needed here, and of float16 once a layer and batch."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def bitsandbytes_config(quantization: str, dtype: str) -> Any:
    """Return the config for `from_pretrained`: 4bit is NF4 that computes in `dtype`, 8bit is LLM.int8().

    Raises ModelError if a package is missing.
    """
    import torch
    from transformers import BitsAndBytesConfig

    missing = [package for package in ("bitsandbytes", "accelerate") if find_spec(package) is None]
    if missing:
        raise ModelError(
            f"`quantization` {quantization} needs {' and '.join(missing)}: pip install 'halp_probe[quantization]'"
        )
    if quantization == "8bit":
        quiet_bitsandbytes()
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
    )


def check_runs(model: Any) -> None:
    """Raise ModelError for 4-bit weights that bitsandbytes can load but not use.

    On CPUs with AVX512-BF16 it repacks them, which needs inputs of whole blocks; the first batch would fail.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if not isinstance(module, Linear4bit) or weight.device.type != "cpu":
            continue
        blocksize = weight.quant_state.blocksize
        if module.support_avx512bf16_for_cpu and module.in_features % blocksize:
            raise ModelError(
                f"`quantization='4bit'`: on this CPU bitsandbytes takes inputs of multiples of {blocksize}, {name} has "
                f"{module.in_features}; use a CUDA device, or `quantization='8bit'`"
            )


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights, as it does on CPUs with AVX512-BF16 when a model is evaluated.

    Packed weights pass no gradient, not even in the training that follows.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
