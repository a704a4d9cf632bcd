"""Model types of transformers' image-text-to-text mapping that are not in the table, each with the reason."""

from __future__ import annotations

_NO_QUESTION = "made for one task: it is not asked questions"
_ENCODER_DECODER = (
    "an encoder reads the image and the question, a decoder answers: it has no prompt whose states these are"
)
_Q_FORMER = "its image tokens are made of the question as well (Q-Former): there is no vision-only representation"
_CODES = (
    "its pictures become words of the vocabulary (VQ codes), without a projector: vision-only would be a mean of word "
    "embeddings"
)
_NO_TEMPLATE = "its checkpoints have no chat template: what a prompt is, is not settled"

UNSUPPORTED: dict[str, str] = {
    "apertus1p5": _CODES,
    "blip": _NO_TEMPLATE,
    "blip-2": _NO_TEMPLATE,
    "chameleon": _CODES,
    "diffusion_gemma": "it writes blocks of tokens by diffusion: no query token gives the first one",
    "dots3_note": "not proved yet: a mixture of experts in its vision tower, DeepSeek's indexer in its decoder",
    "emu3": _CODES,
    "evolla": "made for proteins: it takes no pictures",
    "florence2": _ENCODER_DECODER,
    "fuyu": "no vision tower, and its checkpoint has no chat template",
    "git": _NO_TEMPLATE,
    "idefics": "superseded by Idefics 2; its gated cross-attention blocks are no blocks of the decoder's own list",
    "inkling2": "not proved yet: residual streams are read through attention over earlier blocks",
    "inkling2_loop": "not proved yet: its blocks run several times in a loop, so that a layer has several outputs",
    "inkling_mm_model": "not proved yet: convolutions between its blocks read the padding between image and question",
    "instructblip": _Q_FORMER,
    "instructblipvideo": _Q_FORMER,
    "kosmos-2": _NO_TEMPLATE,
    "kosmos-2.5": _NO_TEMPLATE,
    "minimax_m3_vl": "its sparse attention chooses blocks of columns, and padding moves them: no batch of prompts of "
    "several lengths is right in transformers",
    "mistral4": "a language model without a tower; Mistral Small 4, which sees, is a `mistral3`",
    "muse_spark": "not proved yet; its vision is that of `muse_glimmer`",
    "pi0": "made for one task: it answers with a robot's movements",
    "pix2struct": _ENCODER_DECODER,
    "pp_formulanet": _NO_QUESTION,
    "shieldgemma2": "it says how likely a picture breaks a policy, and takes no question; as a model it is a `gemma3`",
    "t5gemma2": _ENCODER_DECODER,
    "udop": _ENCODER_DECODER,
    "vision-encoder-decoder": _NO_QUESTION,
}
