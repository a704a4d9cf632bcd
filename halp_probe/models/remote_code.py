"""Whether a checkpoint's own Python code may run: only when it was asked for by the name of its repository."""

from __future__ import annotations

from halp_probe.models.errors import ModelError


def check_code(name: str, source: str, trusted: str | None) -> bool:
    """What to pass on as `trust_remote_code`. Raises ModelError when another repository was named than the model's."""
    if trusted is not None and trusted not in (name, source):
        raise ModelError(
            f"--trust-remote-code {trusted} is not the model, which is {name}; name the repository whose code may run"
        )
    return trusted is not None
