"""Pretrained parts of a fused model: a vision tower with its image processor, a language model, a tokenizer.

No weight of a part is newly initialised: a checkpoint that lacks weights is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from halp_probe.models.adapters import check_no_adapter_inside
from halp_probe.models.errors import LOAD_ERRORS, ModelError, one_line
from halp_probe.models.hub_cache import locate
from halp_probe.models.loading import check_place
from halp_probe.models.naming import parse_name, source_of
from halp_probe.models.whole_weights import quiet_loading

IMAGE_TOKEN = "<|image_pad|>"
TURN_END = "<|im_end|>"
_NEEDED_TOKENS = (IMAGE_TOKEN, "<|im_start|>", TURN_END)
# Causal LMs that are just a decoder and a linear head: others scale or cap logits, which LLaVA would leave out.
LANGUAGE_TYPES = ("qwen2", "qwen3")


@dataclass(frozen=True)
class TowerKind:
    """Properties of a type of vision tower."""

    class_token: bool  # whether there is one before the patches
    normed: bool  # whether its `last_hidden_state` is the output of its final LayerNorm


TOWERS = {  # by the model type of the vision config
    "vit": TowerKind(class_token=True, normed=True),
    "clip_vision_model": TowerKind(class_token=True, normed=False),
    "siglip_vision_model": TowerKind(class_token=False, normed=True),
}
_UNREAD = ("pooler.dense.weight", "pooler.dense.bias")  # of a ViT: after the states that are read


@dataclass(frozen=True, kw_only=True)
class Vision:
    """A vision tower and the image processor that it was trained with."""

    tower: Any  # a transformers vision model
    image_processor: Any
    kind: TowerKind

    @property
    def side(self) -> int:
        """Side of its square pictures, in pixels."""
        return int(self.tower.config.image_size)

    @property
    def patch_size(self) -> int:
        """Side of a patch, in pixels."""
        return int(self.tower.config.patch_size)


@dataclass(frozen=True)
class Language:
    """A causal language model and its tokenizer."""

    model: Any  # a transformers causal LM
    tokenizer: Any

    @property
    def image_token_id(self) -> int:
        """Token id of the image placeholder."""
        return int(self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))


def open_vision(name: str, *, cache_dir: str | None, dtype: Any) -> Vision:
    """Open the vision model `name`, or the vision part of a CLIP or SigLIP of that name, and its image processor.

    Raises ModelError if it is not a ViT, CLIP or SigLIP of square pictures, or lacks weights.
    """
    with _convert_errors("vision model", name):
        arguments = _source_arguments(name, cache_dir)
        config = AutoConfig.from_pretrained(**arguments)
        config = getattr(config, "vision_config", config)
        _check_tower(config, name)
        image_processor = AutoImageProcessor.from_pretrained(**arguments)
        tower = _load(AutoModel, name, arguments, config=config, dtype=dtype, unread=_UNREAD)
    return Vision(tower=tower.eval(), image_processor=image_processor, kind=TOWERS[config.model_type])


def open_language(name: str, *, cache_dir: str | None, dtype: Any) -> Language:
    """Open the causal LM `name` with its tokenizer.

    Raises ModelError for another architecture than Qwen's, for quantized weights, and for a tokenizer without the
    tokens of images and turns.
    """
    with _convert_errors("language model", name):
        arguments = _source_arguments(name, cache_dir)
        config = AutoConfig.from_pretrained(**arguments)
        if config.model_type not in LANGUAGE_TYPES:
            raise ModelError(
                f"language model {name!r} is of type {config.model_type!r}; supported are {', '.join(LANGUAGE_TYPES)}"
            )
        if getattr(config, "quantization_config", None) is not None:
            raise ModelError(f"language model {name!r} is quantized; pass the checkpoint that it was made from")
        tokenizer = AutoTokenizer.from_pretrained(**arguments)
        _check_tokens(tokenizer, config.vocab_size, name)
        model = _load(AutoModelForCausalLM, name, arguments, config=config, dtype=dtype)
    return Language(model.eval(), tokenizer)


def _source_arguments(name: str, cache_dir: str | None) -> dict[str, Any]:
    """Return arguments of `from_pretrained`; the hub's commit is pinned, so that all files belong to it."""
    source = source_of(name)
    check_place(source)
    source, commit = locate(source, None, cache_dir=cache_dir)
    check_no_adapter_inside(name, source, commit, cache_dir)
    return {"pretrained_model_name_or_path": source, "revision": commit, "cache_dir": cache_dir}


def _load(auto: Any, name: str, arguments: dict[str, Any], *, unread: tuple[str, ...] = (), **options: Any) -> Any:
    """Load the model with all its weights from the checkpoint; those in `unread` are zero if it lacks them."""
    model, found = auto.from_pretrained(**arguments, **options, output_loading_info=True)
    missing = sorted(set(found["missing_keys"]) - set(unread))
    if missing:
        raise ModelError(
            f"{name!r} lacks {len(missing)} weights of a {type(model).__name__} (first: {missing[0]}); pass a "
            "checkpoint that holds them"
        )
    for key in found["missing_keys"]:
        model.get_parameter(key).data.zero_()
    model.config._name_or_path = parse_name(name).name  # saved with the whole: the same on any machine
    return model


def _check_tower(config: Any, name: str) -> None:
    if config.model_type not in TOWERS:
        raise ModelError(
            f"vision model {name!r} is of type {config.model_type!r}; supported are {', '.join(TOWERS)}, and clip and "
            "siglip, which hold one"
        )
    if not (isinstance(config.image_size, int) and isinstance(config.patch_size, int)):
        raise ModelError(f"vision model {name!r} does not take square pictures and patches; choose one that does")


def _check_tokens(tokenizer: Any, vocabulary: int, name: str) -> None:
    """Raise ModelError unless the tokenizer has each token, reads it from text, and the embedding has a row for it."""
    token_ids = tokenizer.get_vocab()
    for token in _NEEDED_TOKENS:
        if token not in token_ids or tokenizer.encode(token, add_special_tokens=False) != [token_ids[token]]:
            raise ModelError(
                f"the tokenizer of {name!r} has no token {token!r}; pass a language model that has it, such as "
                "Qwen2.5-Instruct"
            )
        if token_ids[token] >= vocabulary:
            raise ModelError(
                f"{name!r} has {vocabulary} embeddings, none for the token {token!r} ({token_ids[token]}); resize them"
            )
    if getattr(tokenizer, "image_token", IMAGE_TOKEN) != IMAGE_TOKEN:
        raise ModelError(
            f"the tokenizer of {name!r} names {tokenizer.image_token!r} as its image token, not {IMAGE_TOKEN!r}; take "
            "image_token out of its tokenizer_config.json"
        )


@contextmanager
def _convert_errors(what: str, name: str) -> Iterator[None]:
    """Turn errors of transformers into ModelErrors; silence messages on unused weights, such as a classifier's."""
    try:
        with quiet_loading():
            yield
    except ModelError:
        raise
    except LOAD_ERRORS as error:
        raise ModelError(
            f"cannot load {what} {name!r}: {one_line(error)} (check the name; without network pass a local folder, or "
            "a `cache_dir` that holds the model)"
        ) from error
