"""Model of the page with its probes, loaded once for all visitors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from halp_probe.app.settings import Choice
from halp_probe.errors import InputError
from halp_probe.models.errors import one_line
from halp_probe.models.loading import LoadedModel
from halp_probe.models.naming import BUNDLED
from halp_probe.models.options import ModelOptions, load
from halp_probe.probes.files import SELECTED_STEM, SavedProbe, load_probe, load_probes
from halp_probe.scoring.conversation import ProbedChat


@dataclass(frozen=True, kw_only=True)
class ActiveModel:
    """Loaded model and the probes that fit it; without any, `no_risk` says why in a sentence."""

    chat: ProbedChat
    probes: Mapping[str, SavedProbe]
    no_risk: str = ""


class Shelf:
    """Holder of one model; it is released before the next one is loaded, since two may not fit in memory."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: tuple[ModelOptions, LoadedModel] | None = None
        self._active: tuple[Choice, ActiveModel] | None = None

    def get(self, choice: Choice) -> ActiveModel:
        """Return the model of this choice, loaded now if it is not in memory.

        Raises InputError when it cannot be loaded.
        """
        with self._loading:
            if self._active is None or self._active[0] != choice:
                self._active = None
                self._active = choice, _with_probes(self._model(choice.model), choice.probe)
            return self._active[1]

    def _model(self, options: ModelOptions) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != options:
            self._loaded = None
            try:
                with report_out_of_memory():
                    self._loaded = options, load(options)
            except OSError as error:  # a name too long, a folder that is closed to this user
                raise InputError(
                    f"the model cannot be read: {error.strerror or one_line(error)}; check names"
                ) from error
        return self._loaded[1]


def saved_probes(probe: str) -> dict[str, SavedProbe]:
    """Load probes by name: the bundled model's for `shapes`, those of a folder, or one file's. Raises InputError."""
    place = Path(probe)
    try:
        several = probe == BUNDLED or place.is_dir()
    except OSError as error:  # a name too long, a folder that is closed to this user
        raise InputError(f"{probe[:80]} cannot be looked up: {error.strerror}; check the path") from error
    return load_probes(probe) if several else {place.stem: load_probe(probe)}


def decisive_probe(names: Sequence[str]) -> str:
    """Return the probe that decides by default: the one that was selected in training, else the first."""
    return SELECTED_STEM if SELECTED_STEM in names else names[0]


def _with_probes(loaded: LoadedModel, probe: str) -> ActiveModel:
    """Return the model with its probes; a probe that does not fit does not prevent a chat."""
    if not probe:
        return ActiveModel(chat=ProbedChat(loaded, {}), probes={}, no_risk="No probe is chosen, so no risk is known.")
    try:
        probes = saved_probes(probe)
        return ActiveModel(chat=ProbedChat(loaded, probes), probes=probes)
    except InputError as error:
        return ActiveModel(
            chat=ProbedChat(loaded, {}),
            probes={},
            no_risk=f"No risk is known, since this probe cannot be used: {error}",
        )


@contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Turn torch's out-of-memory error into an InputError, which the page shows."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError("the GPU's memory is too small for this: use a smaller model or image") from error
