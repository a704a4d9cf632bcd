"""Use what an adapter brings beside its weights: tokenizer, chat template, processor, and rows for new tokens.

Trainers save these files with an adapter, mostly unchanged. Where they differ from the base model's, the adapter was
trained on prompts that only they make; serving engines use them, too.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halp_probe.models.checkpoint_files import CheckpointFiles
from halp_probe.models.errors import ModelError, one_line
from halp_probe.models.processors import fit_processor

if TYPE_CHECKING:
    from halp_probe.models.adapters import Adapter

_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_IMAGES = ("processor_config.json", "preprocessor_config.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
FILES = (  # all that may lie in an adapter's folder besides its weights
    *_TOKENIZER, *_IMAGES, *_TEMPLATES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "merges.txt",
)  # fmt: skip
_log = logging.getLogger(__name__)


def use_adapter_files(
    processor: Any, adapters: Sequence[Adapter], config: Any, image_token: int
) -> tuple[Any, tuple[Adapter, ...]]:
    """Return the processor with the files of the adapters, of which the last has its way, and the adapters.

    An adapter that changes tokens or pictures gets an identity which says so; the template has its own place in a
    state's identity. `image_token` is the id of the image placeholder in the model's `config`. Raises ModelError for
    files that cannot be read or do not fit the model, and for a tokenizer that gives this id to another token.
    """
    found = []
    for adapter in adapters:
        before = _reading(processor)
        try:
            read = _read(processor, adapter.folder)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"`adapter` {adapter.name}: its tokenizer or processor cannot be read ({one_line(error)}); save them "
                f"again, or take them out of {adapter.folder} if they are the base model's"
            ) from error
        placeholders = [each.tokenizer.convert_ids_to_tokens(image_token) for each in (processor, read)]
        if placeholders[0] != placeholders[1]:
            raise ModelError(
                f"`adapter` {adapter.name}: token {image_token} of its tokenizer is {placeholders[1]!r}, not "
                f"{placeholders[0]!r}, which stands for an image; pass the model that it was trained on"
            )
        after = _reading(read)
        if after != before or read.chat_template != processor.chat_template:
            files = CheckpointFiles(source=str(adapter.folder), commit=None, cache_dir=None)
            fit_processor(read, files, config, image_token, adapter.name)
            what = "chat template" if after == before else "tokenizer or processor"
            _log.info("The %s of the adapter %s is used in place of the model's.", what, adapter.name)
        processor = read
        if after != before:
            mark = hashlib.sha256(after.encode()).hexdigest()[:16]
            adapter = replace(adapter, identity=f"{adapter.identity} with processor-{mark}")
        found.append(adapter)
    return processor, tuple(found)


def fit_vocabulary(model: Any, adapter: Adapter, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the embeddings as many rows as the adapter has whole weights for, which then replace all of them.

    `shapes` are those of the adapter's weights by name. Raises ModelError if the adapter has new rows for the input
    but none for an output of its own: they would be made up.
    """
    rows = {
        place: next((shape[0] for name, shape in shapes.items() if _is_whole(name, module, model)), None)
        for place, module in (("input", model.get_input_embeddings()), ("output", model.get_output_embeddings()))
    }
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if rows["input"] in (None, len(inputs)):
        return
    if inputs is not outputs and rows["output"] != rows["input"]:
        raise ModelError(
            f"`adapter` {adapter.name} has {rows['input']} input embeddings, the model {len(inputs)}, but not as many "
            "output embeddings: save it again with both (modules_to_save or save_embedding_layers of PEFT)"
        )
    model.resize_token_embeddings(rows["input"], mean_resizing=False)


def check_vocabulary(model: Any, processor: Any, adapters: Sequence[Adapter]) -> None:
    """Raise ModelError if a tokenizer that came with an adapter has tokens for which the model has no embedding."""
    highest, rows = max(processor.tokenizer.get_vocab().values()), len(model.get_input_embeddings().weight)
    if adapters and highest >= rows:
        raise ModelError(
            f"the tokenizer of {adapters[-1].name} has ids up to {highest}, the model {rows} embeddings; save the "
            "adapter again with its embeddings (modules_to_save or save_embedding_layers of PEFT)"
        )


def _read(processor: Any, folder: Path) -> Any:
    """Return the processor with the files in an adapter's folder in the place of its own."""
    from transformers import AutoTokenizer

    has_tokenizer, has_images = (any((folder / file).is_file() for file in files) for files in (_TOKENIZER, _IMAGES))
    if has_tokenizer and has_images:
        return type(processor).from_pretrained(folder)
    read = copy.copy(processor)
    if has_tokenizer:
        read.tokenizer = AutoTokenizer.from_pretrained(folder)
        read.chat_template = read.tokenizer.chat_template or processor.chat_template
    if has_images:
        read.image_processor = type(processor.image_processor).from_pretrained(folder)
    for file in _TEMPLATES:
        if (folder / file).is_file():
            text = (folder / file).read_text(encoding="utf-8")
            read.chat_template = json.loads(text)["chat_template"] if file.endswith(".json") else text
            break
    return read


def _reading(processor: Any) -> str:
    """Return as one text how the processor reads words and pictures, without the template and without padding."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    for state in ("padding", "truncation"):  # of the last call
        words.pop(state, None)
    pictures = processor.image_processor.to_dict()
    return json.dumps([words, pictures], sort_keys=True, default=str)


def _is_whole(name: str, module: Any, model: Any) -> bool:
    """Return whether an adapter's weight of this name is all of an embedding."""
    last = next(path for path, found in model.named_modules() if found is module).rsplit(".", 1)[-1]
    return re.search(rf"\.{re.escape(last)}(\.base_layer|\.modules_to_save)?\.weight$", name) is not None
