"""Phi-4-multimodal: the image as a whole and in crops, embedded together with the tokens."""

from __future__ import annotations

from dataclasses import replace

from halp_probe.models.embedded_images import phi4_features, put_in_embeddings
from halp_probe.models.families.defaults import PLAIN
from halp_probe.models.family import Family, Notes
from halp_probe.models.vision_states import maps_without_padding

ROWS: dict[str, Family] = {
    "phi4_multimodal": replace(
        PLAIN,
        notes=Notes(
            checkpoint="microsoft/Phi-4-multimodal-instruct",
            vision_only="mean over all image tokens after the projector: the crops' pooled patches (2 × 2 each) "
            "without padding, those of the whole image, and the learned separators after each row and between the two",
            vision_encoder="mean over the patches of the crops and of the whole image at the last block but one, "
            "before pooling; padding left out",
            vision_token="the last image token: the separator after the last row of the whole image, which stands "
            "behind its crops",
            oddities="pass --revision refs/pr/70: the main branch holds code of its own (`phi4mm`), not transformers' "
            "class; the published answers need the repository's vision-lora adapter; prompts longer than 4096 tokens "
            "(images of more than about 14 crops of 448 × 448) are refused, since beyond them LongRoPE turns a whole "
            "batch's positions another way",
        ),
        features=phi4_features,
        entry=put_in_embeddings,
        vision_states=maps_without_padding,
        decoder_blocks="model.layers",
        projector="model.embed_tokens_extend.image_embed.image_token_compression",
        image_token_id="vision_config.image_token_id",
        image_inputs=("image_pixel_values", "image_sizes", "image_attention_mask"),
        auto_class="AutoModelForCausalLM",
        several_images="its crops are told apart here for one image",
    ),
}
