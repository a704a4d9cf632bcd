"""`halp-probe score` and `set-threshold` end to end with the bundled model: risks, abstention, resumption, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from halp_probe.cli import main
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.probes.card import fused_card, vectors_card
from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fusion.fused import add_up, number_part, one_part
from halp_probe.scoring.scorer import RiskScorer
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import open_shards

pytestmark = pytest.mark.slow

REPRESENTATION = "query_token_representation/layer_5"
EXTRACT = ("--model", "shapes", "--max-new-tokens", "6", "--layers", "5")


@dataclass(frozen=True)
class Setting:
    """A probe of the bundled model trained on 60 scenes, and new scenes with the right answers known."""

    probe: Path
    new: Path  # folder of vqa.csv and images
    shards: Path  # of the new scenes, as extract.py captures them
    labels: Path  # of the new scenes


def extracted(folder: Path, seed: int, scenes: int) -> Path:
    """The folder of an extraction; labels.csv beside it, wrong = not the truth to the letter."""
    write_dataset(folder, n_scenes=scenes, questions_a_scene=4, seed=seed)
    tables = ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images")]
    assert main(["extract", *tables, "--output-dir", str(folder / "shards"), *EXTRACT]) == 0
    shards = open_shards(folder / "shards")
    pairs = zip(shards.text("answer"), shards.text("ground_truth_answer"), strict=True)
    lines = [f"{q},{int(a != t)}\n" for q, (a, t) in zip(shards.question_ids, pairs, strict=True)]
    (folder / "labels.csv").write_text("question_id,label\n" + "".join(lines))
    return folder / "shards"


def labels(folder: Path) -> np.ndarray:
    with (folder / "labels.csv").open() as file:
        return np.array([int(row["label"]) for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    old, new = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    shards = open_shards(extracted(old, 2000, 60))
    probe = LinearProbe(Cs=(1e-2,)).fit(shards.vectors(REPRESENTATION), labels(old))
    save_probe(old / "probe", probe, vectors_card(REPRESENTATION, shards.attributes))
    return Setting(old / "probe", new, extracted(new, 3000, 40), new / "labels.csv")


def score(setting: Setting, output: Path, *more: str, table: Path | None = None) -> int:
    tables = ["--vqa-dataset", str(table or setting.new / "vqa.csv"), "--images-dir", str(setting.new / "images")]
    options = ["--output-dir", str(output), "--max-new-tokens", "6", "--batch-tokens", "400", *more]
    return main(["score", *tables, "--probe", str(setting.probe), *options])


def test_a_fused_probe_scores_a_table_as_it_does_shards(setting: Setting, tmp_path: Path) -> None:
    """States of two places and the entropy, each from the pass that gives the answers; a gate by their sum."""
    shards = open_shards(setting.shards)
    members = [one_part(REPRESENTATION, load_probe(setting.probe).estimator), number_part("first_token_entropy")]
    fused = add_up(members, np.array([0.7, 0.9]), -0.2)
    save_probe(tmp_path / "fused", fused, fused_card("fused_stack", fused.inputs, shards.attributes))
    expected = load_probe(tmp_path / "fused").risk_of(shards)
    level = float(np.median(expected))
    found = replace(setting, probe=tmp_path / "fused")
    assert score(found, tmp_path / "scored", "--abstain-above", str(level)) == 0
    rows = {row["question_id"]: row for row in risks(tmp_path / "scored")}
    scored = np.array([float(rows[name]["risk"]) for name in shards.question_ids])
    np.testing.assert_allclose(scored, expected, atol=1e-5)
    near = np.abs(expected - level) < 1e-4
    abstained = np.array([rows[name]["abstained"] == "1" for name in shards.question_ids])
    assert (abstained == (expected > level))[~near].all() and 0 < abstained.sum() < len(abstained)
    data = ["--shards", str(setting.shards), "--labels", str(setting.labels)]
    assert main(["set-threshold", "--probe", str(tmp_path / "fused"), *data, "--min-coverage", "0.6"]) == 0
    assert load_probe(tmp_path / "fused").threshold.coverage >= 0.6


def risks(output: Path) -> list[dict[str, str]]:
    with (output / "risks.csv").open() as file:
        return list(csv.DictReader(file))


def offline(setting: Setting) -> tuple[np.ndarray, list[str]]:
    """Risks of the saved probe on the shards of an ordinary extraction, and its answers."""
    shards = open_shards(setting.shards)
    return load_probe(setting.probe).risk(shards.vectors(REPRESENTATION)), shards.text("answer")


def test_risks_and_answers_are_those_of_an_extraction(setting: Setting, tmp_path: Path) -> None:
    """From a table without answers, which are not known for new questions."""
    with (setting.new / "vqa.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = tmp_path / "new.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question_id", "image_id", "question"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert score(setting, tmp_path / "out", table=table) == 0
    expected, answers = offline(setting)
    found = risks(tmp_path / "out")
    assert [row["question_id"] for row in found] == list(open_shards(setting.shards).question_ids)
    assert np.abs(np.array([float(row["risk"]) for row in found]) - expected).max() <= 1e-5
    assert [row["answer"] for row in found] == answers and {row["abstained"] for row in found} == {"0"}


def test_abstaining_lowers_the_error(setting: Setting, tmp_path: Path) -> None:
    expected, answers = offline(setting)
    level = float(np.quantile(expected, 0.8))
    assert score(setting, tmp_path / "out", "--abstain-above", repr(level)) == 0
    found = risks(tmp_path / "out")
    abstained = np.array([row["abstained"] == "1" for row in found])
    assert (abstained == (expected > level)).all() and 0.15 < abstained.mean() < 0.25
    assert [row["answer"] for row in found] == ["" if a else text for a, text in zip(abstained, answers, strict=True)]
    wrong = labels(setting.new)
    assert wrong[~abstained].mean() < wrong.mean() - 0.05


def test_an_interrupted_run_goes_on(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, calls = Engine.compute, []

    def dying(self: Engine, prompts: list[object]) -> ComputedBatch:
        calls.append(prompts)
        if len(calls) == 12:  # some of them tried whether prefixes can be shared
            raise KeyboardInterrupt
        return compute(self, prompts)  # type: ignore[arg-type]

    more = ("--abstain-above", "0.3")
    monkeypatch.setattr(Engine, "compute", dying)
    assert score(setting, tmp_path / "out", *more) == 130
    assert not (tmp_path / "out" / "risks.csv").exists() and list((tmp_path / "out" / "journal").glob("*.h5"))
    monkeypatch.undo()
    assert score(setting, tmp_path / "out", *more) == 0
    assert score(setting, tmp_path / "whole", *more) == 0
    assert risks(tmp_path / "out") == risks(tmp_path / "whole")


def test_a_folder_keeps_to_its_probe_and_level(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "three.csv"
    table.write_text("\n".join((setting.new / "vqa.csv").read_text().splitlines()[:4]) + "\n")
    assert score(setting, tmp_path / "out", "--no-answers", "--abstain-above", "0.0", table=table) == 0
    assert [(row["abstained"], row["answer"]) for row in risks(tmp_path / "out")] == [("1", "")] * 3
    assert score(setting, tmp_path / "out", "--no-answers", "--abstain-above", "0.5", table=table) == 2
    assert "abstain_above is 0.0 there and 0.5 now" in capsys.readouterr().err
    card = setting.probe.with_name("probe.json")
    text = card.read_text()
    try:  # the same weights, another scale of risk: what was answered below 0.0 is not what would be now
        card.write_text(json.dumps(json.loads(text) | {"calibration": {"kind": "platt", "slope": 0.5}}))
        assert score(setting, tmp_path / "out", "--no-answers", "--abstain-above", "0.0", table=table) == 2
        assert "calibration_sha256 is" in capsys.readouterr().err
    finally:
        card.write_text(text)


def test_failures_are_listed(setting: Setting, tmp_path: Path) -> None:
    table = tmp_path / "vqa.csv"
    image = next(csv.DictReader((setting.new / "vqa.csv").open()))["image_id"]
    table.write_text(f"question_id,image_id,question\na,{image},Is there a red circle?\nb,none.png,Why?\n")
    assert score(setting, tmp_path / "out", table=table) == 0
    assert [row["question_id"] for row in risks(tmp_path / "out")] == ["a"]
    assert "b,image," in (tmp_path / "out" / "failures.csv").read_text()


def test_what_does_not_fit_is_refused(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(setting, tmp_path / "a", "--abstain-above", "threshold") == 2
    assert "halp-probe set-threshold" in capsys.readouterr().err
    card = setting.probe.with_name("probe.json")
    text = card.read_text()
    try:
        card.write_text(json.dumps(json.loads(text) | {"revision": "local-other"}))
        assert score(setting, tmp_path / "b") == 2
        assert "the model is shapes: revision is 'local-other' in the card" in capsys.readouterr().err
        card.write_text(json.dumps(json.loads(text) | {"model_name": None}))
        assert score(setting, tmp_path / "c") == 2
        assert "pass --model" in capsys.readouterr().err
    finally:
        card.write_text(text)


@pytest.mark.parametrize("name", ["revision", "chat_template_sha256", "max_pixels"])
def test_a_threshold_on_other_states_is_refused(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for suffix in (".json", ".safetensors"):
        (tmp_path / f"probe{suffix}").write_bytes(setting.probe.with_name(f"probe{suffix}").read_bytes())
    card = tmp_path / "probe.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {name: "another"}))
    before = card.read_text()
    call = ["set-threshold", "--probe", str(tmp_path / "probe"), "--shards", str(setting.shards)]
    assert main([*call, "--labels", str(setting.labels), "--min-coverage", "0.8"]) == 2
    assert f"{name} is 'another' in its card" in capsys.readouterr().err
    assert card.read_text() == before


def test_a_threshold_is_set_and_used(setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["set-threshold", "--probe", str(setting.probe), "--shards", str(setting.shards)]
    call += ["--labels", str(setting.labels)]
    before = setting.probe.with_name("probe.json").read_text()
    try:
        assert main([*call, "--min-coverage", "0.8"]) == 0
        assert "no guarantee" in capsys.readouterr().out
        threshold = load_probe(setting.probe).threshold
        assert threshold is not None and threshold.coverage >= 0.8 and threshold.confidence is None
        assert main([*call, "--max-error", "0.4", "--confidence", "0.8"]) == 0
        told = capsys.readouterr().out
        assert "of one question drawn from each new image" in told and "with confidence 0.8" in told
        controlled = load_probe(setting.probe).threshold
        assert controlled is not None and controlled.confidence == 0.8 and controlled.rows == 30
        scorer = RiskScorer("shapes", setting.probe)
        question = open_shards(setting.shards).text("question")[0]
        picture = setting.new / "images" / open_shards(setting.shards).text("image_id")[0]
        answer = scorer.answer(picture, question, abstain_above="threshold")
        assert answer.abstained == (answer.risk > controlled.risk)
        assert main([*call, "--max-error", "0.001", "--confidence", "0.99"]) == 2
        assert "no threshold keeps the error rate at 0.001" in capsys.readouterr().err
        assert main([*call, "--max-error", "0.001", "--confidence", "0.99", "--per", "question"]) == 2
        assert "per question with confidence 0.99 on 40 images" in capsys.readouterr().err
        assert main([*call, "--max-error", "0.01"]) == 2
        assert "cannot be shown" in capsys.readouterr().err
        assert load_probe(setting.probe).threshold == controlled  # what was there stays
        assert main([*call, "--min-coverage", "0.8", "--confidence", "0.9"]) == 2
        assert "--confidence goes with --max-error" in capsys.readouterr().err
    finally:
        setting.probe.with_name("probe.json").write_text(before)
