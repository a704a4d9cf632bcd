"""Whole runs of prompts without an image, with several, and with a system message: from samples to a risk."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halp_probe.cli import main, run_script
from halp_probe.commands import extract as command
from halp_probe.errors import InputError
from halp_probe.extraction.extract import extract_items
from halp_probe.probes.card import vectors_card
from halp_probe.probes.files import load_probe, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.records import Sample
from halp_probe.scoring.scorer import RiskScorer
from halp_probe.shapes.dataset import write_dataset
from halp_probe.shards.reader import ShardError, Shards, open_shards
from halp_probe.shards.validation import problems
from halp_probe.state_identity import PROMPT, PROMPT_OF_TEXT
from halp_probe.tasks.task import TaskInput
from halp_probe.tasks.vqa import VQA

QUERY = "query_token_representation/layer_3"
SYSTEM = "Say what you see."
COLOURS, SHAPES = ("red", "blue", "green", "orange", "purple"), ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_scenes=6, questions_a_scene=1, seed=700)
    return folder / "images"


def names(data: Path) -> list[str]:
    return sorted(path.name for path in data.iterdir())


def extract(samples: Sequence[Sample], images: Path, output: Path, *flags: str) -> int:
    """As `extract.py`, with these samples instead of a table."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    more = ["--model", "shapes", "--layers", "0,3", "--max-new-tokens", "4", "--output-dir", str(output)]
    options = command.extract_options(parser.parse_args([*more, *flags]))
    extraction = extract_items(options, TaskInput(task=VQA, items=samples, failures=[], images_dir=images))
    return 0 if extraction.captured + extraction.already_done else 1


def of_text() -> list[Sample]:
    """Two questions about each of 20 notes, that of a note not side by side."""
    words = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return [
        Sample(
            question_id=f"q{k}",
            image_id=f"note {k % 20}",
            question=f"{'Is there' if k % 2 else 'How many is'} a {words[k % 15]}?",
            answer="",
            images=(),
        )
        for k in range(40)
    ]


def of_pairs(data: Path) -> list[Sample]:
    shown = names(data)
    pairs = [(0, 1), (1, 0), (0, 1), (2, 3), (4,), (0, 1)]
    questions = ("Is there a red circle?", "How many shapes?", "What colour is the square?")
    return [
        Sample(
            question_id=f"p{k}",
            image_id=f"group {k}",
            question=questions[k % 3],
            answer="",
            images=tuple(shown[i] for i in pair),
        )
        for k, pair in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("text")
    assert extract(of_text(), data, folder, "--system-prompt", SYSTEM) == 0
    return folder


def test_a_run_of_text_stores_nothing_of_images(text_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = open_shards(text_run)
    assert shards.representations == ("query_token_representation/layer_0", QUERY)
    assert set(shards.numbers("token_index/vision")) == set(shards.numbers("token_id/vision")) == {-1}
    assert set(shards.text("images")) == {"[]"}
    for image_id, sha256 in zip(shards.text("image_id"), shards.text("image_sha256"), strict=True):
        assert sha256 == hashlib.sha256(f"no image: {image_id}".encode()).hexdigest()
    assert shards.text("image_id") == [f"note {k // 2}" for k in range(40)]  # those about one thing together
    assert shards.attributes["prompt"] == PROMPT_OF_TEXT and shards.attributes["system_prompt"] == SYSTEM
    assert not shards.attributes["prefix_shared"]
    assert json.loads((text_run / "run.json").read_text())["prefix_sharing"]["reason"] == "prompts show no image"
    (file,) = shards.files
    with h5py.File(file) as opened:  # as scripts for HALP's files read it
        assert np.array_equal(opened["q7"][QUERY][:], shards.vectors(QUERY)[shards.question_ids.index("q7")])
        assert "vision_token_representation" not in opened["q7"]
    assert run_script("inspect", None, [str(text_run), "--question", "q7"]) == 0
    assert "\nvalid" in capsys.readouterr().out


def test_a_run_of_text_goes_on_to_the_same_contents(text_run: Path, tmp_path: Path, data: Path) -> None:
    few = of_text()
    assert extract(few, data, tmp_path, "--system-prompt", SYSTEM, "--test") == 0
    assert len(open_shards(tmp_path).question_ids) == 3
    with pytest.raises(InputError, match=f"system_prompt is '{SYSTEM}' there and None now"):
        extract(few, data, tmp_path)
    assert extract(few, data, tmp_path, "--system-prompt", SYSTEM) == 0
    whole, resumed = open_shards(text_run), open_shards(tmp_path)
    assert resumed.question_ids == whole.question_ids and resumed.text("answer") == whole.text("answer")
    assert np.array_equal(resumed.vectors(QUERY), whole.vectors(QUERY))


def test_audit_makes_prompts_of_text_again(text_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--shards", str(text_run)]) == 0
    assert "40 of 40 rows" in capsys.readouterr().out


def test_a_shard_of_text_with_something_of_images_is_not_valid(text_run: Path, tmp_path: Path) -> None:
    (file,) = open_shards(text_run).files
    copy = tmp_path / file.name
    for name, value, problem in (
        ("token_id/vision", 7, "token_id/vision is not -1"),
        ("token_index/vision", 3, "'q20' shows no image, but others of this file do"),
        ("vision_only_representation", None, "'q0' shows no image, but vision_only_representation is present"),
    ):
        copy.write_bytes(file.read_bytes())
        with h5py.File(copy, "a") as opened:
            if value is None:
                opened["_columns"][name] = np.zeros((40, 4), np.float32)
            else:
                opened["_columns"][name][0] = value
        assert any(problem in found for found in problems(copy)), problems(copy)


@pytest.fixture(scope="module")
def probes(text_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    rows = [(question_id, int(k % 3 == 0)) for k, question_id in enumerate(open_shards(text_run).question_ids)]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question_id", "label"), *rows])
    call = ["--shards", str(text_run), "--labels", str(folder / "labels.csv"), "--output-dir", str(folder / "out")]
    assert run_script("train-probes", None, [*call, "--bootstrap", "20", "--folds", "3"]) == 0
    return folder / "out"


def test_probes_of_text_are_trained_and_told(probes: Path, text_run: Path) -> None:
    """The query token alone, split by what a prompt is about, without a baseline of the image."""
    report = json.loads((probes / "report.json").read_text())
    by_kind = {r["name"]: r for r in report["results"]}
    assert {r["position"] for r in report["results"] if r["kind"] == "representation"} == {"query_token"}
    assert by_kind["image_alone"]["auroc"]["value"] is None
    with (probes / "oof.csv").open() as file:
        folds = {row["question_id"]: row["fold"] for row in csv.DictReader(file)}
    about = dict(zip(open_shards(text_run).question_ids, open_shards(text_run).text("image_id"), strict=True))
    assert len({(about[q], fold) for q, fold in folds.items()}) == len(set(about.values())) == 20
    assert (probes / "report.html").stat().st_size and (probes / "heatmap.png").stat().st_size


def test_a_probe_of_text_scores_text_with_its_system_message(
    probes: Path, text_run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = probes / "probes" / "query_token_representation_layer_3"
    scorer, shards = RiskScorer("shapes", saved), open_shards(text_run)
    expected = scorer.probe.risk(shards.vectors(QUERY))
    for row in (0, 7):
        assert scorer.score(None, shards.text("question")[row]) == pytest.approx(expected[row], abs=1e-5)
    silent = replace(scorer.probe, metadata={**scorer.probe.metadata, "system_prompt": None})
    assert RiskScorer(scorer.loaded, silent).score(None, shards.text("question")[0]) != pytest.approx(
        expected[0], abs=1e-5
    )
    with pytest.raises(InputError, match="prompts without an image, this one shows one"):
        scorer.score(data / names(data)[0], "Is there a red circle?")
    (tmp_path / "vqa.csv").write_text(f"question_id,image_id,question\n1,{names(data)[0]},Is it?\n")
    call = ["--probe", str(saved), "--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(data)]
    assert main(["score", *call, "--output-dir", str(tmp_path / "out")]) == 2
    assert "prompts without an image" in capsys.readouterr().err


def test_score_reads_the_states_that_the_system_message_makes(data: Path, tmp_path: Path) -> None:
    """Of a table, with the message in the probe's card."""
    rows = [f"{k},{name},Is there a {COLOURS[k % 5]} circle?,x" for k, name in enumerate(names(data) * 2)]
    (tmp_path / "vqa.csv").write_text("\n".join(["question_id,image_id,question,answer", *rows]) + "\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(data), "--model", "shapes"]
    run = ["--layers", "3", "--no-answers", "--system-prompt", SYSTEM, "--output-dir", str(tmp_path / "run")]
    assert run_script("extract", None, [*call, *run]) == 0
    shards = open_shards(tmp_path / "run")
    x, y = shards.vectors(QUERY), np.arange(len(rows)) % 2
    probe = LinearProbe(Cs=(1e-2,)).fit(x, y)
    calibration = Calibration.fit("platt", probe.decision_function(x), y)
    save_probe(tmp_path / "probe", probe, vectors_card(QUERY, shards.attributes), calibration)
    score = ["--probe", str(tmp_path / "probe"), "--no-answers", "--output-dir", str(tmp_path / "out")]
    assert main(["score", *call, *score]) == 0
    with (tmp_path / "out" / "risks.csv").open() as file:
        risks = {row["question_id"]: float(row["risk"]) for row in csv.DictReader(file)}
    expected = dict(zip(shards.question_ids, load_probe(tmp_path / "probe").risk(x), strict=True))
    assert risks == pytest.approx(expected, abs=1e-5)
    assert open_shards(tmp_path / "out").attributes["system_prompt"] == SYSTEM


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    assert extract(of_pairs(data), data, folder) == 0
    return folder


def test_a_run_of_pairs_tells_which_images_it_showed(pair_run: Path, data: Path) -> None:
    shards, samples = open_shards(pair_run), {sample.question_id: sample for sample in of_pairs(data)}
    assert shards.question_ids == ("p0", "p2", "p5", "p1", "p3", "p4")  # by what they show, in their order
    told = zip(shards.question_ids, shards.text("images"), shards.text("image_sha256"), strict=True)
    for question_id, images, sha256 in told:
        files = samples[question_id].files
        assert json.loads(images) == list(files)
        each = [hashlib.sha256((data / file).read_bytes()).hexdigest() for file in files]
        assert sha256 == (each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest())
    assert shards.attributes["prompt"] == PROMPT and shards.attributes["prefix_shared"]
    assert not any(map(problems, shards.files))


def test_vision_means_of_a_pair_are_over_both(pair_run: Path, data: Path, tmp_path: Path) -> None:
    """The pictures are of one size, and the tower sees each by itself: the mean of the two means."""
    alone = [
        Sample(question_id=name, image_id=name, question="Is there a red circle?", answer="") for name in names(data)
    ]
    assert extract(alone, data, tmp_path) == 0
    pairs, singles = open_shards(pair_run), open_shards(tmp_path)
    assert not singles.has("images")
    for name in ("vision_only_representation", "vision_encoder_representation"):
        single = dict(zip(singles.question_ids, singles.vectors(name), strict=True))
        for files, mean in zip(pairs.text("images"), pairs.vectors(name), strict=True):
            expected = np.mean([single[file] for file in json.loads(files)], axis=0)
            assert np.abs(mean - expected).max() <= 1e-5 * np.abs(expected).max()


def test_audit_makes_prompts_of_pairs_again(pair_run: Path, data: Path, tmp_path: Path) -> None:
    assert main(["audit", "--shards", str(pair_run), "--images-dir", str(data)]) == 0
    for name in names(data):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    first, second = (tmp_path / name for name in names(data)[:2])
    first.write_bytes(second.read_bytes())
    assert main(["audit", "--shards", str(pair_run), "--images-dir", str(tmp_path)]) == 2
    assert main(["audit", "--shards", str(pair_run)]) == 2


def test_a_run_of_pairs_goes_on_and_finds_other_files(
    pair_run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, samples = tmp_path / "images", of_pairs(data)
    images.mkdir()
    for name in names(data):
        (images / name).write_bytes((data / name).read_bytes())
    assert extract(samples[:2], images, tmp_path / "out") == 0
    assert extract(samples, images, tmp_path / "out") == 0
    parts, whole = open_shards(tmp_path / "out"), open_shards(pair_run)
    assert dict(zip(parts.question_ids, parts.text("answer"), strict=True)) == dict(
        zip(whole.question_ids, whole.text("answer"), strict=True)
    )
    (images / names(data)[1]).write_bytes((images / names(data)[5]).read_bytes())
    more = [
        *samples,
        Sample(question_id="late", image_id="group 9", question="How many?", answer="", images=samples[0].images),
    ]
    assert extract(more, images, tmp_path / "out") == 0
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "late,image" in failures and f"{names(data)[0]}, {names(data)[1]} is not the file" in failures
    with pytest.raises(InputError, match=r"captured with images .* for question 'p0'"):
        extract([replace(samples[0], images=samples[3].images), *samples[1:]], data, tmp_path / "out")


def test_one_name_may_show_different_images(data: Path, tmp_path: Path) -> None:
    """`image_id` is then but a name: a whole group's, say."""
    samples = [replace(sample, image_id="one group") for sample in of_pairs(data)]
    assert extract(samples, data, tmp_path) == 0
    assert not (tmp_path / "failures.csv").exists()


def test_where_one_row_names_its_images_all_do(data: Path, tmp_path: Path) -> None:
    first, second, *_ = names(data)
    samples = [
        Sample(question_id="a", image_id=first, question="How many?", answer=""),
        Sample(question_id="b", image_id="pair", question="How many?", answer="", images=(first, second)),
    ]
    assert extract(samples, data, tmp_path) == 0
    assert open_shards(tmp_path).text("images") == [json.dumps([first]), json.dumps([first, second])]
    assert extract(samples, data, tmp_path) == 0


def test_runs_with_and_without_images_are_not_mixed(data: Path, tmp_path: Path, pair_run: Path, text_run: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 7 prompts show no image \(first: 'q0'\)"):
        extract([*of_pairs(data), of_text()[0]], data, tmp_path / "mixed")
    both = tmp_path / "both"
    both.mkdir()
    for run, name in ((text_run, "a"), (text_run, "b"), (pair_run, "c"), (text_run, "d")):
        (file,) = open_shards(run).files
        (both / f"{name}.h5").write_bytes(file.read_bytes())
        with h5py.File(both / f"{name}.h5", "a") as opened:
            if name == "b":
                opened.attrs["system_prompt"] = "Another."
            else:
                opened.attrs.pop("system_prompt", None)
            if name == "d":
                opened.attrs["task"] = "qa"
    for other, what in (("b", "system_prompt"), ("c", "prompt"), ("d", "task")):
        with pytest.raises(ShardError, match=f"hold states of different kinds: {what} is"):
            open_shards_of(both, "a", other)


def open_shards_of(folder: Path, *stems: str) -> Shards:
    """Of a folder with these files alone."""
    alone = folder / "-".join(stems)
    alone.mkdir()
    for stem in stems:
        (alone / f"{stem}.h5").write_bytes((folder / f"{stem}.h5").read_bytes())
    return open_shards(alone)


def test_a_table_may_have_no_column_of_that_name(tmp_path: Path, data: Path) -> None:
    (tmp_path / "vqa.csv").write_text("question_id,image_id,question,answer,images\n1,a.png,Why?,x,y\n")
    call = ["--vqa-dataset", str(tmp_path / "vqa.csv"), "--images-dir", str(data), "--model", "shapes"]
    assert run_script("extract", None, [*call, "--output-dir", str(tmp_path / "out")]) == 2
