"""A probe of states with adapters scores those states alone: the same adapters in the same order, or a refusal."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_adapters import adapters, changed, extract, table, with_adapters

from halp_probe.cli import main
from halp_probe.commands import ablate as ablation
from halp_probe.commands import score as scoring
from halp_probe.commands.score import run_options
from halp_probe.errors import InputError
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.probes.card import check_same_states, vectors_card
from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.scoring.compatibility import check_fits
from halp_probe.scoring.scorer import RiskScorer
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

__all__ = ["adapters", "table"]  # fixtures
REPRESENTATION = "query_token_representation/layer_5"


@pytest.fixture(scope="module")
def stack(adapters: Callable[..., Path]) -> list[Path]:
    return [adapters("first"), adapters("second", seed=1)]


@pytest.fixture(scope="module")
def probe(stack: list[Path], table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe of the states with both adapters; beside it the shards of these states, and of those without."""
    folder = tmp_path_factory.mktemp("probe")
    assert extract(table, folder / "with", *(part for a in stack for part in ("--adapter", str(a)))) == 0
    assert extract(table, folder / "without", "--model", "shapes") == 0
    shards = open_shards(folder / "with")
    y = np.random.default_rng(0).integers(0, 2, len(shards.question_ids))
    fitted = LinearProbe(Cs=(1e-2,)).fit(shards.vectors(REPRESENTATION), y)
    save_probe(folder / "probe", fitted, vectors_card(REPRESENTATION, shards.attributes))
    return folder / "probe"


def test_the_card_tells_the_adapters(probe: Path, stack: list[Path]) -> None:
    card = load_probe(probe).metadata
    assert card["adapters"] == with_adapters(*stack).checkpoint.stack and card["quantization"] is None
    assert json.loads(card["adapter_names"]) == [str(folder) for folder in stack]


def test_a_scorer_loads_them_from_the_card(probe: Path, table: Path) -> None:
    scorer, shards = RiskScorer(None, probe), open_shards(probe.parent / "with")
    expected = load_probe(probe).risk(shards.vectors(REPRESENTATION))
    for row, question in enumerate(shards.text("question")[:4]):
        picture = table / "images" / shards.text("image_id")[row]
        assert scorer.score(picture, question) == pytest.approx(expected[row], abs=1e-5)


def test_other_adapters_are_refused(probe: Path, stack: list[Path], tmp_path: Path) -> None:
    saved, scaled = load_probe(probe), changed(stack[0], tmp_path / "scaled", lora_alpha=17)
    for folders in ([], stack[:1], stack[::-1], [*stack, stack[0]], [scaled, stack[1]]):
        loaded = with_adapters(*folders) if folders else load_weights(open_checkpoint("shapes"))
        with pytest.raises(
            InputError,
            match=r"on states of shapes with adapters .*first, .*: adapters is 'adapter-.*' in the card and ",
        ):
            check_fits(saved, loaded)
        check_fits(saved, loaded, allow_other_model=True)
    loaded = with_adapters(*stack)
    check_fits(saved, loaded)
    with pytest.raises(InputError, match="quantization is none in the card and '8bit' here"):
        check_fits(saved, replace(loaded, quantization="8bit"))
    plain = vectors_card(REPRESENTATION, open_shards(probe.parent / "without").attributes)
    old = {name: value for name, value in plain.items() if name not in ("adapters", "adapter_names", "quantization")}
    for card in (plain, old):  # a card of a release that knew no adapters
        check_fits(replace(saved, metadata={**saved.metadata, "adapters": None, **card}), with_nothing())
        with pytest.raises(InputError, match="adapters is none in the card and 'adapter-"):
            check_fits(replace(saved, metadata=card), loaded)


def with_nothing() -> object:
    return load_weights(open_checkpoint("shapes"))


def test_thresholds_come_from_the_same_adapters(probe: Path) -> None:
    card = load_probe(probe).metadata
    same, other = (dict(open_shards(probe.parent / name).attributes) for name in ("with", "without"))
    check_same_states(card, same)
    with pytest.raises(InputError, match=r"adapters is 'adapter-.*' in its card and none in these shards"):
        check_same_states(card, other)
    check_same_states(card, {"model_name": "other code's"})  # which tells nothing


def score(probe: Path, table: Path, output: Path, *more: str) -> int:
    tables = ["--vqa-dataset", str(table / "vqa.csv"), "--images-dir", str(table / "images")]
    return main(["score", *tables, "--probe", str(probe), "--output-dir", str(output), "--no-answers", *more])


def test_score_loads_them_too(
    probe: Path, stack: list[Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = open_shards(probe.parent / "with")
    expected = load_probe(probe).risk(shards.vectors(REPRESENTATION))
    named = [part for folder in stack for part in ("--adapter", str(folder))]
    for output, flags in (("card", []), ("flags", named)):
        assert score(probe, table, tmp_path / output, *flags) == 0
        with (tmp_path / output / "risks.csv").open() as file:
            found = {row["question_id"]: float(row["risk"]) for row in csv.DictReader(file)}
        assert [found[q] for q in shards.question_ids] == pytest.approx(list(expected), abs=1e-5)
    for flags in (["--model", "shapes"], named[2:] + named[:2]):
        assert score(probe, table, tmp_path / "other", *flags) == 2
        assert "oad it as for the probe (" in capsys.readouterr().err


def test_states_under_an_intervention_are_others(probe: Path, stack: list[Path]) -> None:
    """Their probe reads no plain model, and a probe of plain states no shards of them."""
    plain = open_shards(probe.parent / "with").attributes
    moved = {**plain, "intervention": "the probe's direction: removed"}
    saved, loaded = load_probe(probe), with_adapters(*stack)
    check_fits(saved, loaded)
    check_same_states(saved.metadata, plain)
    with pytest.raises(InputError, match='intervention is none in its card and "the probe\'s direction: removed" in'):
        check_same_states(saved.metadata, moved)
    of_moved = replace(saved, metadata={**saved.metadata, **vectors_card(REPRESENTATION, moved)})
    check_same_states(of_moved.metadata, moved)
    with pytest.raises(InputError, match=r"intervention is .* in the card and none here.*plain shards"):
        check_fits(of_moved, loaded)
    check_fits(of_moved, loaded, allow_other_model=True)


@pytest.mark.parametrize("command", [scoring, ablation], ids=["score", "ablate"])
def test_the_card_says_how_to_load_unless_a_model_is_named(probe: Path, command: Any) -> None:
    card = {
        "model_name": "owner/model",
        "revision": "c" * 40,
        "adapter_names": '["one", "two"]',
        "quantization": "8bit",
    }
    card["representation"] = REPRESENTATION

    def loaded_as(*flags: str) -> tuple[str | None, tuple[str, ...], str | None, str | None]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        tables = ["--vqa-dataset", "t.csv", "--images-dir", "i", "--probe", "p", "--output-dir", "o"]
        model = run_options(parser.parse_args([*tables, *flags]), replace(load_probe(probe), metadata=card)).model
        return model.model, model.adapter, model.revision, model.quantization

    assert loaded_as() == ("owner/model", ("one", "two"), "c" * 40, "8bit")
    assert loaded_as("--adapter", "three", "--quantization", "4bit") == ("owner/model", ("three",), "c" * 40, "4bit")
    assert loaded_as("--model", "owner/model") == ("owner/model", (), "c" * 40, None)
    assert loaded_as("--model", "another") == ("another", (), None, None)


def test_states_of_a_looked_up_family_are_others(probe: Path, stack: list[Path]) -> None:
    saved, loaded = load_probe(probe), with_adapters(*stack)
    looked_up = replace(saved, metadata={**saved.metadata, "family_looked_up": True})
    with pytest.raises(InputError, match="family_looked_up is True in the card and none here"):
        check_fits(looked_up, loaded)
    with pytest.raises(InputError, match="family_looked_up is True in its card and none in these shards"):
        check_same_states(looked_up.metadata, open_shards(probe.parent / "with").attributes)
    family = replace(loaded.checkpoint.family, looked_up=True)
    check_fits(looked_up, replace(loaded, checkpoint=replace(loaded.checkpoint, family=family)))
