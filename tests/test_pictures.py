"""What a caller passes as a picture is the same picture in every form, or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import halp_probe
from halp_probe.engine.images import ImageError, load_image
from halp_probe.engine.pictures import load_pictures
from halp_probe.errors import InputError
from halp_probe.models.loading import LoadedModel
from halp_probe.models.options import load_model
from halp_probe.probes.files import load_probe
from halp_probe.shapes.dataset import write_dataset

RGB = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def forms(folder: Path) -> dict[str, Any]:
    path = folder / "a.png"
    Image.fromarray(RGB).save(path)
    return {
        "str": str(path),
        "path": path,
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "PIL": Image.open(path),
        "array": RGB,
        "strided array": np.flip(np.flip(RGB, 1).copy(), 1),
        "loaded": load_image(path),
    }


def test_every_form_is_the_same_picture(tmp_path: Path) -> None:
    every = forms(tmp_path)
    for name, form in every.items():
        (loaded,) = load_pictures(form)
        assert np.array_equal(np.asarray(loaded.pixels), RGB), name
    for several in (list(every.values()), tuple(every.values())):
        assert all(np.array_equal(np.asarray(each.pixels), RGB) for each in load_pictures(several))
    assert load_pictures(None) == [] == load_pictures([])
    (grey,) = load_pictures(RGB[..., 0])
    assert np.array_equal(np.asarray(grey.pixels), np.repeat(RGB[..., :1], 3, 2))


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (RGB / 255, r"an array of float64 \[60, 80, 3\] is no picture: pass .* a uint8 array .*; scale other values"),
        (RGB.astype(np.uint16), r"an array of uint16 \[60, 80, 3\] is no picture"),
        (RGB.transpose(2, 0, 1), r"an array of uint8 \[3, 60, 80\] is no picture"),
        (RGB[None], r"an array of uint8 \[1, 60, 80, 3\] is no picture"),
        (RGB[:0], r"an array of uint8 \[0, 80, 3\] is no picture"),
        (torch.from_numpy(RGB), r"a Tensor \[60, 80, 3\] is no picture: pass a file's name or its bytes, a PIL image"),
        (3, "a int is no picture"),
        ({"image": RGB}, "a dict is no picture"),
        ([[RGB]], "a list is no picture"),
        ([None], "a NoneType is no picture"),
        (b"", r"the picture is empty \(0 bytes\)"),
        (b"hello", "the picture is not an image that Pillow can read"),
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        ("a\0.png", "cannot be read: "),
        ("\ud800.png", "cannot be read: "),
        ("data:image/png;base64," + "A" * 10**6, r"characters\) … A+ cannot be read: File name too long"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(picture: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        load_pictures(picture)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def shapes() -> LoadedModel:
    return load_model("shapes")


def test_capture_takes_every_form(shapes: LoadedModel, tmp_path: Path) -> None:
    every = forms(tmp_path)
    reference = halp_probe.capture(shapes, every.pop("path"), "Is there a red shape?")
    for name, form in every.items():
        captured = halp_probe.capture(shapes, form, "Is there a red shape?")
        assert np.array_equal(captured.query_token[5], reference.query_token[5]), name
    with pytest.raises(InputError, match="a Tensor"):
        halp_probe.capture(shapes, torch.from_numpy(RGB), "Is there a red shape?")  # type: ignore[arg-type]


def test_a_risk_is_that_of_the_picture_in_every_form(shapes: LoadedModel, tmp_path: Path) -> None:
    write_dataset(tmp_path, n_scenes=12, questions_a_scene=2, seed=3)
    run = halp_probe.extract(tmp_path / "vqa.csv", tmp_path / "images", tmp_path / "out", model=shapes, layers=[5])
    labels = {question_id: k % 2 for k, question_id in enumerate(run.shards.question_ids)}
    design = halp_probe.Design(bootstrap=10, representations=["query_token_representation/layer_5"], folds=3)
    halp_probe.write_report(halp_probe.study(run.shards, labels, design), tmp_path / "report")
    scorer = halp_probe.RiskScorer(shapes, load_probe(tmp_path / "report/probes/selected_probe"))
    every = forms(tmp_path)
    risk = scorer.score(every.pop("path"), "Is there a red shape?")
    assert {scorer.score(form, "Is there a red shape?") for form in every.values()} == {risk}
    assert scorer.answer(RGB, "Is there a red shape?").risk == risk
    for wrong in (RGB / 255, torch.from_numpy(RGB), 3):
        with pytest.raises(InputError, match="is no picture: pass a file's name or its bytes"):
            scorer.score(wrong, "Is there a red shape?")  # type: ignore[arg-type]
