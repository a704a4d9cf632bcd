"""The configurations of made models with code of their own, as repositories hold them beside the weights."""

from transformers import AutoConfig, LlavaConfig, PretrainedConfig


class OwnConfig(LlavaConfig):
    model_type = "own_vl"


class OwnChatConfig(PretrainedConfig):
    """In the style of InternVL's and MiniCPM-V's: nested, and without the id of an image token."""

    model_type = "own_chat"
    is_composition = True

    def __init__(self, vision_config=None, llm_config=None, downsample_ratio=0.5, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = AutoConfig.for_model(**vision_config) if vision_config else None
        self.llm_config = AutoConfig.for_model(**llm_config) if llm_config else None
        self.downsample_ratio = downsample_ratio
