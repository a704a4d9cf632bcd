"""`halp-probe ablate` end to end with the bundled model; answers against `generate` under a hook written here."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_proof import single_inputs

from halp_probe.cli import main
from halp_probe.engine.engine import ComputedBatch, Engine
from halp_probe.engine.images import load_image
from halp_probe.engine.prompting import Prompter
from halp_probe.interventions.directions import control_direction, direction_of
from halp_probe.labels.rules import judge
from halp_probe.models.loading import load_weights, open_checkpoint
from halp_probe.probes.card import vectors_card
from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fitting.mlp import MLPProbe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.records import Sample
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import Shards, open_shards

pytestmark = pytest.mark.slow

LAYER, NEW_TOKENS = 3, 6
NAMES = ("plain", "ablated", "control")
REPRESENTATION = f"query_token_representation/layer_{LAYER}"


@dataclass(frozen=True)
class Setting:
    """Scenes and what the model says of them, and a probe of whether it says no: its direction bears on that."""

    data: Path
    shards: Shards
    probe: Path


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=14, questions_a_scene=4, seed=4000)
    call = ["extract", *tables(folder), "--output-dir", str(folder / "shards"), "--model", "shapes"]
    assert main([*call, "--layers", str(LAYER), "--max-new-tokens", str(NEW_TOKENS)]) == 0
    shards = open_shards(folder / "shards")
    x, y = shards.vectors(REPRESENTATION), np.array([answer == "no" for answer in shards.text("answer")], dtype=int)
    probe = LinearProbe(Cs=(1e-3,)).fit(x, y)
    calibration = Calibration.fit("platt", probe.decision_function(x), y)
    save_probe(folder / "probe", probe, vectors_card(REPRESENTATION, shards.attributes), calibration)
    return Setting(folder, shards, folder / "probe")


def tables(folder: Path) -> list[str]:
    return ["--vqa-dataset", str(folder / "vqa.csv"), "--images-dir", str(folder / "images")]


def ablate(setting: Setting, output: Path, *more: str, probe: Path | None = None) -> int:
    call = ["ablate", *tables(setting.data), "--probe", str(probe or setting.probe), "--output-dir", str(output)]
    return main([*call, "--max-new-tokens", str(NEW_TOKENS), "--batch-tokens", "600", *more])


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "ablation.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def output(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert ablate(setting, folder) == 0
    return folder


def test_the_plain_run_is_an_extraction(setting: Setting, output: Path) -> None:
    plain = open_shards(output / "plain")
    assert plain.question_ids == setting.shards.question_ids
    assert plain.text("answer") == setting.shards.text("answer")
    a, b = plain.vectors(REPRESENTATION), setting.shards.vectors(REPRESENTATION)
    assert (np.abs(a - b).max(1) <= 1e-5 * np.abs(b).max(1)).all()


@pytest.mark.parametrize("name", ["ablated", "control"])
def test_answers_are_those_of_generate_without_the_direction(setting: Setting, output: Path, name: str) -> None:
    probe = load_probe(setting.probe)
    direction = direction_of(probe) if name == "ablated" else control_direction(probe, 0)
    unit = torch.from_numpy(direction).float()
    loaded = load_weights(open_checkpoint("shapes"), device="cpu")
    prompter = Prompter(checkpoint=loaded.checkpoint)
    block = loaded.model.model.language_model.layers[LAYER]
    hook = block.register_forward_hook(lambda _m, _a, out: out - torch.einsum("btd,d,e->bte", out, unit, unit))
    changed = 0
    try:
        for row in rows(output)[::2]:
            image = load_image(setting.data / "images" / row["image_id"])
            prompt = prompter.prompt(Sample(question_id="", image_id="", question=row["question"], answer=""), image)
            inputs = single_inputs(loaded, prompt)
            sequence = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0, len(prompt) :]
            answer = loaded.checkpoint.processor.tokenizer.decode(sequence, skip_special_tokens=True).strip()
            assert row[f"answer_{name}"] == answer
            assert row[f"changed_{name}"] == str(int(answer != row["answer_plain"]))
            changed += answer != row["answer_plain"]
    finally:
        hook.remove()
    assert changed or name == "control"  # there is something to see


def test_states_have_lost_the_direction_and_nothing_else(setting: Setting, output: Path) -> None:
    probe = load_probe(setting.probe)
    plain = open_shards(output / "plain").vectors(REPRESENTATION).astype(np.float64)
    for name, direction in (("ablated", direction_of(probe)), ("control", control_direction(probe, 0))):
        states = open_shards(output / name).vectors(REPRESENTATION)
        expected = plain - np.outer(plain @ direction, direction)
        assert (np.abs(states - expected).max(1) <= 1e-5 * np.abs(plain).max(1)).all()
        moved = json.loads((output / "ablation.json").read_text())["moved"][name]
        assert moved == pytest.approx(np.linalg.norm(plain @ direction) / np.linalg.norm(plain), rel=1e-4)


def test_the_risk_after_ablation_is_that_of_no_component(setting: Setting, output: Path) -> None:
    """The same for every question; the control's is the plain one."""
    probe = load_probe(setting.probe)
    found = {name: np.array([float(row[f"risk_{name}"]) for row in rows(output)]) for name in NAMES}
    assert found["ablated"] == pytest.approx(np.full(56, probe.risk(np.zeros((1, probe.width)))[0]), abs=1e-4)
    assert found["control"] == pytest.approx(found["plain"], abs=1e-4)
    assert found["plain"] == pytest.approx(probe.risk(setting.shards.vectors(REPRESENTATION)), abs=1e-4)
    assert found["plain"].std() > 0.1


def test_the_table_tells_answers_verdicts_and_confidence(output: Path) -> None:
    shards = {name: open_shards(output / name) for name in NAMES}
    for k, row in enumerate(rows(output)):
        for name in NAMES:
            assert row["question_id"] == shards[name].question_ids[k]
            answer = shards[name].text("answer")[k]
            label = judge(answer, row["ground_truth_answer"], question=row["question"]).label
            assert (row[f"answer_{name}"], row[f"label_{name}"]) == (answer, "" if label is None else str(label))
            assert float(row[f"entropy_{name}"]) == shards[name].numbers("first_token_entropy")[k]
            assert float(row[f"logprob_{name}"]) == shards[name].numbers("first_token_logprob")[k]
    record = json.loads((output / "ablation.json").read_text())
    changed = [int(row["changed_ablated"]) for row in rows(output)]
    assert record["effects"]["changed"]["mean"]["ablated"]["value"] == pytest.approx(np.mean(changed))
    assert (record["questions"], record["images"], record["layer"], record["control"]) == (56, 14, LAYER, "removed")


def test_shards_tell_that_they_were_intervened_in(setting: Setting, output: Path) -> None:
    assert "intervention" not in open_shards(output / "plain").attributes
    about = open_shards(output / "ablated").attributes
    assert about["intervention"] == "the probe's direction: removed"
    assert about["intervention_probe_sha256"] == load_probe(setting.probe).metadata["tensors_sha256"]
    assert open_shards(output / "control").attributes["intervention_seed"] == 0


def test_a_control_of_the_same_size_and_the_mean_component(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(setting, tmp_path, "--control", "moved", "--to", "mean", "--seed", "3") == 0
    assert "differ in size" not in capsys.readouterr().out
    probe = load_probe(setting.probe)
    own, random = direction_of(probe), control_direction(probe, 3)
    states = {n: open_shards(tmp_path / n).vectors(REPRESENTATION).astype(np.float64) for n in NAMES}
    by = probe.estimator.mean_ @ own - states["plain"] @ own
    for name, along in (("ablated", own), ("control", random)):
        assert states[name] == pytest.approx(states["plain"] + np.outer(by, along), abs=1e-4)
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert record["moved"]["control"] == pytest.approx(record["moved"]["ablated"], rel=1e-3)
    assert record["left"]["ablated"] == pytest.approx(float(probe.estimator.mean_ @ own))


def test_an_interrupted_run_goes_on(
    setting: Setting, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, died = Engine.compute, []

    def dying(self: Engine, prompts: Any) -> ComputedBatch:
        found = compute(self, prompts)
        if (tmp_path / "ablated" / "journal").is_dir() and any((tmp_path / "ablated" / "journal").iterdir()):
            died.append(True)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Engine, "compute", dying)
    assert ablate(setting, tmp_path) == 130 and died
    assert not (tmp_path / "ablation.csv").exists()
    monkeypatch.undo()
    assert ablate(setting, tmp_path) == 0
    assert rows(tmp_path) == rows(output)


def test_a_folder_keeps_to_its_probe_and_seed(
    setting: Setting, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (output / "ablation.csv").read_bytes()
    for more, message in (
        (("--seed", "1"), "intervention_seed is 0 there and 1 now"),
        (("--to", "mean"), "intervention_to is 'zero' there and 'mean' now"),
        (("--control", "moved"), "intervention is 'a random direction: removed' there"),
    ):
        assert ablate(setting, output, *more) == 2
        assert message in capsys.readouterr().err
    other = load_probe(setting.probe)
    other.estimator.coef_ = -other.estimator.coef_
    save_probe(tmp_path / "other", other.estimator, vectors_card(REPRESENTATION, setting.shards.attributes))
    assert ablate(setting, output, probe=tmp_path / "other") == 2
    assert "intervention_probe_sha256 is" in capsys.readouterr().err
    assert (output / "ablation.csv").read_bytes() == before


def test_without_ground_truth_nothing_is_judged(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (setting.data / "vqa.csv").open() as file:
        asked = list(csv.DictReader(file))[:4]
    with (tmp_path / "vqa.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question_id", "image_id", "question"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*asked, asked[0] | {"question_id": "lost", "image_id": "none.png"}])
    assert ablate(setting, tmp_path / "out", "--vqa-dataset", str(tmp_path / "vqa.csv")) == 0
    assert "no answer has a verdict in all runs" in " ".join(capsys.readouterr().out.split())
    assert [row["label_ablated"] for row in rows(tmp_path / "out")] == [""] * 4
    record = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert "wrong" not in record["effects"] and record["questions"] == 4
    assert "lost,image," in (tmp_path / "out" / "ablated" / "failures.csv").read_text()


def test_where_one_run_captures_nothing_no_other_begins(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "vqa.csv").write_text("question_id,image_id,question\nlost,none.png,Why?\n")
    assert ablate(setting, tmp_path / "out", "--vqa-dataset", str(tmp_path / "vqa.csv")) == 1
    assert (tmp_path / "out" / "plain" / "failures.csv").exists()
    assert not (tmp_path / "out" / "ablated").exists() and not (tmp_path / "out" / "ablation.json").exists()


def test_probes_without_a_direction_are_refused(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, attributes = setting.shards.vectors(REPRESENTATION), setting.shards.attributes
    mlp = MLPProbe(hidden_sizes=(4,), max_epochs=1).fit(x, np.arange(len(x)) % 2)
    save_probe(tmp_path / "mlp", mlp, vectors_card(REPRESENTATION, attributes))
    vision = load_probe(setting.probe).estimator
    save_probe(tmp_path / "vision", vision, vectors_card("vision_only_representation", attributes))
    save_probe(tmp_path / "strange", vision, vectors_card(REPRESENTATION, attributes) | {"revision": "local-other"})
    for name, message in (
        ("mlp", "has no single direction"),
        ("vision", "there is no layer to intervene at"),
        ("strange", "revision is 'local-other' in the card"),
    ):
        assert ablate(setting, tmp_path / "out", probe=tmp_path / name) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "plain").exists()
