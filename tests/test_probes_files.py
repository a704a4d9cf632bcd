"""A saved probe scores to the bit as before; a pair that is not whole is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from probes_fake import BLOCK_TORCH

import halp_probe
from halp_probe.bootstrap import Draws
from halp_probe.errors import InputError
from halp_probe.files import write_bytes
from halp_probe.probes.card import vectors_card
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.files import file_stem, load_probe, remove_other_probes, save_probe
from halp_probe.probes.fitting.estimators import LinearProbe
from halp_probe.probes.fitting.mlp import MLPProbe
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.judging.thresholds import threshold_for

X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
DRAWS = Draws(count=100, seed=0)
ABOUT = {"representation": "query_token_representation/layer_3", "layers": (0, 3), "training": {"auroc": np.nan}}


@pytest.fixture
def stem(tmp_path):
    save_probe(tmp_path / "p.layer_3", LinearProbe().fit(X, Y), ABOUT)
    return tmp_path / "p.layer_3"


@pytest.mark.parametrize("probe", [LinearProbe(), MLPProbe(hidden_sizes=(6, 4), max_epochs=3)])
@pytest.mark.parametrize("ending", ["", ".json", ".safetensors"])
def test_scores_to_the_bit_as_before(tmp_path, probe, ending):
    save_probe(tmp_path / "a.b", probe.fit(X, Y), ABOUT)
    loaded = load_probe(tmp_path / f"a.b{ending}")
    assert type(loaded.estimator) is type(probe)
    assert (loaded.predict_proba(X) == probe.predict_proba(X)).all()
    assert (loaded.predict(X) == probe.predict(X)).all()
    assert (loaded.risk(X) == probe.predict_proba(X)[:, 1]).all()
    assert loaded.width == 5 and loaded.threshold is None
    assert loaded.metadata["representation"] == ABOUT["representation"]
    assert loaded.metadata["training"]["auroc"] is None
    with pytest.raises(ValueError, match="5 features"):
        loaded.predict_proba(X[:, :4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.json", "a.b.safetensors"]


def test_a_saved_mlp_scores_without_torch(tmp_path):
    probe = MLPProbe(hidden_sizes=(6,), max_epochs=2).fit(X, Y)
    save_probe(tmp_path / "m", probe, ABOUT)
    code = (
        f"{BLOCK_TORCH}"
        "import numpy as np; from halp_probe.probes.files import load_probe\n"
        f"print(load_probe({str(tmp_path / 'm')!r}).decision_function(np.ones((1, 5)))[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == probe.decision_function(np.ones((1, 5)))[0]


def test_an_mlp_of_version_0_1_0_is_read(tmp_path):
    """It holds one network without an axis of seeds, and knows fewer parameters."""
    probe = MLPProbe(hidden_sizes=(6, 4), max_epochs=2).fit(X, Y)
    expected = probe.predict_proba(X)
    probe.coefs_, probe.intercepts_ = ([array[0] for array in arrays] for arrays in (probe.coefs_, probe.intercepts_))
    save_probe(tmp_path / "old", probe, ABOUT)
    card = json.loads((tmp_path / "old.json").read_text())
    for name in ("seeds", "standardise", "norm_after_relu"):
        del card["parameters"][name]
    (tmp_path / "old.json").write_text(json.dumps(card))
    np.testing.assert_allclose(load_probe(tmp_path / "old").predict_proba(X), expected, rtol=1e-12)


def test_the_json_says_what_the_numbers_mean(stem):
    card = json.loads(stem.with_name("p.layer_3.json").read_text())
    assert card["format"] == "halp_probe.probe" and card["kind"] == "linear" and card["classes"] == [0, 1]
    assert card["label_meaning"].startswith("1 = the answer is hallucinated")


@pytest.mark.parametrize("kind", ["platt", "isotonic", "none"])
def test_calibration_and_threshold_are_saved_to_the_bit(tmp_path, kind):
    probe = LinearProbe().fit(X, Y)
    logit = X[:, 0].astype(np.float64)
    calibration = Calibration.fit(kind, logit, Y)
    threshold = threshold_for(calibration(logit), Y, np.arange(len(Y)), 0.6, DRAWS)
    save_probe(tmp_path / "p", probe, ABOUT, calibration, threshold)
    loaded = load_probe(tmp_path / "p")
    assert (loaded.calibration, loaded.threshold) == (calibration, threshold)
    expected = probe.predict_proba(X)[:, 1] if kind == "none" else calibration(probe.decision_function(X))
    assert (loaded.risk(X) == expected).all()


def test_a_threshold_that_was_not_found_stays_so(tmp_path):
    threshold = threshold_for(np.full(60, 0.5), Y, np.arange(60), 0.01, DRAWS)
    save_probe(tmp_path / "p", LinearProbe().fit(X, Y), ABOUT, None, threshold)
    loaded = load_probe(tmp_path / "p").threshold
    assert loaded is not None and not loaded.found and "of 60 questions on 60 images" in loaded.reason


def test_version_1_is_read(stem):
    """Files of 0.1.0: the same without calibration and threshold."""
    path = stem.with_name("p.layer_3.json")
    card = json.loads(path.read_text()) | {"format_version": 1}
    del card["calibration"], card["threshold"]
    path.write_text(json.dumps(card))
    loaded = load_probe(stem)
    assert (loaded.risk(X) == LinearProbe().fit(X, Y).predict_proba(X)[:, 1]).all() and loaded.threshold is None


def test_the_card_names_model_prompt_and_position(tmp_path):
    attributes = {"model_name": "a/b", "revision": "c0", "layers": [0, 3], "max_pixels": 50176, "device": "cpu"}
    card = vectors_card("vision_token_representation/layer_3", attributes)
    assert (card["position"], card["layer"]) == ("vision_token", 3) and "image token" in card["position_rule"]
    assert (card["model_name"], card["revision"], card["max_pixels"]) == ("a/b", "c0", 50176)
    assert card["min_pixels"] is None and "device" not in card
    save_probe(tmp_path / "p", LinearProbe().fit(X, Y), card)
    assert load_probe(tmp_path / "p").metadata.items() >= card.items()
    assert vectors_card("vision_only_representation", {})["layer"] is None


def test_the_top_level_finds_it():
    assert halp_probe.load_probe is load_probe
    assert {"load_probe", "open_shards", "RiskScorer"} <= set(dir(halp_probe))
    with pytest.raises(AttributeError, match="attribute nothing"):
        halp_probe.nothing  # noqa: B018


def test_tensors_of_another_probe_are_refused(stem):
    save_probe(stem.with_name("q"), LinearProbe().fit(X, 1 - Y), ABOUT)
    stem.with_name("q.safetensors").replace(stem.with_name("p.layer_3.safetensors"))
    with pytest.raises(ProbeError, match="sha256 differs"):
        load_probe(stem)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not a probe"),
        ({"format_version": 4}, "has version 4, this halp_probe reads up to 3"),
        ({"kind": "tree"}, "unknown kind 'tree'"),
        ({"kind": ["linear"]}, "unknown kind"),
        ({"kind": "mlp"}, "do not hold a mlp probe"),
    ],
)
def test_another_format_is_refused(stem, change, message):
    path = stem.with_name("p.layer_3.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ProbeError, match=message):
        load_probe(stem)


@pytest.mark.parametrize(
    "calibration",
    [
        {"kind": "plat"},  # would have been read as Platt's
        {"kind": "isotonic"},
        {"kind": "isotonic", "knots_logit": [0.0, 1.0], "knots_risk": [0.5]},
        {"kind": "platt", "slope": None},
        {"kind": "platt", "slope": "1"},
        {"other": 1},
        "platt",
    ],
)
def test_a_damaged_calibration_is_refused(stem, calibration):
    path = stem.with_name("p.layer_3.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": calibration}))
    with pytest.raises(ProbeError, match="train it again"):
        load_probe(stem)


def test_probes_of_an_earlier_run_go(tmp_path):
    card = {"format": "halp_probe.probe", "format_version": 1, "kind": "linear", "classes": [0, 1], "C": 1}
    for stem in ("old", "new"):
        (tmp_path / f"{stem}.json").write_text(json.dumps({**card, "parameters": {}, "tensors_sha256": ""}))
        (tmp_path / f"{stem}.safetensors").write_text("")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "other.safetensors").write_text("")
    remove_other_probes(tmp_path, ["new"])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["new.json", "new.safetensors", "notes.json", "other.safetensors"]


def test_missing_and_damaged_files_are_refused(stem):
    with pytest.raises(ProbeError, match="cannot be read"):
        load_probe(stem.with_name("none"))
    stem.with_name("p.layer_3.json").write_text("{")
    with pytest.raises(ProbeError, match="is not JSON"):
        load_probe(stem)
    stem.with_name("p.layer_3.json").write_text(json.dumps({"format": "halp_probe.probe", "format_version": 1}))
    with pytest.raises(ProbeError, match="lacks C, classes, kind"):
        load_probe(stem)


def test_a_file_is_replaced_and_never_rewritten(tmp_path):
    """Who has the old file open reads it to its end: nobody sees a half-written one."""
    path = tmp_path / "f"
    write_bytes(path, b"old")
    with path.open("rb") as old:
        write_bytes(path, b"new content")
        assert old.read() == b"old"
    assert path.read_bytes() == b"new content"
    with pytest.raises(TypeError):
        write_bytes(path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, why in ((tmp_path / "folder", "Is a directory"), (tmp_path / "file" / "f", "File exists")):
        with pytest.raises(InputError, match=f"cannot be written: {why}"):
            write_bytes(path, b"")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_stems():
    assert file_stem("query_token_representation/layer_7") == "query_token_representation_layer_7"
