"""Idefics and SmolVLM leave out tiles whose pixels are all zero: no picture may be lost that way without a word."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, tiny_model

from halp_probe.engine.engine import Engine
from halp_probe.engine.images import LoadedImage
from halp_probe.engine.prompting import Prompt, Prompter
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.records import CaptureSpec, Sample

FAMILIES = ["smolvlm", "idefics3", "idefics2"]
BLACK, GREY, PALER, WHITE = (0, 0, 0), (127, 127, 127), (128, 128, 128), (255, 255, 255)


def prompt_on(loaded: LoadedModel, picture: Image.Image) -> Prompt:
    return Prompter(checkpoint=loaded.checkpoint).prompt(
        Sample(question_id="q", image_id="i", question="How many?", answer=""), LoadedImage(picture, "content")
    )


def half_black() -> Image.Image:
    pixels = np.zeros((112, 112, 3), dtype=np.uint8)
    pixels[:, 56:] = 200
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "picture", [*(Image.new("RGB", (112, 112), c) for c in (BLACK, GREY, PALER, WHITE)), half_black()]
)
@torch.no_grad()
def test_pictures_of_one_colour_are_seen_whole(name: str, picture: Image.Image) -> None:
    """Normalised, black is -1 and no grey is zero: the tower sees as many tiles as the processor made."""
    loaded = tiny_model(name)
    prompt = prompt_on(loaded, picture)
    row = Engine(loaded, CaptureSpec((0, 5), 0)).run([prompt])[0]
    tiles = prompt.images["pixel_values"].shape[1]
    assert tiles == 5 and prompt.image_tokens == tiles * (3 if name == "idefics2" else 4)
    reference = TINY[name].vision_encoder(loaded, prompt.images).mean(0).numpy()
    assert np.abs(row.vision_encoder - reference).max() <= 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("picture", "lost"), [(Image.new("RGB", (112, 112), BLACK), 5), (half_black(), 2)])
def test_a_tile_that_would_be_left_out_is_an_error(name: str, picture: Image.Image, lost: int) -> None:
    """Where a checkpoint does not normalise, black is zero."""
    loaded = tiny_model(name)
    loaded.checkpoint.processor.image_processor.do_normalize = False
    prompt = prompt_on(loaded, picture)
    with pytest.raises(InputError, match=f"{lost} of 5 tiles of a picture are zero .*do_normalize"):
        Engine(loaded, CaptureSpec((0, 5), 0)).run([prompt])
