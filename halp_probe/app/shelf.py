"""The one model of the page, with its probes: loaded once for all who look at it."""

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
class Held:
    """A loaded model and the probes that fit it; without any, `no_risk` says why in a sentence."""

    chat: ProbedChat
    probes: Mapping[str, SavedProbe]
    no_risk: str = ""


class Shelf:
    """Holds one model. The model before goes before the next one comes: two may not fit in memory."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: tuple[ModelOptions, LoadedModel] | None = None
        self._held: tuple[Choice, Held] | None = None

    def get(self, choice: Choice) -> Held:
        """What is held, loaded now if it is not this. Raises InputError when the model cannot be loaded."""
        with self._loading:
            if self._held is None or self._held[0] != choice:
                self._held = None
                self._held = choice, _with_probes(self._model(choice.model), choice.probe)
            return self._held[1]

    def _model(self, options: ModelOptions) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != options:
            self._loaded = None
            try:
                with short_of_memory_told():
                    self._loaded = options, load(options)
            except OSError as error:  # a name too long, a folder that is closed to this user
                raise InputError(
                    f"the model cannot be read: {error.strerror or one_line(error)}; check names"
                ) from error
        return self._loaded[1]


def saved_probes(probe: str) -> dict[str, SavedProbe]:
    """By name: those of the bundled model for `shapes`, of a folder, or a single one. Raises InputError."""
    place = Path(probe)
    try:
        several = probe == BUNDLED or place.is_dir()
    except OSError as error:  # a name too long, a folder that is closed to this user
        raise InputError(f"{probe[:80]} cannot be looked up: {error.strerror}; check the path") from error
    return load_probes(probe) if several else {place.stem: load_probe(probe)}


def decisive(names: Sequence[str]) -> str:
    """Which of several probes is meant where none is named: the one that was selected in training, else the first."""
    return SELECTED_STEM if SELECTED_STEM in names else names[0]


def _with_probes(loaded: LoadedModel, probe: str) -> Held:
    """The model with its probes; a probe that does not fit is no reason not to chat."""
    if not probe:
        return Held(chat=ProbedChat(loaded, {}), probes={}, no_risk="No probe is chosen, so no risk is known.")
    try:
        probes = saved_probes(probe)
        return Held(chat=ProbedChat(loaded, probes), probes=probes)
    except InputError as error:
        return Held(
            chat=ProbedChat(loaded, {}),
            probes={},
            no_risk=f"No risk is known, since this probe cannot be used: {error}",
        )


@contextmanager
def short_of_memory_told() -> Iterator[None]:
    """Turns torch's own error into one that the page shows."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError("the GPU's memory is too small for this: take a smaller model or image") from error
