"""What the second tab shows is what the shards and the report hold; nothing else of the machine can be had by it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from probes_fake import QUERY, labels_of, planted, write_inputs
from report_data import empty_report, full_report
from shard_data import ATTRIBUTES, columns, representations, write_group_per_question

from halp_probe.app.report_contents import ReportContents, example_picture
from halp_probe.app.results import open_results
from halp_probe.app.shards_contents import ShardsContents, pictures, question_rows, riskiest
from halp_probe.cli import run_script
from halp_probe.errors import InputError
from halp_probe.probes.files import load_probe
from halp_probe.records import Failure
from halp_probe.report.heatmap import heatmap_png
from halp_probe.shards.columns import Columns
from halp_probe.shards.failures import write_failures
from halp_probe.shards.writer import write_shard


def shard_folder(folder: Path, sizes: tuple[int, ...] = (5, 3, 4), **changes: object) -> Path:
    """Several parts, whose texts and numbers tell the question."""
    data = columns([f"q{k}" for k in range(sum(sizes))])
    data.numbers["first_token_logprob"][:] = -np.arange(len(data)) / 10
    first = 0
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in enumerate(sizes, 1):
        path = folder / f"m_embeddings_part_{part:03d}.h5"
        write_shard(path, data.take(range(first, first + size)), {**ATTRIBUTES, **changes}, question_view=False)
        first += size
    return folder


def opened(path: Path) -> ShardsContents:
    found = open_results(path)
    assert isinstance(found, ShardsContents)
    return found


def reported(path: Path) -> ReportContents:
    found = open_results(path)
    assert isinstance(found, ReportContents)
    return found


@dataclass(frozen=True)
class Trained:
    """What train_probes.py left of planted shards."""

    folder: Path
    shards: Path
    images: Path
    y: np.ndarray


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("trained")
    fake, y = planted(240, auroc=0.9)
    images = folder / "images"
    images.mkdir()
    for number in range(80):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(images / f"{number}.png")
    fake.texts["image_sha256"] = [
        hashlib.sha256((images / f"{row // 3}.png").read_bytes()).hexdigest() for row in range(240)
    ]
    flags = write_inputs(folder, fake, labels_of(fake, y))
    assert run_script("train-probes", "", [*flags, "--bootstrap", "40", "--folds", "3"]) == 0
    yield Trained(folder / "out", folder / "shards", images, y)


def test_a_folder_of_shards_tells_what_it_is(tmp_path: Path) -> None:
    write_failures(
        shard_folder(tmp_path / "run"),
        [
            Failure(question_id="q99", stage="image", reason="no file"),
            Failure(question_id="q98", stage="image", reason="x"),
        ],
    )
    found = opened(tmp_path / "run")
    assert (found.model, found.rows, found.failures) == (ATTRIBUTES["model_name"], 12, 2)
    assert found.layers == (0, 7) and found.representations == tuple(representations())
    assert found.dtype == "float32" and found.created.startswith("20") and found.notes == ()
    one = opened(tmp_path / "run" / "m_embeddings_part_002.h5")
    assert one.rows == 3 and question_rows(one, 0, 1)[0].question_id == "q5"
    (tmp_path / "run" / "journal").mkdir()
    (tmp_path / "run" / "journal" / "00000001.h5").write_bytes(b"")
    assert "not finished" in opened(tmp_path / "run").notes[0]


@pytest.mark.parametrize(("start", "count"), [(0, 12), (0, 5), (3, 4), (7, 1), (4, 100), (12, 5), (0, 0), (-2, 3)])
def test_a_page_of_questions_is_a_slice_of_them(start: int, count: int, tmp_path: Path) -> None:
    rows = question_rows(opened(shard_folder(tmp_path)), start, count)
    wanted = list(range(12))[max(start, 0) : max(start + count, 0)]
    assert [row.question_id for row in rows] == [f"q{k}" for k in wanted]
    for k, row in zip(wanted, rows, strict=True):
        told = (row.image_id, row.question, row.answer, row.truth)
        assert told == (f"image of q{k}.png", f"What of q{k}?", f"answer q{k}", f"truth q{k}")
        assert row.confidence == pytest.approx(math.exp(-k / 10)) and row.risk is None


def test_only_the_files_of_the_page_are_read(tmp_path: Path) -> None:
    found = opened(shard_folder(tmp_path))
    (tmp_path / "m_embeddings_part_001.h5").unlink()
    assert [row.question_id for row in question_rows(found, 5, 3)] == ["q5", "q6", "q7"]
    with pytest.raises(InputError, match="part_001"):
        question_rows(found, 4, 2)
    data = columns([f"other{k}" for k in range(4)])
    write_shard(tmp_path / "m_embeddings_part_003.h5", data, ATTRIBUTES, question_view=False)
    with pytest.raises(InputError, match=r"part_003.h5 has changed since it was opened"):
        question_rows(found, 8, 1)


def test_files_of_other_code_are_shown_too(tmp_path: Path) -> None:
    write_group_per_question(tmp_path / "other.h5", columns(["q0", "q1"]))
    found = opened(tmp_path)
    assert (found.model, found.dtype, found.created) == ("not recorded",) * 3
    row = question_rows(found, 1, 1)[0]
    assert (row.answer, row.truth, row.confidence) == ("answer q1", "truth q1", None)


def test_the_riskiest_are_those_of_the_probe_itself(trained: Trained) -> None:
    """The oracle is the saved probe on vectors that were kept apart."""
    fake, _ = planted(240, auroc=0.9)
    probe = load_probe(trained.folder / "probes" / QUERY.replace("/", "_"))
    risk = probe.risk(fake.vectors(QUERY))
    found = riskiest(opened(trained.shards), probe, 20)
    assert [row.question_id for row in found.rows] == [f"q{k}" for k in np.argsort(-risk, kind="stable")[:20]]
    assert [row.risk for row in found.rows] == np.sort(risk)[::-1][:20].tolist()
    assert (found.scored, found.unscored, found.trained_on) == (240, 0, 80)
    assert found.rows[0].question == fake.texts["question"][int(found.rows[0].question_id[1:])]
    wrong = np.mean([trained.y[int(row.question_id[1:])] for row in found.rows])
    assert wrong > trained.y.mean() + 0.3
    assert len(riskiest(opened(trained.shards), probe, 10**6).rows) == 240


def test_what_has_no_vector_is_counted_and_not_ranked(trained: Trained, tmp_path: Path) -> None:
    fake, _ = planted(30, auroc=0.9, seed=1)
    vectors = fake.arrays[QUERY].copy()
    vectors[[2, 5]], vectors[7, 0] = np.nan, np.inf
    texts = {
        "question_id": list(fake.question_ids),
        **fake.texts,
        "answer": [""] * 30,
        "ground_truth_answer": [""] * 30,
    }
    data = Columns(texts=texts, numbers={}, vectors={QUERY: vectors})
    write_shard(tmp_path / "m_embeddings_part_001.h5", data, {"model_name": "fake/vlm"}, question_view=False)
    probe = load_probe(trained.folder / "probes" / QUERY.replace("/", "_"))
    found = riskiest(opened(tmp_path), probe, 30)
    assert (found.scored, found.unscored, found.trained_on) == (27, 3, 0)
    assert not {"q2", "q5", "q7"} & {row.question_id for row in found.rows}
    assert all(row.risk is not None and math.isfinite(row.risk) for row in found.rows)


def test_a_probe_of_other_states_is_refused(trained: Trained, tmp_path: Path) -> None:
    probe = load_probe(trained.folder / "probes" / QUERY.replace("/", "_"))
    with pytest.raises(InputError, match="query_token_representation/layer_3, which these shards do not have"):
        riskiest(opened(shard_folder(tmp_path / "a")), probe, 3)
    mean = load_probe(trained.folder / "probes" / "vision_only_representation")
    data = columns(["q0", "q1"], width=9)
    write_shard(tmp_path / "m_embeddings_part_001.h5", data, {"model_name": "fake/vlm"}, question_view=False)
    with pytest.raises(InputError, match=r"vectors of width 8, .* has 9"):
        riskiest(opened(tmp_path), mean, 3)
    mean.metadata["chat_template_sha256"] = "of another"
    shard_folder(tmp_path / "b", chat_template_sha256="of these")
    with pytest.raises(InputError, match="trained on other states: chat_template_sha256"):
        riskiest(opened(tmp_path / "b"), mean, 3)


def test_a_report_tells_what_is_in_its_file(trained: Trained) -> None:
    content = json.loads((trained.folder / "report.json").read_text())
    with (trained.folder / "results.csv").open() as file:
        results = {row["name"]: row for row in csv.DictReader(file) if row["kind"] == "representation"}
    found = reported(trained.folder / "report.json")
    for path in (trained.folder, str(trained.folder), trained.folder / "probes"):
        assert open_results(path) == found
    assert (found.model, found.questions, found.images, found.folds) == ("fake/vlm", 240, 80, 3)
    assert found.wrong == trained.y.sum()
    assert found.headline.auroc.value == content["headline"]["auroc"]["value"]
    assert found.headline.baseline == content["headline"]["best_baseline"]["title"]
    assert found.headline.difference.low == content["headline"]["difference"]["low"]
    assert len(found.representations) == len(results) == 2
    for row, told in zip(found.representations, results.values(), strict=True):
        assert f"{row.auroc.value}" == told["auroc"] and f"{row.auroc.low}" == told["auroc_joint_low"]
        assert f"{row.picked_in}" == told["selected_in"]
    assert [(cell.position, cell.layer) for cell in found.cells] == [("vision_only", None), ("query_token", 3)]
    assert [cell.auroc for cell in found.cells] == [row.auroc.value for row in found.representations]
    assert found.best == found.representations[1]
    assert heatmap_png(found.cells, found.model, "").startswith(b"\x89PNG")
    risks = [example.risk for example in found.most_risky]
    assert risks == sorted(risks, reverse=True) and min(risks) > max(example.risk for example in found.least_risky)
    for example in (*found.most_risky, *found.least_risky):
        assert example.wrong == trained.y[int(example.question_id[1:])]
        assert (example.answer, example.truth) == ("yes", "yes")
    assert [warning.level for warning in found.warnings] == [warning["level"] for warning in content["warnings"]]


def test_a_report_of_nothing_is_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(empty_report()))
    found = reported(tmp_path)
    assert math.isnan(found.headline.auroc.value) and "no question" in found.headline.auroc.note
    assert found.headline.baseline is None and found.cells == () and found.best is None and found.most_risky == ()


def test_the_best_is_what_most_folds_chose(tmp_path: Path) -> None:
    report = full_report()
    (often, seldom) = report["results"][12], report["results"][11]
    seldom["auroc"]["value"] = often["auroc"]["value"] + 0.05
    (tmp_path / "report.json").write_text(json.dumps(report))
    best = reported(tmp_path).best
    assert best is not None and (best.position, best.layer, best.picked_in) == ("query_token", 5, 4)


def without(part: str) -> str:
    report = full_report()
    del report[part]
    return json.dumps(report)


WHOLE = json.dumps(full_report())
DAMAGED = {
    "": "is not JSON",
    WHOLE[: len(WHOLE) // 2]: "is not JSON",
    "[1]": "is not a report",
    '{"format": "halp_probe.probe", "format_version": 2}': "'halp_probe.probe' of version 2; only",
    json.dumps(full_report(format_version=2)): "version 2; only 'halp_probe.report' of version 1",
    json.dumps(full_report(headline=None)): "is damaged",
    json.dumps(full_report(results=[{"kind": "representation"}])): "is damaged",
    json.dumps(full_report(examples={"most_risky": [{"risk": "high"}], "least_risky": []})): "is damaged",
    **{
        without(part): f"is damaged.*{part}" for part in ("data", "made", "headline", "results", "examples", "warnings")
    },
}


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: DAMAGED[content])
def test_a_report_that_is_not_whole_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match=rf"report.json.*{DAMAGED[content]}"):
        open_results(tmp_path)


def test_what_is_neither_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "probes").mkdir()
    shard_folder(tmp_path / "up" / "run")
    for path, reason in {
        "notes.txt": "is neither a shard",
        "bytes.json": "is not UTF-8",
        "empty": r"holds neither shards \(\*.h5\) nor a report.json; pass the `output_dir`",
        "probes": "holds neither shards",
        "up": r"holds neither shards.*pass .*up/run, which does",
        "none": "does not exist",
        "a\0b": "does not exist",
        "x" * 300: "cannot be read|does not exist",
    }.items():
        with pytest.raises(InputError, match=reason):
            open_results(tmp_path / path)
    with pytest.raises(InputError, match="no such user"):
        open_results("~nobody-of-this-name/run")
    (tmp_path / "report.json").write_text(json.dumps(full_report()))
    assert isinstance(open_results(tmp_path / "probes"), ReportContents)  # as beside a run's report, not as any folder
    with pytest.raises(InputError, match="holds neither"):
        open_results(tmp_path / "empty")
    shard_folder(tmp_path)
    assert isinstance(open_results(tmp_path), ShardsContents)
    assert isinstance(open_results(tmp_path / "report.json"), ReportContents)


def test_shards_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    """Cut short, of another version, or with bytes that changed anywhere in the file."""
    path = shard_folder(tmp_path, (6,)) / "m_embeddings_part_001.h5"
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="part_001"):
            open_results(tmp_path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(120):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), size=100):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            question_rows(opened(tmp_path), 0, 6)
        except InputError as error:
            assert "part_001" in str(error)
            refused += 1
    assert refused > 60
    path.write_bytes(whole)
    for content in (b"\xff\xfe", b"", b"a,b\n", b"question_id,stage,reason\nq1,image\n"):
        (tmp_path / "failures.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"failures.csv is not a list of failures"):
            open_results(tmp_path)
    (tmp_path / "failures.csv").unlink()
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(InputError, match="version 99; this halp_probe reads"):
        open_results(path)


def test_pictures_are_those_that_the_shards_name(trained: Trained, tmp_path: Path) -> None:
    found = opened(trained.shards)
    (shown,) = pictures(found, "q7", trained.images)
    assert shown.pixels.getpixel((0, 0)) == (2, 0, 0) and shown.pixels.size == (30, 20)
    (late,) = pictures(found, "q239", trained.images)  # of the second file
    assert late.pixels.getpixel((0, 0)) == (79, 0, 0)
    with pytest.raises(InputError, match=r"no question '2.png'"):
        pictures(found, "2.png", trained.images)
    with pytest.raises(InputError, match="no file"):
        pictures(found, "q7", tmp_path)
    Image.new("RGB", (30, 20), "white").save(tmp_path / "2.png")
    with pytest.raises(InputError, match=r"2.png has changed since it was captured"):
        pictures(found, "q7", tmp_path)


def test_pictures_of_a_report_are_those_of_its_examples(trained: Trained, tmp_path: Path) -> None:
    found = reported(trained.folder)
    example = found.most_risky[0]
    number = int(example.image_id.removesuffix(".png"))
    assert example_picture(found, example.question_id, trained.images).pixels.getpixel((0, 0)) == (number, 0, 0)
    Image.new("RGB", (30, 20), "white").save(tmp_path / example.image_id)
    with pytest.raises(InputError, match="has changed since"):
        example_picture(found, example.question_id, tmp_path)
    others = {f"q{k}" for k in range(240)} - {each.question_id for each in (*found.most_risky, *found.least_risky)}
    with pytest.raises(InputError, match="among the report's examples"):
        example_picture(found, others.pop(), trained.images)


@pytest.mark.parametrize("image_id", ["../secret.png", "{outside}/secret.png", "link.png", "", "notes.txt", "."])
def test_nothing_outside_the_folder_is_served(image_id: str, tmp_path: Path) -> None:
    """Shards and reports may come from anyone, and name any file of the machine."""
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "secret.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "notes.txt").write_text("not a picture")
    named = image_id.replace("{outside}", str(tmp_path))
    data = columns(["q0"])
    data.texts["image_id"], data.texts["image_sha256"] = [named], [""]
    write_shard(tmp_path / "m_embeddings_part_001.h5", data, ATTRIBUTES, question_view=False)
    with pytest.raises(InputError, match=r"leads out of|no file|blank|not a picture"):
        pictures(opened(tmp_path), "q0", images)
    report = full_report()
    report["examples"]["most_risky"][0]["image_id"] = named
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"leads out of|no file|blank|not a picture"):
        example_picture(reported(tmp_path / "report.json"), "q0000", images)


def test_questions_on_several_images_or_none(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    digests = [hashlib.sha256((tmp_path / f"{number}.png").read_bytes()).hexdigest() for number in range(2)]
    data = columns(["both", "none"])
    data.texts["images"] = ['["0.png", "1.png"]', "[]"]
    data.texts["image_sha256"] = [hashlib.sha256("".join(digests).encode()).hexdigest(), "of the text"]
    write_shard(tmp_path / "m_embeddings_part_001.h5", data, ATTRIBUTES, question_view=False)
    found = opened(tmp_path)
    assert [image.pixels.getpixel((0, 0)) for image in pictures(found, "both", tmp_path)] == [(0, 0, 0), (1, 0, 0)]
    assert pictures(found, "none", tmp_path) == []


def test_the_tab_needs_neither_torch_nor_streamlit_to_open(tmp_path: Path) -> None:
    program = (
        "import sys; from halp_probe.app.results import open_results; "
        "open_results(sys.argv[1]); import halp_probe.web.fetch; "
        "assert not {'torch', 'transformers', 'streamlit', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(shard_folder(tmp_path))], check=True)
