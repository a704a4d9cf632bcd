"""The error of a model or adapter that cannot be loaded or used."""

from __future__ import annotations

from safetensors import SafetensorError

from halp_probe.errors import InputError

LOAD_ERRORS = (OSError, ValueError, ImportError, RuntimeError, SafetensorError)  # what transformers and torch raise


class ModelError(InputError):
    """A model that cannot be loaded or used; the message says why and what to do."""


def one_line(error: BaseException, longest: int = 300) -> str:
    """Shorten a library's message to one line of at most `longest` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= longest else f"{text[:longest]}…"
