"""Probes on a vision-language model's hidden states that say, before it answers, how likely the answer is wrong.

The public names are listed in `__init__.pyi`; each is imported on first use.
"""

from typing import Any

import lazy_loader

_imported, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name. Raises ModuleNotFoundError, with the remedy, if it needs an extra that is missing."""
    try:
        return _imported(name)
    except ModuleNotFoundError as error:
        from halp_probe.extras import missing_extra

        if remedy := missing_extra(error):
            raise ModuleNotFoundError(f"halp_probe.{name}: {remedy}", name=error.name) from error
        raise
