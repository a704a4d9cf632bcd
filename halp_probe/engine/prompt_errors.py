"""Errors of processors and models, which are of any kind, for one prompt: whether the others can go on, and its words.

Image processors raise ValueErrors, RuntimeErrors, ZeroDivisionErrors … for a picture whose shape they did not expect,
and so do models. Around the one call into their code every Exception is caught, and sorted here.
"""

from __future__ import annotations

import torch

from halp_probe.errors import InputError
from halp_probe.models.errors import one_line

HOPELESS = 8  # prompts: if the model has computed none, and failed on so many, it is not they that are wrong
# Our own errors say what to do; the others are no prompt's fault. A broken device (torch 2.8 and later) runs nothing.
_OF_THE_RUN = (
    InputError,
    MemoryError,
    ImportError,
    torch.OutOfMemoryError,
    *([torch.AcceleratorError] if hasattr(torch, "AcceleratorError") else []),
)


def concerns_one_prompt(error: Exception) -> bool:
    """Return whether other prompts can be tried after this error."""
    return not isinstance(error, _OF_THE_RUN)


def describe(error: Exception) -> str:
    """Return the error's type and message in one line."""
    return f"{type(error).__name__}: {one_line(error)}"
