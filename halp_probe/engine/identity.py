"""The `StateIdentity` of a model's states, which an extraction records and a saved probe is compared with."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.engine.prompting import Prompter
from halp_probe.models.loading import Checkpoint, LoadedModel
from halp_probe.state_identity import LAYER_MEANING, PROMPT, PROMPT_OF_TEXT, StateIdentity


def identity_of_checkpoint(checkpoint: Checkpoint) -> StateIdentity:
    """Return the identity of a model without its weights and its prompts; other fields are unknown."""
    return StateIdentity(
        model_name=checkpoint.name,
        config_model_type=checkpoint.model_type,
        revision=checkpoint.revision,
        adapters=checkpoint.stack,
        family_looked_up=checkpoint.family.looked_up or None,
        chat_template_sha256=checkpoint.chat_template_sha256,
        layer_meaning=LAYER_MEANING,
    )


def identity_of_model(loaded: LoadedModel) -> StateIdentity:
    """Return the identity of a loaded model without interventions; the fields of prompts are unknown."""
    return replace(
        identity_of_checkpoint(loaded.checkpoint),
        quantization=loaded.quantization,
        intervention=None,
        intervention_settings=None,
    )


def add_prompts(identity: StateIdentity, prompter: Prompter, *, shows_images: bool = True) -> StateIdentity:
    """Return the model's identity, completed by the prompts that the prompter makes; the task stays unknown."""
    low, high = (prompter.pixel_bounds if shows_images else None) or (None, None)
    return replace(
        identity,
        prompt=PROMPT if shows_images else PROMPT_OF_TEXT,
        prompt_date=prompter.prompt_date,
        template_options=prompter.template_options,
        system_prompt=prompter.system,
        min_pixels=low,
        max_pixels=high,
    )
