"""Settings that `halp-probe app` passes to its page: model and probe at the start, and who may choose others."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from halp_probe.models.naming import BUNDLED
from halp_probe.models.options import ModelOptions


@dataclass(frozen=True)
class Choice:
    """Model and the probes that judge it."""

    model: ModelOptions
    probe: str  # `shapes` for the bundled model's probes, a file, a folder, or blank for none

    @classmethod
    def of(cls, model: ModelOptions, probe: str | None) -> Choice:
        """Return the choice; without a probe, the bundled model gets its own and any other model none."""
        bundled = model.model == BUNDLED and not model.adapter
        return cls(model, probe if probe is not None else BUNDLED if bundled else "")

    def with_names(self, model: str, adapters: tuple[str, ...], probe: str) -> Choice:
        """Return another model or probe, loaded in the same way; a revision and trusted code belong to one model."""
        same = model == (self.model.model or "")
        options = replace(
            self.model,
            model=model or None,
            adapter=adapters,
            revision=self.model.revision if same else None,
            trust_remote_code=self.model.trust_remote_code if same else None,
        )
        return Choice(options, probe)


@dataclass(frozen=True)
class PageSettings:
    """Settings of the page.

    `open_to_all`: the page is served to other machines, so visitors may not name files of this one.
    """

    choice: Choice
    open_to_all: bool = False

    def as_argument(self) -> str:
        """Return the settings as one word of a command line; `from_argument` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> PageSettings:
        """Return the settings that `as_argument` wrote."""
        values = json.loads(text)
        model = values["choice"]["model"]
        options = ModelOptions(**{**model, "adapter": tuple(model["adapter"])})
        return cls(Choice(options, values["choice"]["probe"]), values["open_to_all"])
