"""Text of `docs/families.md`, written from the table of families."""

from __future__ import annotations

import re

from halp_probe.models.families import FAMILIES
from halp_probe.models.families.released_code import RELEASED_CODE
from halp_probe.models.families.unsupported import UNSUPPORTED
from halp_probe.models.family import Family

_TOKEN = re.compile(r"</?[|\w][^<>\s]*>|\[IMG\w*\]")  # <|image|>: Markdown would render it as HTML

_HEAD = """\
# Model families

Written from `halp_probe/models/families/` by `halp-probe families --markdown`; a test keeps the two in step. Every row
is proved by `tests/test_equality.py` and `tests/test_equality_answers.py` on a tiny random model of the real class,
with the real processor: captured states and vision means equal a plain forward pass, a batch of 8 equals one sample
alone, left padding equals right padding where the family allows it (extraction pads on the left), pictures of mixed
sizes, a shared prefix changes nothing or is declared off, answers are those of `generate`. `tests/test_shown_images.py`
proves the same of prompts with two images, and of text alone, where a family does not say why it takes none.

`halp-probe families` lists the same table. A type that is not in it is refused, with what transformers' own lookups
find and the row to add. `--trust-lookup` uses that as it is, after its states of the first four images were compared
with a plain forward pass.

Meant in every family: *layer k* is the output of decoder block k, before the final norm; the *query token* is the last
prompt token. *Vision token*, *vision-only* and *vision-encoder* are below: they depend on how images enter.

"""

_PUBLISHED_HEAD = """\
## The families of the HALP paper

What the authors' released extraction scripts read (as of November 2026) where the last image token was meant. Six of
eight read another token. States captured here are not comparable with theirs there, nor at layer k where the table
says so.

| family | their vision token | and besides |
| --- | --- | --- |
"""


_UNSUPPORTED_HEAD = """\
## Not supported, and why

The other model types that transformers calls image-text-to-text models (5.24). Some would run with `--trust-lookup`,
which checks the first samples.

| model type | why not |
| --- | --- |
"""


def families_page() -> str:
    """Return the whole page."""
    rows = "".join(_table_row(name, family) for name, family in FAMILIES.items())
    details = "\n".join(_details(name, family) for name, family in FAMILIES.items())
    published = "".join(
        f"| `{name}` | {_in_cell(code.vision_token)} | {_in_cell(code.besides or '–')} |\n"
        for name, code in RELEASED_CODE.items()
    )
    head = (
        f"{len(FAMILIES)} families, by `config.model_type`:\n\n"
        "| model type | for example | the image enters as | questions on one image share it | padding |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    others = "".join(f"| `{name}` | {_in_cell(reason)} |\n" for name, reason in UNSUPPORTED.items())
    return (
        f"{_HEAD}{head}{rows}\n{_PUBLISHED_HEAD}{published}\n{_UNSUPPORTED_HEAD}{others}\n"
        f"## What is read, family by family\n\n{details}"
    )


def families_list() -> str:
    """Return the table as lines for a terminal."""
    width = max(map(len, FAMILIES))
    lines = [f"{name:{width}}  {family.notes.checkpoint}" for name, family in sorted(FAMILIES.items())]
    return "\n".join([*lines, f"{len(lines)} families; docs/families.md says what is read in each"])


def _table_row(name: str, family: Family) -> str:
    entry = "cross-attention" if family.cross_attention else "tokens"
    shared = f"no: {family.unshared}" if family.unshared else "yes"
    padding = "either side" if family.right_padding else "left"
    return f"| `{name}` | {family.notes.checkpoint} | {entry} | {shared} | {padding} |\n"


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")  # also in code


def _details(name: str, family: Family) -> str:
    notes = family.notes
    lines = [
        f"### {name}\n",
        f"- *Vision token*: {notes.vision_token}.",
        f"- *Vision-only*: {notes.vision_only}.",
        f"- *Vision-encoder*: {notes.vision_encoder}.",
        f"- Attention of image tokens: {notes.attention}.",
    ]
    limits = [f"Takes {reason}" for images in (2, 0) if (reason := family.refuses(images))]
    lines += [f"- {sentence}." for sentence in limits]
    if notes.oddities:
        lines.append(f"- {notes.oddities[0].upper()}{notes.oddities[1:]}.")
    return _TOKEN.sub(r"`\g<0>`", "\n".join(lines)) + "\n"
