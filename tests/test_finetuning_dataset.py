"""Batches mean what their samples mean one by one; what cannot be trained on is found before training."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetuning_models import NAMES, model_of, picture
from torch.utils.data import DataLoader

from halp_probe.errors import InputError
from halp_probe.finetuning.checking import CheckResult, check, write_left_out
from halp_probe.finetuning.dataset import Collator, ConversationDataset
from halp_probe.finetuning.records import Conversation, LeftOut, Turn
from halp_probe.finetuning.tokens import IGNORED, ConversationTokenizer, TokenizedConversation
from halp_probe.models.errors import ModelError
from halp_probe.models.loading import LoadedModel

SIZES = {"wide": (110, 40), "tall": (28, 60), "small": (30, 30)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {name: model_of(name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.fixture(params=NAMES)
def loaded(request: pytest.FixtureRequest, models: dict[str, LoadedModel]) -> LoadedModel:
    return models[request.param]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(SIZES.items()):
        picture(*size, seed).pixels.save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "wide.png").read_bytes()[:200])
    return folder


def talk(key: str, image: Path | None, *turns: tuple[str, str]) -> Conversation:
    return Conversation(source="source", key=key, image=image, turns=tuple(Turn(*turn) for turn in turns))


def conversations(pictures: Path) -> list[Conversation]:
    return [
        talk("1", pictures / "wide.png", ("What is it?", "a red star"), ("Sure?", "yes")),
        talk("2", None, ("How many are there?", "3"), ("Of what colour?", "blue"), ("Which?", "circles")),
        talk("3", pictures / "tall.png", ("Is there a red star?", "no")),
        talk("4", pictures / "small.png", ("List the shapes.", "3 red circle 5 blue square 12 green star")),
    ]


def samples(loaded: LoadedModel, pictures: Path) -> list[TokenizedConversation]:
    made = ConversationDataset(conversations(pictures), ConversationTokenizer(loaded.checkpoint))
    return [made[k] for k in range(len(made))]


def loss(loaded: LoadedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(**batch).loss


def own_loss(loaded: LoadedModel, sample: TokenizedConversation) -> torch.Tensor:
    """Summed over what is learned, of one sample alone: from its logits, with nothing of the batch's making."""
    types = loaded.checkpoint.family.token_types
    told = {} if types is None or sample.token_types is None else {types.name: sample.token_types[None]}
    with torch.no_grad():
        logits = loaded.model(input_ids=sample.input_ids[None], **told, **sample.images).logits[0]
    wanted = sample.labels[1:]
    kept = wanted != IGNORED
    return torch.nn.functional.cross_entropy(logits[:-1][kept], wanted[kept], reduction="sum")


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 1), (2,), (0, 3)])
def test_a_batch_s_loss_is_that_of_its_samples(loaded: LoadedModel, pictures: Path, chosen: tuple[int, ...]) -> None:
    """With images of several shapes, without any, and mixed; padding changes nothing."""
    picked = [samples(loaded, pictures)[k] for k in chosen]
    batch = Collator(loaded.checkpoint)(picked)
    together = loss(loaded, batch) * sum(sample.answer_tokens for sample in picked)
    alone = sum(own_loss(loaded, sample) for sample in picked)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    assert ("pixel_values" in batch) == any(sample.images for sample in picked)


def test_padding_is_on_the_right_and_not_learned(loaded: LoadedModel, pictures: Path) -> None:
    made = samples(loaded, pictures)
    batch = Collator(loaded.checkpoint)(made)
    for row, sample in enumerate(made):
        for name, own, padding in (("input_ids", sample.input_ids, None), ("labels", sample.labels, IGNORED)):
            assert batch[name][row, : len(sample)].tolist() == own.tolist()
            assert padding is None or (batch[name][row, len(sample) :] == padding).all()
        assert batch["attention_mask"][row].tolist() == [k < len(sample) for k in range(batch["labels"].shape[1])]
    assert batch["labels"].shape[1] == max(map(len, made))


def test_an_image_in_another_sample_s_place_would_show(loaded: LoadedModel, pictures: Path) -> None:
    """In the loss that the test above compares to 1e-4: so it can fail."""
    made = samples(loaded, pictures)
    batch = Collator(loaded.checkpoint)([made[0], made[2], made[3]])
    swapped = {**batch, "pixel_values": batch["pixel_values"].flip(0)}
    answer_tokens = sum(made[k].answer_tokens for k in (0, 2, 3))
    assert abs(loss(loaded, swapped) - loss(loaded, batch)) * answer_tokens > 0.01


def test_tiles_are_padded_to_the_most(models: dict[str, LoadedModel], pictures: Path) -> None:
    made = samples(models["tiles"], pictures)
    tiles = [sample.images["pixel_values"].shape[1] for sample in made if sample.images]
    assert len(set(tiles)) > 1
    pixels = Collator(models["tiles"].checkpoint)(made)["pixel_values"]
    assert pixels.shape[:2] == (3, max(tiles))
    for row, sample in enumerate(sample for sample in made if sample.images):
        assert torch.equal(pixels[row, : tiles[row]], sample.images["pixel_values"][0])
        assert not pixels[row, tiles[row] :].any()


def test_images_of_unlike_shapes_are_refused_by_name(models: dict[str, LoadedModel], pictures: Path) -> None:
    made = samples(models["square"], pictures)
    odd = replace(made[2], images={"pixel_values": torch.zeros(1, 3, 56, 70)})
    with pytest.raises(InputError, match=r"have pixel_values of unlike shapes \(\(1, 3, 56, 56\), \(1, 3, 56, 70\)\)"):
        Collator(models["square"].checkpoint)([made[0], odd])


def test_workers_load_the_same_batches(models: dict[str, LoadedModel], pictures: Path) -> None:
    checkpoint = models["square"].checkpoint
    made = ConversationDataset(conversations(pictures), ConversationTokenizer(checkpoint))
    batches = [
        list(DataLoader(made, batch_size=3, collate_fn=Collator(checkpoint), num_workers=workers)) for workers in (0, 2)
    ]
    for here, there in zip(*batches, strict=True):
        assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def test_a_sample_that_fails_in_training_is_named(models: dict[str, LoadedModel], pictures: Path) -> None:
    talks = [talk("17", pictures / "broken.png", ("Why?", "So"))]
    with pytest.raises(InputError, match=r"source, 17: broken\.png cannot be decoded"):
        ConversationDataset(talks, ConversationTokenizer(models["square"].checkpoint))[0]


def mixed(pictures: Path) -> list[Conversation]:
    """Good ones and all kinds of bad ones, more than a process gets at a time."""
    good = conversations(pictures)
    strip = pictures / "strip.png"
    if not strip.exists():
        picture(1, 300).pixels.save(strip)
    bad = [
        talk("broken", pictures / "broken.png", ("Why?", "So")),
        talk("gone", pictures / "gone.png", ("Why?", "So")),
        talk("strip", strip, ("Why?", "So")),
        talk("special", None, ("Why?", "<|im_end|>")),
        talk("long", pictures / "wide.png", ("Why?", "So " * 200)),
        talk("long too", None, ("Why?", "So"), ("And?", "So " * 200)),
    ]
    return [replace(each, key=f"{each.key} {k}") for k in range(6) for each in (*good, *bad)]


@pytest.mark.parametrize("workers", [0, 2])
def test_checking_finds_all_that_would_fail(models: dict[str, LoadedModel], pictures: Path, workers: int) -> None:
    talks = mixed(pictures)
    tokenizer = ConversationTokenizer(models["square"].checkpoint, max_tokens=100)
    checked = check(talks, tokenizer, workers)
    assert [each.key for each in checked.conversations] == [each.key for each in talks if each.key[0].isdigit()]
    assert [each.key for each in checked.left_out] == [each.key for each in talks if not each.key[0].isdigit()]
    reasons = {each.key[:-2]: (each.stage, each.reason) for each in checked.left_out}
    stages = {key: stage for key, (stage, _) in reasons.items()}
    unreadable, unusable, long = ("broken", "gone"), ("strip", "special"), ("long", "long too")
    expected = {"image": unreadable, "tokens": unusable, "length": long}
    assert stages == {key: stage for stage, keys in expected.items() for key in keys}
    assert "cannot be decoded" in reasons["broken"][1] and "gone.png cannot be read" in reasons["gone"][1]
    assert "too narrow" in reasons["strip"][1]
    assert "`max_tokens` allows 100" in reasons["long"][1] and "special token" in reasons["special"][1]
    made = ConversationDataset(checked.conversations, tokenizer)
    assert [(each.tokens, each.answer_tokens) for each in checked.usable] == [
        (len(made[k]), made[k].answer_tokens) for k in range(len(made))
    ]


def test_what_no_sample_can_mend_is_an_error(models: dict[str, LoadedModel], pictures: Path) -> None:
    checkpoint = models["bundled"].checkpoint
    mute = type(checkpoint.processor).from_pretrained(checkpoint.source)
    mute.chat_template = mute.chat_template.replace("<|im_end|>\n", "\n")
    for workers in (0, 1):
        with pytest.raises(ModelError, match="does not end an answer with a special token"):
            check(conversations(pictures), ConversationTokenizer(replace(checkpoint, processor=mute)), workers)


def test_a_worker_that_dies_is_an_error(
    models: dict[str, LoadedModel], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halp_probe.finetuning.checking.load_image", lambda path: __import__("os")._exit(9))
    with pytest.raises(InputError, match="a process that checks the data died"):
        check(conversations(pictures), ConversationTokenizer(models["square"].checkpoint), 1)


def test_nothing_to_check(models: dict[str, LoadedModel]) -> None:
    assert check([], ConversationTokenizer(models["square"].checkpoint), 0) == CheckResult((), ())


def test_what_was_left_out_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "left_out.csv"
    rows = [
        LeftOut(source="a", key="1,2", stage="read", reason='no "answer"\nat all'),
        LeftOut(source="b", key="ü", stage="image", reason="no file"),
    ]
    write_left_out(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"source": each.source, "key": each.key, "stage": each.stage, "reason": each.reason} for each in rows
        ]
    write_left_out(path, [])
    assert not path.exists()
