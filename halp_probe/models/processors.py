"""Open a checkpoint's processor, and name the tokens that its tokenizer does not name.

Some processors read the image token and its marks from attributes of the tokenizer, which are lost when the
tokenizer is saved by a tool that does not know them. They are taken from the model's config, or, for marks that no
config has, from the names that all checkpoints of the family use.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import AutoProcessor, AutoTokenizer

from halp_probe.models.checkpoint_files import CheckpointFiles
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.image_settings import name_areas, settle_image_settings
from halp_probe.models.templates import settle_template
from halp_probe.models.trial import try_picture

_MISSING = re.compile(r"(?:has no attribute|is missing required attribute) '?(\w+?_token)(?:_id)?\b")
_STANDARD = {f"{name}_token" for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")}
_CONTEXT = {"context_image_token": "image_token"}  # InternVL's name for it
_INTERNVL = {"start_image_token": "<img>", "end_image_token": "</img>"}
_MARKS = {  # by model type, as transformers' own conversions name them
    "janus": {"boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"},
    "internvl": {**_INTERNVL, "video_token": "<video>"},
    "qianfan_ocr": _INTERNVL,
    "cohere2_vision": {
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    },
    "lighton_ocr": {"image_break_token": "<|vision_pad|>", "image_end_token": "<|vision_end|>"},
}
_BUILD_ERRORS = (AttributeError, LookupError, TypeError, ValueError)


def open_processor(
    files: CheckpointFiles, config: Any, image_token_id: int, name: str, where: dict[str, Any]
) -> tuple[Any, str]:
    """Open the processor of the checkpoint `name`; return it with the name of its chat template's file.

    `where` is how transformers finds the files. The processor is tried on one made picture. Raises ModelError for one
    that takes no images, cannot be built from its files or does not fit the model, and for a tokenizer that does not
    name a token which cannot be told otherwise; and what transformers raises for files that are missing.
    """
    processor = _build(files.source, config, where)
    return processor, fit_processor(processor, files, config, image_token_id, name)


def fit_processor(processor: Any, files: CheckpointFiles, config: Any, image_token_id: int, name: str) -> str:
    """Fill the settings that its files leave out, try it on a made picture, and return the name of the template's file.

    Raises ModelError for a processor that does not fit the model.
    """
    said = files.content("processor_config.json")
    name_areas(processor.image_processor)
    settle_image_settings(processor, config, said, name)
    template_file = settle_template(processor, files, name)
    try_picture(processor, config, image_token_id, said=said, template_file=template_file, name=name)
    return template_file


def _build(source: str, config: Any, where: dict[str, Any]) -> Any:
    """Build the processor from the checkpoint's files, with the names of tokens that they lack."""
    try:
        processor = AutoProcessor.from_pretrained(source, **where)
    except _BUILD_ERRORS as error:
        _find_unnamed(source, error)
        processor = _open_with_names(source, _token_names(source, config, where), where)
    for part in ("image_processor", "tokenizer"):
        if not hasattr(processor, part):
            raise ModelError(
                f"the files of {source} make a {type(processor).__name__} without {part}: add the model's "
                "preprocessor_config.json, processor_config.json and tokenizer files"
            )
    return processor


def _open_with_names(source: str, names: dict[str, str], where: dict[str, Any]) -> Any:
    """Open the processor with these names of tokens, which its tokenizer files lack."""
    try:
        return AutoProcessor.from_pretrained(source, **where, **names)
    except _BUILD_ERRORS as error:
        missing = _find_unnamed(source, error)
        raise ModelError(
            f"the tokenizer of {source} names no {missing}, which its processor needs and config.json does not tell: "
            f'add "{missing}" with the token\'s text to its tokenizer_config.json'
        ) from error


def _find_unnamed(source: str, error: Exception) -> str:
    """Return which named token the processor misses. Raises `error`, or a ModelError for it, if it is something else.

    A ValueError explains itself; the other errors are those of code that did not expect such files.
    """
    if missing := _MISSING.search(str(error)):
        return missing[1]
    if isinstance(error, ValueError):
        raise error
    raise ModelError(
        f"the processor of {source} cannot be built from its files ({type(error).__name__}: {one_line(error)}); "
        "compare its processor_config.json, preprocessor_config.json and tokenizer_config.json with the original's"
    ) from error


def _token_names(source: str, config: Any, where: dict[str, Any]) -> dict[str, str]:
    """Return text by attribute for the tokens that the config or the family names and the tokenizer does not.

    Only tokens that the tokenizer has as such: a text that it would split is no mark.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, **where)
    ids: dict[str, int] = {}
    settings = config.to_dict()
    for part in (settings, *(value for value in settings.values() if isinstance(value, dict))):
        for key, value in part.items():
            if (found := re.fullmatch(r"(\w+_token)_(?:id|index)", str(key))) and isinstance(value, int):
                ids.setdefault(found[1], value)
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    texts = {name: added[index] for name, index in ids.items() if index in added}
    texts |= {alias: texts[name] for alias, name in _CONTEXT.items() if name in texts}
    marks = _MARKS.get(str(config.model_type), {})
    texts |= {name: text for name, text in marks.items() if name not in texts and text in added.values()}
    return {name: text for name, text in texts.items() if name not in _STANDARD and not hasattr(tokenizer, name)}
