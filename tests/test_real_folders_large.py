"""A photo of 12 megapixels is processed whole in the Qwen folders, which shrink it least."""

from __future__ import annotations

from pathlib import Path

import pytest
from real.folders import FOLDERS
from real.prompts import FACTS
from real.qwen import QWEN
from test_real_folders import LARGE, numbers, open_folder, prompt

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", QWEN)
def test_a_photo_of_12_megapixels_is_the_real_prompt(name: str, tmp_path: Path) -> None:
    facts = FACTS[name]
    made = prompt(open_folder(FOLDERS[name], tmp_path), LARGE)
    assert numbers(made) == (facts.tokens[3], facts.image_tokens[3], facts.last_image_index[3])
