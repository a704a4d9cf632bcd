"""What is known of each model family, by `config.model_type`: a literal table, where a wrong row fails its proof.

To add a family: a row in one of the modules here and a tiny model in `tests/tiny/`; `tests/test_equality.py` then
proves it. `docs/families.md` is written from the table.
"""

from __future__ import annotations

from halp_probe.errors import InputError
from halp_probe.models.families import gemma, glm, llava, qwen
from halp_probe.models.family import Family

FAMILIES: dict[str, Family] = {**qwen.ROWS, **llava.ROWS, **gemma.ROWS, **glm.ROWS}


def family_of(model_type: str) -> Family:
    """The row of this `config.model_type`; InputError with what to add when there is none."""
    if model_type not in FAMILIES:
        raise InputError(
            f"model_type {model_type!r} is not supported (supported: {', '.join(FAMILIES)}). To add it: a row "
            f"{model_type!r} in halp_probe/models/families/ with the paths of its decoder blocks and projector and its "
            "image token, and a tiny model in tests/tiny/ that proves it"
        )
    return FAMILIES[model_type]
