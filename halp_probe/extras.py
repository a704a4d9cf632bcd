"""Extras of the installation, by the packages that they bring."""

from __future__ import annotations

_EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "transformers", "qwen_vl_utils"), "extract"),
    "accelerate": "training",
    "bitsandbytes": "quantization",
    "datasets": "tasks",
    "math_verify": "math",
    "mapie": "abstention",
    "openai": "judge",
    "openpyxl": "tables",
    "peft": "adapters",
    "pyarrow": "tables",
    "requests": "tables",
    "streamlit": "app",
    "timm": "timm",
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Say which extra to install if an extra brings the missing module; None for any other."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRA_OF:
        return None
    return f"this needs {package}, which is not installed; run: pip install 'halp_probe[{_EXTRA_OF[package]}]'"
