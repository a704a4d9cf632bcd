"""`docs/families.md`, written from the table of families."""

from __future__ import annotations

from halp_probe.models.families import FAMILIES
from halp_probe.models.family import Family

_HEAD = """\
# Model families

Written from `halp_probe/models/families/` by `halp-probe families --markdown`; a test keeps the two in step. Every row
is proved by `tests/test_equality.py` on a tiny random model of the real class, with the real processor: captured states
and vision means equal a plain forward pass, a batch of 8 equals one sample alone, left padding equals right padding
where the family allows it, pictures of mixed sizes, a shared prefix changes nothing or is declared off, answers are
those of `generate`.

`halp-probe families` lists the same table. A type that is not in it is refused, with what transformers' own lookups find
and the row to add. `--trust-lookup` uses that as it is, after its states of the first four images were compared with a
plain forward pass.

Meant in every family: *layer k* is the output of decoder block k, before the final norm; the *query token* is the last
prompt token. *Vision token*, *vision-only* and *vision-encoder* are below, since they depend on how images enter.

"""

_PUBLISHED_HEAD = """\
## The families of the HALP paper

What the released extraction scripts read (two public repositories of the authors, read in November 2026) where the last
image token was meant. States captured here are not comparable with theirs at the vision token, and at layer k where the
table says so.

| family | their vision token | and besides |
| --- | --- | --- |
"""

# By model type: where the released code reads the vision token, and what else is off.
PUBLISHED: dict[str, tuple[str, str]] = {
    "gemma3": (
        "`min(255, tokens // 2)`: as if the image's 256 tokens began the prompt. The turn's opening tokens stand "
        "before "
        "them, so this is an image token a few places before the last",
        "",
    ),
    "fast_vlm": (
        "where the placeholder stands in the ids before the image is put in its place: in the states, the *first*"
        " image token",
        "the query token is the last of those unexpanded ids, which is inside the image; `layer_k` is the output "
        "of block "
        'k-1 (`layer_0` the embeddings); the answer is decoded from what follows the word "assistant"',
    ),
    "llava_next": (
        "`min(max(400, tokens // 3), 1500)`, an estimate, at most 10 tokens before the end",
        "`layer_k` is the output of block k-1 (`layer_0` the embeddings); a failed vision mean is stored as "
        "zeros, a failed "
        "answer as its error text",
    ),
    "molmo2": (
        "one after the largest index of an image token: the token behind the image (Molmo 1; `molmo2` is its "
        "successor here)",
        "a failed answer is stored as its error text",
    ),
    "qwen2_5_vl": (
        "`min(T·H·W, tokens // 2)` from the grid *before* four patches become one token: the middle of the prompt",
        "a failed answer is stored as its error text",
    ),
    "mllama": ("the `<|image|>` token, as here", "the last layer is read behind the final norm"),
    "phi4_multimodal": (
        "the last image token, as here",
        "vision-only is a mean over the *pixels* that the processor returns; the last layer is read behind the "
        "final norm",
    ),
    "smolvlm": (
        "`min(max(200, tokens // 4), 800)`, an estimate, at most 10 tokens before the end",
        "`layer_k` is the output of block k-1 (`layer_0` the embeddings); the stored answer begins with the whole"
        " prompt",
    ),
}


def families_page() -> str:
    """The whole page."""
    rows = "".join(_table_row(name, family) for name, family in FAMILIES.items())
    details = "\n".join(_details(name, family) for name, family in FAMILIES.items())
    published = "".join(
        f"| `{name}` ({FAMILIES[name].notes.checkpoint}) | {vision} | {more or '–'} |\n"
        for name, (vision, more) in PUBLISHED.items()
    )
    head = (
        f"{len(FAMILIES)} families, by `config.model_type`:\n\n"
        "| model type | for example | the image enters as | questions on one image share it | padding |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    return f"{_HEAD}{head}{rows}\n{_PUBLISHED_HEAD}{published}\n## What is read, family by family\n\n{details}"


def families_list() -> str:
    """The table in lines for a terminal."""
    width = max(map(len, FAMILIES))
    lines = [f"{name:{width}}  {family.notes.checkpoint}" for name, family in sorted(FAMILIES.items())]
    return "\n".join([*lines, f"{len(lines)} families; docs/families.md says what is read in each"])


def _table_row(name: str, family: Family) -> str:
    entry = "cross-attention" if family.cross_attention else "tokens"
    shared = f"no: {family.unshared}" if family.unshared else "yes"
    padding = "either side" if family.right_padding else "left"
    return f"| `{name}` | {family.notes.checkpoint} | {entry} | {shared} | {padding} |\n"


def _details(name: str, family: Family) -> str:
    notes = family.notes
    lines = [
        f"### {name}\n",
        f"- *Vision token*: {notes.vision_token}.",
        f"- *Vision-only*: {notes.vision_only}.",
        f"- *Vision-encoder*: {notes.vision_encoder}.",
        f"- Image tokens see: {notes.attention}.",
    ]
    if notes.oddities:
        lines.append(f"- {notes.oddities[0].upper()}{notes.oddities[1:]}.")
    return "\n".join(lines) + "\n"
