"""What `halp-probe app` tells its page: the model and the probe to begin with, and who may choose others."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from halp_probe.models.naming import BUNDLED
from halp_probe.models.options import ModelOptions


@dataclass(frozen=True)
class Choice:
    """A model and the probes that judge it."""

    model: ModelOptions
    probe: str  # `shapes` for those of the bundled model, a file, a folder, or blank for none

    @classmethod
    def of(cls, model: ModelOptions, probe: str | None) -> Choice:
        """Without a probe it is that of the bundled model, and none for any other."""
        bundled = model.model == BUNDLED and not model.adapter
        return cls(model, probe if probe is not None else BUNDLED if bundled else "")

    def named(self, model: str, adapters: tuple[str, ...], probe: str) -> Choice:
        """Another model or probe, loaded in the same manner; a revision and trusted code are those of one model."""
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
    """`open_to_all`: the page is served to other machines, so whoever sees it may not name files of this one."""

    choice: Choice
    open_to_all: bool = False

    def as_argument(self) -> str:
        """One word of a command line; `from_argument` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> PageSettings:
        told = json.loads(text)
        model = told["choice"]["model"]
        options = ModelOptions(**{**model, "adapter": tuple(model["adapter"])})
        return cls(Choice(options, told["choice"]["probe"]), told["open_to_all"])
