"""Pictures in another encoding or size are found, told and joined; other pictures are left apart."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from probes_fake import FakeShards, labels_of, planted

import halp_probe
from halp_probe.near_duplicates import BITS, MOST_DIFFERENT, difference_hash, near_pairs
from halp_probe.probes.design import Design
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.study import study
from halp_probe.shapes.dataset import write_dataset


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A blurred picture of random spots, as smooth as a photograph."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, size=(12, 16, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def encoded(picture: Image.Image, form: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return Image.open(file).convert("RGB")


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_hash_is_one_bit_a_pair_of_neighbours():
    """By hand, on a picture of 17 × 16 that needs no change of size."""
    light = np.random.default_rng(0).integers(0, 255, size=(16, 17), dtype=np.uint8)
    bits = "".join(str(int(light[y, x + 1] > light[y, x])) for y in range(16) for x in range(16))
    assert int(difference_hash(Image.fromarray(light)), 16) == int(bits, 2)
    assert len(difference_hash(scene(0))) * 4 == BITS


def test_other_encodings_and_sizes_are_near_and_other_pictures_are_not():
    hashes = [difference_hash(scene(seed)) for seed in range(40)]
    for seed in range(8):
        picture = scene(seed)
        again = [encoded(picture, "JPEG", quality=q) for q in (90, 50)] + [encoded(picture, "WEBP", quality=60)]
        again += [picture.resize((80, 60)), picture.resize((320, 240), Image.Resampling.BICUBIC)]
        assert all(distance(difference_hash(each), hashes[seed]) <= MOST_DIFFERENT for each in again)
    apart = [distance(a, b) for k, a in enumerate(hashes) for b in hashes[:k]]
    assert min(apart) > 1.5 * MOST_DIFFERENT


def test_pairs_are_those_of_a_loop_over_all():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, size=(1100, BITS), dtype=np.uint8)
    for row in range(0, 1000, 7):  # a neighbour for some, at every distance about the limit
        bits[row + 90] = bits[row]
        bits[row + 90, rng.permutation(BITS)[: 30 + row % 21]] ^= 1
    hashes = [np.packbits(each).tobytes().hex() for each in bits]
    expected = {
        (a, b)
        for a in range(len(bits))
        for b in np.flatnonzero((bits[a] != bits).sum(axis=1) <= MOST_DIFFERENT)
        if b > a
    }
    assert set(map(tuple, near_pairs(hashes).tolist())) == expected and len(expected) > 50
    assert near_pairs([]).shape == (0, 2)


@pytest.fixture
def twice() -> tuple[FakeShards, np.ndarray]:
    """400 pictures, each in two encodings with a question; the label is the picture's, and so are the vectors."""
    rng = np.random.default_rng(0)
    shards, _ = planted(800, auroc=0.5, width=160, per_image=1)
    pictures = np.arange(800) // 2
    name = next(iter(shards.arrays))
    shards.arrays[name] = (rng.standard_normal((400, 160))[pictures] + 0.1 * rng.standard_normal((800, 160))).astype(
        "f4"
    )
    bits = rng.integers(0, 2, size=(400, BITS), dtype=np.uint8)[pictures]
    bits[np.arange(800), rng.integers(0, BITS, 800)] ^= 1
    shards.texts["image_difference_hash"] = [np.packbits(each).tobytes().hex() for each in bits]
    return shards, rng.integers(0, 2, 400)[pictures]


def test_labels_of_the_picture_are_found_until_its_encodings_are_joined(twice: tuple[FakeShards, np.ndarray]):
    """The truth is .5: nothing about a picture says what its label is."""
    shards, y = twice
    apart = study(shards, labels_of(shards, y), Design(bootstrap=100, fusion=()))
    assert apart.judgement.headline.auroc.value > 0.65
    (told,) = [each for each in apart.findings if "nearly the same picture" in each.text]
    assert told.level == "serious" and "`join_near_duplicates`" in told.text
    joined = study(shards, labels_of(shards, y), Design(bootstrap=100, fusion=(), join_near_duplicates=True))
    assert joined.judgement.headline.auroc.low < 0.5 < joined.judgement.headline.auroc.high
    assert joined.judgement.n_images == 400 and len(joined.rows.likeness.pairs) == 400
    assert not any(each.level == "serious" and "nearly" in each.text for each in joined.findings)
    fold = joined.folds.fold
    assert (fold[::2] == fold[1::2]).all()


def test_an_unknown_row_stays_with_the_other_encoding_of_its_picture(twice: tuple[FakeShards, np.ndarray]):
    shards, y = twice
    labels = labels_of(shards, y) | {f"q{row}": None for row in range(0, 100, 2)}
    found = study(shards, labels, Design(bootstrap=50, fusion=(), join_near_duplicates=True))
    fold_of = dict(zip(found.rows.question_ids, found.folds.fold, strict=True))
    from halp_probe.probes.unknown_rows import unknown_rows

    unknown = unknown_rows(shards, found.rows, found.folds)
    assert len(unknown.index) == 50
    assert all(fold == fold_of[f"q{row + 1}"] for row, fold in zip(unknown.index, unknown.fold, strict=True))


def test_rows_without_a_hash_and_prompts_without_a_picture_are_told_apart(twice: tuple[FakeShards, np.ndarray]):
    """As in a folder that an older version began, and in one of text alone."""
    shards, y = twice
    shards.texts["image_difference_hash"][:10] = [""] * 10
    found = study(shards, labels_of(shards, y), Design(bootstrap=50, fusion=()))
    assert any("10 rows were captured without an image_difference_hash" in each.text for each in found.findings)
    assert len(found.rows.likeness.pairs) == 395
    shards.columns["token_index/vision"] = np.full(800, -1)
    alone = study(shards, labels_of(shards, y), Design(bootstrap=50, fusion=()))
    assert not any("nearly the same" in each.text for each in alone.findings)


def test_shards_without_hashes_say_so(twice: tuple[FakeShards, np.ndarray]):
    shards, y = twice
    del shards.texts["image_difference_hash"]
    found = study(shards, labels_of(shards, y), Design(bootstrap=50, fusion=()))
    assert any("the shards have no image_difference_hash" in each.text for each in found.findings)


@pytest.mark.slow
def test_an_extraction_stores_the_hash_of_each_picture(tmp_path: Path):
    write_dataset(tmp_path, n_scenes=3, questions_a_scene=2, seed=5)
    images = sorted((tmp_path / "images").iterdir())
    Image.open(images[0]).save(tmp_path / "images" / "again.webp", quality=80)
    rows = [
        {"question_id": name, "image_id": name, "question": "How many shapes are there?", "answer": "2"}
        for name in [*(path.name for path in images), "again.webp"]
    ]
    done = halp_probe.extract(rows, tmp_path / "images", tmp_path / "out", model="shapes", max_new_tokens=2)
    stored = dict(zip(done.shards.question_ids, done.shards.text("image_difference_hash"), strict=True))
    for path in images:
        assert stored[path.name] == difference_hash(Image.open(path).convert("RGB"))
    assert len(set(done.shards.text("image_sha256"))) == 4
    assert distance(stored["again.webp"], stored[images[0].name]) <= MOST_DIFFERENT


def test_rows_of_one_template_stay_on_one_side_of_the_split():
    """The label is the template's, and so are the vectors: it is found until the split is by template."""
    rng = np.random.default_rng(0)
    shards, _ = planted(800, auroc=0.5, width=60, per_image=1)
    template = rng.integers(0, 100, 800)
    name = next(iter(shards.arrays))
    shards.arrays[name] = (rng.standard_normal((100, 60))[template] + 0.1 * rng.standard_normal((800, 60))).astype("f4")
    shards.texts["template"] = [f"template {k}" for k in template]
    y = rng.integers(0, 2, 100)[template]
    apart = study(shards, labels_of(shards, y), Design(bootstrap=100, fusion=()))
    assert apart.judgement.headline.auroc.value > 0.75
    found = study(shards, labels_of(shards, y), Design(bootstrap=100, fusion=(), group_by="template"))
    assert found.judgement.headline.auroc.low < 0.5 < found.judgement.headline.auroc.high
    folds = [set(found.folds.fold[template == k]) for k in range(100)]
    assert all(len(each) == 1 for each in folds) and any("units of the split" in note for note in found.rows.notes)


def test_a_column_to_group_by_must_be_there_and_filled():
    shards, y = planted(60, auroc=0.8)
    with pytest.raises(ProbeError, match="`group_by`: 'day' is not an extra column"):
        study(shards, labels_of(shards, y), Design(bootstrap=20, group_by="day"))
    shards.texts["day"] = ["monday"] * 59 + [""]
    with pytest.raises(ProbeError, match="1 rows have no day"):
        study(shards, labels_of(shards, y), Design(bootstrap=20, group_by="day"))
