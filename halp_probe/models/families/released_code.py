"""Tokens that the HALP paper's released extraction scripts read, for its eight models, as their vision token.

Sources: the repositories alliedbrother/HALP_EACL_Models and alliedbrother/HALP_EACL, read in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReleasedCode:
    """Places that the released code reads, in words."""

    vision_token: str
    besides: str  # what else differs from what is read here; empty: nothing


RELEASED_CODE: dict[str, ReleasedCode] = {
    "gemma3": ReleasedCode(
        vision_token="`min(255, tokens // 2)`: the middle of the prompt, so an image token near the image's middle; in "
        "prompts of 510 tokens or more the image's 256 are taken to begin the prompt, and one a few places before the "
        "last is read, since the turn's opening tokens stand before them",
        besides="",
    ),
    "fast_vlm": ReleasedCode(
        vision_token="where the placeholder stands in the ids before the image is put in its place: in the states, the "
        "*first* image token",
        besides="the query token is the last of those unexpanded ids, which is inside the image; `layer_k` is the "
        "output of block k-1 (`layer_0` the embeddings); the answer is decoded from what follows the word "
        '"assistant"',
    ),
    "llava_next": ReleasedCode(
        vision_token="`min(max(400, tokens // 3), 1500)`, an estimate, at most 10 tokens before the end",
        besides="`layer_k` is the output of block k-1 (`layer_0` the embeddings); a failed vision mean is stored as "
        "zeros, a failed answer as its error text",
    ),
    "molmo2": ReleasedCode(
        vision_token="one after the largest index of an image token: the token behind the image (Molmo 1; `molmo2` is "
        "its successor here)",
        besides="a failed answer is stored as its error text",
    ),
    "qwen2_5_vl": ReleasedCode(
        vision_token="`min(T·H·W, tokens // 2)` from the grid *before* four patches become one token: the middle of "
        "the prompt",
        besides="a failed answer is stored as its error text",
    ),
    "mllama": ReleasedCode(
        vision_token="the `<|image|>` token, as here",
        besides="the last layer is read behind the final norm",
    ),
    "phi4_multimodal": ReleasedCode(
        vision_token="the last image token, as here",
        besides="vision-only is a mean over the *pixels* that the processor returns; the last layer is read behind "
        "the final norm",
    ),
    "smolvlm": ReleasedCode(
        vision_token="`min(max(200, tokens // 4), 800)`, an estimate, at most 10 tokens before the end",
        besides="`layer_k` is the output of block k-1 (`layer_0` the embeddings); the stored answer begins with the "
        "whole prompt",
    ),
}
