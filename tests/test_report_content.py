"""report.json says what the study found, no more and no less, and the page can be made of it."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from probes_fake import QUERY, labels_of, planted, write_inputs
from sklearn.metrics import auc, roc_auc_score
from test_probes_command import read

from halp_probe.cli import run_script
from halp_probe.probes.remarks import LEVELS
from halp_probe.probes.study import Design, study
from halp_probe.report.content import report_content
from halp_probe.report.html import render_report
from halp_probe.report.writing import _images_of_run

pytestmark = pytest.mark.slow


class Pictures(HTMLParser):
    """Sources of a page's pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a run, and the pictures that its questions are about: half of them changed since."""
    folder = tmp_path_factory.mktemp("report")
    shards, y = planted(300, auroc=0.9)
    rng = np.random.default_rng(0)
    shards.texts["source"] = [("hard" if label ^ (rng.random() < 0.03) else "easy") for label in y]
    shards.texts["source"][:9] = ["rare"] * 9
    images = folder / "images"
    images.mkdir()
    for number in range(100):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(images / f"{number}.png")
    hashes = [hashlib.sha256((images / f"{row // 3}.png").read_bytes()).hexdigest() for row in range(300)]
    shards.texts["image_sha256"] = hashes
    for number in range(0, 100, 2):
        Image.new("RGB", (30, 20), "white").save(images / f"{number}.png")
    flags = write_inputs(folder, shards, labels_of(shards, y) | {"q4": None})
    flags += ["--group-columns", "source", "--bootstrap", "60", "--images-dir", str(images)]
    assert run_script("train-probes", "", flags) == 0
    return folder / "out", shards, y


@pytest.fixture(scope="module")
def report(written):
    return json.loads((written[0] / "report.json").read_text())


def test_numbers_are_those_of_the_tables(written, report):
    results = {row["name"]: row for row in read(written[0] / "results.csv")}
    assert [entry["name"] for entry in report["results"]] == list(results)
    for entry in report["results"]:
        row = results[entry["name"]]
        found = {"auroc": entry["auroc"], **entry["measures"]}
        for measure, estimate in found.items():
            for key, column in (("value", measure), ("low", f"{measure}_low"), ("high", f"{measure}_high")):
                assert (estimate[key] is None) == (row[column] == "")
                assert estimate[key] is None or estimate[key] == float(row[column])
        assert (row["selected_in"] or None) == (None if entry["selected_in"] is None else str(entry["selected_in"]))
    differences = {(d["name"], d["minus"]): d for d in read(written[0] / "differences.csv")}
    minus = next(entry for entry in report["results"] if entry["name"] == QUERY)["minus"]
    for name in ("lookup_of_source", "question_text", "first_token_entropy"):
        assert minus[name]["value"] == float(differences[QUERY, name]["auroc_difference"])
        assert minus[name]["low"] == float(differences[QUERY, name]["low"])
        line = differences[QUERY, name]
        assert float(line["aurc_difference"]) == pytest.approx(
            float(results[QUERY]["aurc"]) - float(results[name]["aurc"])
        )
        assert float(line["aurc_low"]) < float(line["aurc_high"]) and line["brier_difference"] == ""


def test_the_headline_is_the_selected_probe_against_its_best_baseline(report):
    headline = report["headline"]
    results = {entry["name"]: entry for entry in report["results"]}
    assert headline["name"] == "selected_probe"
    assert headline["auroc"] == results["selected_probe"]["auroc"]
    assert headline["best_baseline"]["name"] == "selected_baseline"
    assert headline["best_baseline"]["title"] == "lookup of source"
    assert headline["difference"] == results["selected_probe"]["minus"]["selected_baseline"]
    first = headline["added"][0]
    assert first["without"] == results["all_baselines"]["auroc"]
    assert first["with_probe"] == results["all_baselines_and_probe"]["auroc"]
    assert first["gain"]["value"] == pytest.approx(first["with_probe"]["value"] - first["without"]["value"])
    assert first["verdict"] in ("adds", "adds nothing that shows") and 0 <= first["p_value"] <= 1
    assert headline["within"]["source"] == next(g for g in report["groups"] if g["column"] == "source")["macro"]
    abstain = headline["abstain"]
    assert abstain["reduction"]["value"] == pytest.approx(
        abstain["error_before"]["value"] - abstain["error_after"]["value"]
    )
    values = {name: results[name]["measures"] for name in ("selected_probe", "lookup_of_source")}
    after = {name: measures["error_80"]["value"] for name, measures in values.items()}
    assert abstain["baseline"]["title"] == "lookup of source"
    of_baseline = abstain["error_before"]["value"] - after["lookup_of_source"]
    assert abstain["baseline"]["reduction"]["value"] == pytest.approx(of_baseline)
    assert abstain["baseline"]["gain"]["value"] == pytest.approx(after["lookup_of_source"] - after["selected_probe"])
    assert set(headline["differences"]) == {"auroc", "auprc", "fpr_95", "aurc", "error_80", "prr", "prr_50"}
    for name, difference in headline["differences"].items():
        if name != "auroc":
            expected = values["selected_probe"][name]["value"] - values["lookup_of_source"][name]["value"]
            assert difference["value"] == pytest.approx(expected)
            assert difference["low"] < difference["value"] < difference["high"]
    assert abstain["error_before"]["value"] == pytest.approx(report["data"]["n_positive"] / report["data"]["n"])


def test_curves_are_of_the_scores_in_oof_csv(written, report):
    oof = read(written[0] / "oof.csv")
    columns = ("label", "selected_probe_risk", "selected_probe", "fold")
    y, risk, score, fold = (np.array([float(row[name]) for row in oof]) for name in columns)
    rank = np.empty(len(y))
    for k in range(5):
        rank[fold == k] = [np.mean(score[fold == k] < own) for own in score[fold == k]]
    line, bins = report["curves"]["roc"][0], report["curves"]["calibration"]
    assert line["title"] == report["headline"]["title"]
    assert auc(line["x"], line["y"]) == pytest.approx(roc_auc_score(y, rank), abs=2e-3)
    order = np.array_split(np.argsort(risk, kind="stable"), 10)
    assert [sum(bins["count"])] == [pytest.approx(len(y), abs=5)]
    np.testing.assert_allclose(bins["risk"], [risk[part].mean() for part in order], atol=0.02)
    np.testing.assert_allclose(bins["rate"], [y[part].mean() for part in order], atol=0.05)


def test_groups_transfer_and_counts(written, report):
    _, shards, y = written
    kept = np.arange(300) != 4
    (groups,) = report["groups"]
    for row in groups["rows"]:
        inside = (np.array(shards.texts["source"]) == row["value"]) & kept
        assert (row["n"], row["n_positive"]) == (inside.sum(), y[inside].sum())
    assert groups["one_label"] is None or set(groups["one_label"]["values"]) <= {"rare", "hard", "easy"}
    assert sum(row["n"] for row in groups["rows"]) == report["data"]["n"] == 299
    rare = next(row for row in groups["rows"] if row["value"] == "rare")
    assert rare["auroc"]["value"] is None and rare["auroc"]["note"]
    (transfer,) = report["transfer"]
    assert transfer["values"] == ["easy", "hard", "rare"]
    assert all(len(row) == 3 for row in transfer["cells"])
    assert report["data"]["left_out"] == [{"reason": "label unknown", "count": 1}]


def test_examples_are_the_extremes_one_an_image(written, report):
    oof = {row["question_id"]: row for row in read(written[0] / "oof.csv")}
    for side, sign in (("most_risky", -1), ("least_risky", 1)):
        chosen = report["examples"][side]
        risks = [example["risk"] for example in chosen]
        assert risks == sorted(risks, reverse=sign < 0)
        by_image: dict[str, float] = {}
        for row in oof.values():
            risk = float(row["selected_probe_risk"])
            by_image[row["image"]] = min(sign * risk, by_image.get(row["image"], np.inf))
        assert risks == pytest.approx([sign * risk for risk in sorted(by_image.values())[: len(chosen)]])
        for example in chosen:
            row = oof[example["question_id"]]
            assert (example["label"], example["risk"]) == (int(row["label"]), float(row["selected_probe_risk"]))


def test_no_picture_of_other_content_is_shown(written, report):
    page = Pictures()
    page.feed((written[0] / "report.html").read_text())
    examples = report["examples"]["most_risky"] + report["examples"]["least_risky"]
    unchanged = [example for example in examples if int(example["image_id"].removesuffix(".png")) % 2]
    assert 0 < len(unchanged) < len(examples)
    assert len(page.sources) == len(unchanged)
    assert all(source.startswith("data:image/jpeg") for source in page.sources)


def test_warnings_are_on_the_page(written, report):
    assert {warning["level"] for warning in report["warnings"]} <= set(LEVELS)
    assert any("A lookup of `source` reaches" in warning["text"] for warning in report["warnings"])
    assert "A lookup of" in (written[0] / "report.html").read_text()


def test_the_published_design_says_what_is_wrong_with_it():
    shards, y = planted(180, auroc=0.9)
    found = study(shards, labels_of(shards, y), Design(preset="halp", bootstrap=20))
    assert found.sweep.selected is None
    assert int(found.folds.tested.sum()) == 36
    serious = " ".join(finding.text for finding in found.findings if finding.level == "serious")
    for part in ("images are on both sides", "picked on the very rows that judge it", "HALP's published design"):
        assert part in serious
    about = dict.fromkeys(("model_name", "revision", "shards", "labels"), "x") | {"seconds": 1.0}
    content = json.loads(json.dumps(report_content(found, {}, about), allow_nan=False))
    assert content["made"]["split"] == "row" and content["curves"]["calibration"] is None
    nested = content["headline"]["nested"]
    assert sum(nested["chosen"].values()) == 3 and nested["auroc"]["low"] < nested["auroc"]["value"]
    assert f"{nested['auroc']['value']:.3f} ({nested['auroc']['low']:.3f}" in serious and "quote the first" in serious
    page = render_report(content, {})
    assert f"{nested['auroc']['value']:.3f}</b>" in page and "the number to quote" in page
    assert "published design" in page and "one split by row" in page and "The questions were split once" in page
    for untrue in ("of the selected probe", "The selected probe stands", "calibration:", "1 folds"):
        assert untrue not in page


def test_the_published_design_with_one_question_an_image():
    shards, y = planted(60, auroc=0.9, per_image=1)
    found = study(shards, labels_of(shards, y), Design(preset="halp", bootstrap=20))
    assert not any("both sides" in finding.text for finding in found.findings)
    assert [control.folds.count for control in found.sweep.controls] == [1, 1]


def test_the_folder_of_the_extraction_tells_where_pictures_are(tmp_path):
    assert _images_of_run(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps({"images_dir": str(tmp_path)}))
    assert _images_of_run(tmp_path) == tmp_path
    (tmp_path / "run.json").write_text(json.dumps({"images_dir": str(Path("/nowhere"))}))
    assert _images_of_run(tmp_path) is None
