"""Parameters that a model refuses: named in the server's error, then renamed or left out for the rest of a run."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from typing import Any

from halp_probe.completion import ErrorBody

RENAMED: Mapping[str, str] = {"max_tokens": "max_completion_tokens"}  # to what newer models call it
_REFUSED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|deprecated|instead|extra",
    re.IGNORECASE,
)
_TOO_MUCH = re.compile(r"too (large|high|long|many|big)|exceed|at most|maximum", re.IGNORECASE)


class AcceptedParameters:
    """Parameters as one endpoint takes them; used by several threads.

    optional: those that may be left out where the model refuses them; the caller says so in what it records.
    """

    def __init__(self, optional: Collection[str] = ()) -> None:
        self._optional = frozenset(optional)
        self._changes: dict[str, str | None] = {}  # name -> the name in its place; None: left out
        self._lock = threading.Lock()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the parameters that are left out, because the model refuses them."""
        return tuple(sorted(name for name, other in self._changes.items() if other is None))

    def apply(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as this endpoint takes them, as far as that is known."""
        return changed_settings(settings, self._changes)

    def change(self, error: ErrorBody, sent: Mapping[str, Any]) -> dict[str, str | None]:
        """Return what to change in the settings `sent`, in answer to a refusal of them; {} if there is no way."""
        for name, other in RENAMED.items():
            if name in sent and is_refused(name, error):
                return {name: other}
        return next(({name: None} for name in self._optional & sent.keys() if is_refused(name, error)), {})

    def remember(self, changes: Mapping[str, str | None]) -> None:
        """Keep changes with which the model has replied."""
        with self._lock:
            self._changes = {**self._changes, **changes}


def is_refused(name: str, error: ErrorBody) -> bool:
    """Tell whether an error says that the model does not take the parameter; a value that is too large is another."""
    named = error.param == name or re.search(rf"\b{name}\b", error.message) is not None
    refused = _REFUSED.search(error.message) is not None and _TOO_MUCH.search(error.message) is None
    return error.status in (400, 422) and named and refused


def changed_settings(settings: Mapping[str, Any], changes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the settings under the names that `changes` gives them, without those that it leaves out."""
    renamed = {changes.get(name, name): value for name, value in settings.items()}
    return {name: value for name, value in renamed.items() if name is not None}
