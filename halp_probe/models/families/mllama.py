"""Llama 3.2 Vision: the image is not part of the prompt; some decoder blocks attend to it."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.cross_attention import attend_to_images, cross_features
from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.vision_states import filled_tiles

ROWS: dict[str, Family] = {
    "mllama": replace(
        PLAIN,
        notes=Notes(
            checkpoint="meta-llama/Llama-3.2-11B-Vision-Instruct",
            vision_only="mean over what the decoder's cross-attention reads: the projector's output for the class "
            "token and the patches of each tile that the image fills (empty tiles are left out)",
            vision_encoder="mean over the same class tokens and patches before the projector: the tower's last state "
            "and five intermediate ones side by side (7680 numbers)",
            vision_token="<|image|>, the one token that stands for the image and the first that its mask lets attend "
            "to it: before the first cross-attention block its state does not depend on the image",
            attention="causal; the image is read in the cross-attention blocks alone (11B: 3, 8, 13, … 38)",
            oddities="layer k counts all decoder blocks, the cross-attention blocks among them; in transformers, "
            "tokens in front of <|image|> attend to the image as well, and empty tiles take part in the tower's "
            "attention",
        ),
        features=cross_features,
        entry=attend_to_images,
        vision_states=filled_tiles,
        cross_attention=True,
        image_inputs=("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"),
        unused_outputs=("cross_attention_mask",),  # made anew for each padded batch
        several_images="the mask of its cross-attention is made here for one",
        text_only="its cross-attention blocks do not run without one, so layers would be missing",
    ),
}
