"""The identity of hidden states: everything that decides whether vectors of two sources are comparable.

A source of states is a folder of shards, a probe's card or a loaded model. Each gives a `StateIdentity`; two of them
are compared field by field, and a `Check` says which fields one user lets differ. A field that is added here is
compared by every user at once, unless a `Check` names it.

Not part of it, since it decides no vector or is recorded elsewhere: the dtype that a model ran in and the library's
versions (numbers differ by rounding), and `task_…` (which items were asked, and in which order: the rows hold their
texts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import Enum
from typing import Any, TypeAlias

PROMPT = "image, then question, in one user turn; the model's chat template with generation prompt"
PROMPT_OF_TEXT = "question alone, in one user turn; the model's chat template with generation prompt"
LAYER_MEANING = "layer k is the output of decoder block k, before the final norm and before any DeepStack addition"
_FURTHER = "intervention_"  # prefix of attributes with an intervention's settings


class Unknown(Enum):
    """Marker of a value that a source does not record; None means that there is none."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN
Text: TypeAlias = "str | Unknown | None"
Number: TypeAlias = "int | Unknown | None"


# Metadata of a field that our sources write only if it has a value, so that its absence means none,
_OPTIONAL = {"optional": True}
# except in cards of releases before 0.6, which did not record it.
_OPTIONAL_NEW = {**_OPTIONAL, "new_in_cards": True}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A field that is not the same in two sources."""

    name: str
    one: Any
    other: Any

    def between(self, one: str, other: str) -> str:
        """Describe the difference, with names for the two sources: `revision is 'a' in A and 'b' in B`."""
        return f"{self.name} is {_describe(self.one)} {one} and {_describe(self.other)} {other}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Rules of one user of `StateIdentity.differences`: every difference that is not named here is refused.

    A field that is unknown on one side passes, unless it is in `required`.
    """

    may_differ: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class StateIdentity:
    """Everything that decides what a state is, under the names that shards, `run.json` and cards use.

    Fields that are not marked optional are written by every extraction; where one of them is absent it is unknown.

    Examples
    --------
    >>> import halp_probe
    >>> of_shards = halp_probe.StateIdentity.of_shards(halp_probe.open_shards("output").attributes)
    >>> of_card = halp_probe.StateIdentity.of_card(halp_probe.load_probe("probes/probes/selected_probe").metadata)
    >>> of_shards == of_card, of_shards.system_prompt
    (True, None)
    """

    config_model_type: Text = UNKNOWN  # as transformers names the family
    revision: Text = UNKNOWN  # the hub's commit, or a fingerprint of the folder
    adapters: Text = field(default=UNKNOWN, metadata=_OPTIONAL)  # fingerprints, in order
    quantization: Text = field(default=UNKNOWN, metadata=_OPTIONAL)  # 4bit or 8bit
    intervention: Text = field(default=UNKNOWN, metadata=_OPTIONAL)  # what was done to the states
    intervention_settings: Text = field(
        default=UNKNOWN, metadata=_OPTIONAL_NEW
    )  # JSON of its attributes intervention_…
    family_looked_up: bool | Unknown | None = field(
        default=UNKNOWN, metadata=_OPTIONAL
    )  # None also for False: the family is in the table
    layer_meaning: Text = UNKNOWN
    task: Text = field(default=UNKNOWN, metadata=_OPTIONAL_NEW)  # whose prompts these are; None: plain VQA
    prompt: Text = UNKNOWN  # PROMPT or PROMPT_OF_TEXT
    prompt_date: Text = field(default=UNKNOWN, metadata=_OPTIONAL)  # YYYY-MM-DD, as the template wrote it
    template_options: Text = field(default=UNKNOWN, metadata=_OPTIONAL)  # a JSON object
    system_prompt: Text = field(default=UNKNOWN, metadata=_OPTIONAL)
    chat_template_sha256: Text = UNKNOWN
    min_pixels: Number = field(default=UNKNOWN, metadata=_OPTIONAL)  # None: the processor decides
    max_pixels: Number = field(default=UNKNOWN, metadata=_OPTIONAL)
    model_name: Text = field(default=UNKNOWN, compare=False)  # for messages alone: a folder may be moved
    complete: bool = field(default=True, compare=False)  # whether the source is of a kind whose absences mean none

    @classmethod
    def of_shards(cls, attributes: Mapping[str, Any]) -> StateIdentity:
        """Return the identity in a shard's attributes.

        In files without `format`, of other HALP code, missing attributes are unknown.
        """
        further = {name: _plain(attributes[name]) for name in sorted(attributes) if name.startswith(_FURTHER)}
        settings = {"intervention_settings": json.dumps(further, ensure_ascii=False)} if further else {}
        return cls._of({**attributes, **settings}, complete="format" in attributes)

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> StateIdentity:
        """Return the identity in a probe's card.

        A card without a revision comes from shards without one; its missing fields are unknown.
        """
        complete = card.get("revision") is not None
        new = [each.name for each in cls.compared_fields() if each.metadata.get("new_in_cards")]
        return cls._of(card, complete=complete, unknown=frozenset(name for name in new if name not in card))

    @classmethod
    def _of(cls, source: Mapping[str, Any], *, complete: bool, unknown: frozenset[str] = frozenset()) -> StateIdentity:
        values: dict[str, Any] = {}
        for each in cls.compared_fields():
            value = _plain(source.get(each.name))
            if value is None or value is False:
                means_none = complete and each.metadata.get("optional", False) and each.name not in unknown
                value = None if means_none else UNKNOWN
            values[each.name] = value
        name = source.get("model_name")
        return cls(**values, model_name=UNKNOWN if name is None else name, complete=complete)

    @classmethod
    def compared_fields(cls) -> tuple[Field[Any], ...]:
        """Return the fields that decide what a state is."""
        return tuple(each for each in fields(cls) if each.compare)

    def attributes(self) -> dict[str, Any]:
        """Return every field that is known, by name; None where there is none."""
        found = {each.name: getattr(self, each.name) for each in self.compared_fields()}
        return {name: value for name, value in found.items() if value is not UNKNOWN}

    def card(self) -> dict[str, Any]:
        """Return every field by name, as a probe's card has it: null where there is none or where it is unknown."""
        return {each.name: self.attributes().get(each.name) for each in self.compared_fields()}

    def prompt_options(self) -> dict[str, Any]:
        """Return a prompter's options to make such prompts again, under the names of the command line's options."""
        names = ("min_pixels", "max_pixels", "prompt_date", "template_options", "system_prompt")
        return {name: self.attributes().get(name) for name in names}

    @property
    def shows_images(self) -> bool:
        """Return whether the prompts show images; True where the source does not record it."""
        return self.prompt != PROMPT_OF_TEXT

    def differences(self, other: StateIdentity, check: Check) -> tuple[Difference, ...]:
        """Return the fields that differ and that the check does not let pass, in the order of the class."""
        found = []
        for name in (each.name for each in self.compared_fields()):
            mine, its = getattr(self, name), getattr(other, name)
            passes = UNKNOWN in (mine, its) and name not in check.required
            if mine != its and not passes and name not in check.may_differ:
                found.append(Difference(name=name, one=mine, other=its))
        return tuple(found)


_ALL = frozenset(each.name for each in StateIdentity.compared_fields())
_WEIGHTS = frozenset({"revision", "adapters", "quantization"})
_INTERVENTION = frozenset({"intervention", "intervention_settings"})
_MODEL = frozenset({"config_model_type", "family_looked_up", *_WEIGHTS, *_INTERVENTION})

# The files of one folder of shards, which count as one run; compared if both are complete.
ONE_FOLDER = Check(required=_ALL)
# The shards of a run that is resumed: those of an older release may record less.
SAME_RUN = Check()
# A probe and the shards that it scores, for a threshold and on the page.
PROBE_ON_SHARDS = Check()
# A probe and the model whose states it is to read. A model has no task: the user writes the question.
PROBE_ON_MODEL = Check(
    may_differ=frozenset({"task"}), required=frozenset({"config_model_type", "revision", "chat_template_sha256"})
)
# The same where the user allows another model: its processor and its template may make other prompts, too.
PROBE_ON_OTHER_MODEL = Check(
    may_differ=_MODEL | {"task", "chat_template_sha256", "prompt_date", "min_pixels", "max_pixels"}
)
# Probes of one conversation, whose prompts are made once; whether each fits the model is checked separately.
PROBES_TOGETHER = Check(
    may_differ=_MODEL | {"chat_template_sha256"},
    required=frozenset({"prompt", "prompt_date", "template_options", "system_prompt", "min_pixels", "max_pixels"}),
)
# Two folders whose states `compare` subtracts: of two models, or of one with and without adapters or an intervention.
PAIRED = Check(may_differ=_MODEL, required=_ALL)
# Shards and the processor that makes their prompts again, without weights.
AUDITED = Check(may_differ=_INTERVENTION | {"adapters", "quantization", "task", "layer_meaning"})


def _plain(value: Any) -> Any:
    """Convert a numpy scalar to a Python value."""
    return value.item() if hasattr(value, "item") else value


def _describe(value: Any) -> str:
    if value is UNKNOWN:
        return UNKNOWN.value
    return "none" if value is None else repr(value)
