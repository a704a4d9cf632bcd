"""Probes on a vision-language model's hidden states that tell, before it answers, how likely the answer is wrong.

The public names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

from typing import Any

import lazy_loader

_imported, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name. Raises ModuleNotFoundError with the remedy where it needs an extra that is missing."""
    try:
        return _imported(name)
    except ModuleNotFoundError as error:
        from halp_probe.extras import missing_extra

        if remedy := missing_extra(error):
            raise ModuleNotFoundError(f"halp_probe.{name}: {remedy}", name=error.name) from error
        raise
