"""The processor of the made model that can be served."""

from transformers import LlavaProcessor


class OwnProcessor(LlavaProcessor):
    pass
