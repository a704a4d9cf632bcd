"""Table of model families, by `config.model_type`: literal rows; a wrong row fails its proof.

To add a family, add a row to one of the modules here and a tiny model to `tests/tiny/`; `tests/test_equality.py` and
`tests/test_equality_answers.py` then prove it. `docs/families.md` is written from the table.
"""

from __future__ import annotations

from halp_probe.errors import InputError
from halp_probe.models.families import (
    fast_vlm,
    gemma,
    glm,
    idefics,
    kimi,
    llava,
    minicpm,
    mllama,
    molmo,
    muse,
    nemotron,
    ocr,
    others,
    phi4,
    qwen,
    streams,
)
from halp_probe.models.family import Family

FAMILIES: dict[str, Family] = {
    **qwen.ROWS,
    **glm.ROWS,
    **llava.ROWS,
    **gemma.ROWS,
    **idefics.ROWS,
    **molmo.ROWS,
    **muse.ROWS,
    **fast_vlm.ROWS,
    **nemotron.ROWS,
    **ocr.ROWS,
    **kimi.ROWS,
    **minicpm.ROWS,
    **mllama.ROWS,
    **phi4.ROWS,
    **streams.ROWS,
    **others.ROWS,
}


def family_of(model_type: str) -> Family:
    """Return the row of this `config.model_type`; InputError if there is none."""
    if model_type not in FAMILIES:
        raise InputError(f"model_type {model_type!r} is not supported (supported: {', '.join(FAMILIES)})")
    return FAMILIES[model_type]
