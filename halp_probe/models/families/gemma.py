"""Gemma's vision-language models: image tokens attend to each other both ways."""

from __future__ import annotations

from dataclasses import replace

import torch

from halp_probe.models.families.defaults import PLAIN, PREFIX_LM
from halp_probe.models.family import Family, Notes, TokenTypes, plain_positions_from_one
from halp_probe.models.image_entry import pooled_features
from halp_probe.models.vision_states import shown_patches


def _first_stream(output: torch.Tensor) -> torch.Tensor:
    """Return [B, T, D] of the output [4, B, T, D] of a block of Gemma 3n."""
    return output[0]


_LAST_NORM = "mean over the patches of the last block, after the tower's last norm"
_GEMMA4 = replace(
    PLAIN,
    notes=Notes(
        checkpoint="google/gemma-4-31B-it",
        vision_encoder="mean over what the vision tower gives, one vector an image token: each the mean of 3 × 3 "
        "patches, scaled (and standardised where the checkpoint says so); padding patches are no part of it",
        attention="causal; in the checkpoints with use_bidirectional_attention (31B, 26B-A4B), within the image "
        "both ways in sliding layers, causal in full ones; never the question",
        oddities="pictures of any shape, at most 280 image tokens; in E2B and E4B each block adds an embedding of "
        "the token's id (the padding token's at image tokens), and the last blocks read the keys and values of "
        "earlier ones",
    ),
    projector="model.embed_vision",
    image_inputs=("pixel_values", "image_position_ids"),
    images_together=True,
    token_types=TokenTypes(name="mm_token_type_ids", for_decoder=True, padding=0),  # 1 = image
)

ROWS: dict[str, Family] = {
    "gemma3": replace(
        PLAIN,
        notes=Notes(
            checkpoint="google/gemma-3-12b-it",
            vision_encoder=_LAST_NORM,
            attention="causal, and within the image both ways; never the question after it",
            oddities="the projector pools 4096 patches into 256 image tokens",
        ),
        images_together=True,
        token_types=TokenTypes(name="token_type_ids", for_decoder=True, padding=0),  # 1 = image, 0 = causal text
    ),
    "gemma3n": replace(
        PLAIN,
        notes=Notes(
            checkpoint="google/gemma-3n-E4B-it",
            vision_encoder="mean over the 16 × 16 cells of the tower's last feature map, one an image token, times the "
            "square root of its width",
            oddities="blocks work on four streams (AltUp): a state is stream 0, the active one of the published "
            "checkpoints; the last norm reads a mean made of all four, which is no state here. Each block adds an "
            "embedding of the token's id to the other streams; the last blocks read the keys and values of earlier "
            "ones. The vision tower is timm's MobileNetV5: pip install 'halp_probe[timm]'",
        ),
        features=pooled_features,
        projector="model.embed_vision.soft_embedding_norm",  # the whole embedder runs for some text tokens too
        block_states=_first_stream,
        unused_outputs=("token_type_ids",),  # attention is causal
    ),
    "gemma4": _GEMMA4,
    "gemma4_unified": replace(
        _GEMMA4,
        notes=Notes(
            checkpoint="google/gemma-4-12B-it",
            vision_encoder="mean over the patches (48 × 48 pixels, one an image token) as the last projection reads "
            "them: there is no vision encoder, they are a linear map of the pixels with their places added; padding "
            "patches are no part of it",
            attention=_GEMMA4.notes.attention,
            oddities="no vision encoder; pictures of any shape, at most 280 image tokens",
        ),
        vision_states=shown_patches,
        projector="model.embed_vision.multimodal_embedder",
    ),
    "paligemma": replace(
        PLAIN,
        notes=Notes(
            checkpoint="google/paligemma2-3b-mix-448",
            vision_encoder=_LAST_NORM,
            attention="the whole prompt, both ways",
            oddities="its checkpoints have no chat template: add one that writes <image> and the task (answer en …); "
            "the processor adds <bos> behind the image and a line break at the end, which is the query token",
        ),
        images_together=True,
        token_types=TokenTypes(name="token_type_ids", for_decoder=True, padding=1),  # 0 = prompt, 1 = causal answer
        positions=plain_positions_from_one,
        unused_outputs=("labels",),  # for training: the prompt masked out
        unshared=PREFIX_LM,
        text_only="its processor refuses it",
    ),
}
