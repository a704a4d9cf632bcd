"""The classes of made models with code of their own: one that can be served, and one that answers through `chat`."""

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, LlavaForConditionalGeneration, PreTrainedModel

from .configuration_own import OwnChatConfig, OwnConfig


class OwnForConditionalGeneration(LlavaForConditionalGeneration):
    config_class = OwnConfig


class OwnChatModel(PreTrainedModel):
    """In the style of `InternVLChatModel`: the image token's id comes with the tokenizer, in `chat`."""

    config_class = OwnChatConfig
    main_input_name = "pixel_values"
    base_model_prefix = "language_model"

    def __init__(self, config):
        super().__init__(config)
        self.vision_model = AutoModel.from_config(config.vision_config)
        self.language_model = AutoModelForCausalLM.from_config(config.llm_config)
        self.mlp1 = nn.Linear(config.vision_config.hidden_size, config.llm_config.hidden_size)
        self.img_context_token_id = None

    def extract_feature(self, pixel_values):
        return self.mlp1(self.vision_model(pixel_values).last_hidden_state)

    def forward(self, pixel_values, input_ids, attention_mask=None, image_flags=None, **kwargs):
        embeds = self.language_model.get_input_embeddings()(input_ids)
        embeds[input_ids == self.img_context_token_id] = self.extract_feature(pixel_values).flatten(0, 1)
        return self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs)

    @torch.no_grad()
    def chat(self, tokenizer, pixel_values, question, generation_config, history=None):
        raise NotImplementedError
