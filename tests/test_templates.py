"""The chat template is found in any file where vLLM and ms-swift find it; the one in use is named."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny.llava import LLAVA_TEMPLATE
from tiny_models import TINY

from halp_probe.commands.extract import add_arguments
from halp_probe.commands.terminal import log_on_terminal
from halp_probe.engine.prompting import Prompter, PromptError
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import open_checkpoint

JINJA = "chat_template.jinja"
FILES = (JINJA, "chat_template.json", "processor_config.json", "tokenizer_config.json")
OTHER = LLAVA_TEMPLATE.replace("ASSISTANT", "REPLY")
PICTURE = Image.new("RGB", (60, 60), (9, 99, 200))
THINKING = LLAVA_TEMPLATE + (
    "{% if SWITCH is defined and SWITCH is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without any template."""
    path = tmp_path_factory.mktemp("bare")
    torch.manual_seed(7)
    model, processor = TINY["llava"].build()
    processor.chat_template = None
    model.config.save_pretrained(path)
    processor.save_pretrained(path)
    assert not (path / JINJA).exists()
    return path


@pytest.fixture
def folder(bare: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bare, tmp_path / "model"))


def write(folder: Path, file: str, template: Any) -> None:
    path = folder / file
    if file == JINJA:
        path.write_text(template)
        return
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, "chat_template": template}))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("halp_probe")]


def rendered(folder: Path, question: str = "Why?", **options: Any) -> str:
    return Prompter(checkpoint=open_checkpoint(str(folder)), **options)._chat.text(question, [PICTURE])


@pytest.mark.parametrize("file", FILES)
def test_a_template_is_used_from_any_of_its_files(file: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, file, LLAVA_TEMPLATE)
    assert rendered(folder) == "USER: <image>\nWhy? ASSISTANT:"
    assert open_checkpoint(str(folder)).template_file == file
    assert not said(caplog)


def test_several_templates_of_a_tokenizer(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The default is taken; a list of one name is that one."""
    named = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": LLAVA_TEMPLATE}]
    write(folder, "tokenizer_config.json", named)
    assert rendered(folder).endswith("ASSISTANT:")
    write(folder, "tokenizer_config.json", named[:1])
    assert rendered(folder).endswith("REPLY:")
    write(folder, "tokenizer_config.json", [named[0], {"name": "rag", "template": OTHER}])
    with pytest.raises(ModelError, match=r"chat templates named rag, tool_use, .*save the one to use as chat_template"):
        open_checkpoint(str(folder))
    assert not said(caplog)


def test_templates_in_their_own_folder(folder: Path) -> None:
    """As transformers saves those besides the default."""
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(OTHER)
    assert rendered(folder).endswith("REPLY:")
    write(folder, JINJA, LLAVA_TEMPLATE)
    assert rendered(folder).endswith("ASSISTANT:")


@pytest.mark.parametrize(
    ("used", "passed_over"),
    [("chat_template.json", JINJA), ("processor_config.json", JINJA), ("processor_config.json", "chat_template.json"),
     (JINJA, "tokenizer_config.json"), ("chat_template.json", "tokenizer_config.json")],
)  # fmt: skip
def test_of_two_templates_the_one_in_use_is_named(
    used: str, passed_over: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, used, LLAVA_TEMPLATE)
    write(folder, passed_over, OTHER)
    assert rendered(folder).endswith("ASSISTANT:")
    assert said(caplog) == [
        f"Chat templates of {folder} differ: {used} is used, not {passed_over}; make them the same."
    ]
    caplog.clear()
    write(folder, passed_over, LLAVA_TEMPLATE + "\n")  # which Jinja ignores
    assert open_checkpoint(str(folder)).template_file == used and not said(caplog)


@pytest.mark.parametrize("file", FILES)
def test_errors_name_the_template_s_file(file: str, folder: Path) -> None:
    write(folder, file, LLAVA_TEMPLATE.replace("part['text']", "part['words']"))
    with pytest.raises(PromptError, match=f"leaves the question out: .* fix the checkpoint's {file}"):
        rendered(folder)
    write(folder, file, LLAVA_TEMPLATE.replace("<image>", "a picture"))
    with pytest.raises(ModelError, match=f"{file} writes no token for it"):
        open_checkpoint(str(folder))
    write(folder, file, LLAVA_TEMPLATE.replace("{% endfor %}", "", 1))
    with pytest.raises(ModelError, match=f"{file} of .* is no Jinja template: line 2"):
        open_checkpoint(str(folder))
    write(folder, file, "{% if messages %}{{ raise_exception('no pictures') }}{% endif %}")
    with pytest.raises(PromptError, match=f"{file} refuses the question: no pictures"):
        rendered(folder)


def test_no_template_anywhere_is_one_error(folder: Path) -> None:
    checkpoint = open_checkpoint(str(folder))
    with pytest.raises(ModelError, match=r"no chat template in any of its files; save one as chat_template\.jinja"):
        Prompter(checkpoint=checkpoint)


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking", "reasoning_mode"])
def test_open_thoughts_are_said_with_what_shuts_them(
    switch: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, JINJA, THINKING.replace("SWITCH", switch))
    assert rendered(folder).endswith("<think>\n")
    (message,) = said(caplog)
    assert "opens the model's thoughts" in message and message.endswith(
        f"`template_options` {switch}=false shuts them."
    )
    caplog.clear()
    assert rendered(folder, template_options=json.dumps({switch: False})).endswith("</think>\n\n")
    assert not said(caplog)


def test_thoughts_that_nothing_shuts_are_said_too(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, JINJA, LLAVA_TEMPLATE + "<think>\n{# no enable_thinking here #}")
    rendered(folder)
    assert ["it has no variable that shuts them" in message for message in said(caplog)] == [True]
    caplog.clear()
    write(folder, JINJA, LLAVA_TEMPLATE + "<think>\n\n</think>\n\n")
    rendered(folder)
    assert not said(caplog)


def test_the_log_names_flags(capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with log_on_terminal(parser):
        logging.getLogger("halp_probe.engine.thoughts").warning("`template_options` a=false shuts %s", "them")
    assert capsys.readouterr().err == "--template-option a=false shuts them\n"
