"""Which interval and which number belongs to which score: what is easily mixed up and seldom seen."""

from __future__ import annotations

import pytest
from probes_fake import QUERY, VISION, labels_of, planted

import halp_probe.probes.transfer as transfer_module
from halp_probe.probes.files import load_probe
from halp_probe.probes.judging.intervals import MOST_SPREAD
from halp_probe.probes.nested import spread
from halp_probe.probes.saving import SELECTED_STEM, save_probes
from halp_probe.probes.study import Design, study


@pytest.fixture(scope="module")
def weak():
    """Nearly noise: the folds chose the query token more often, the vision mean is better over all folds."""
    shards, y = planted(90, auroc=0.55, seed=4)
    shards.texts["source"] = ["ab"[row % 2] for row in range(90)]
    return shards, y, study(shards, labels_of(shards, y), Design(bootstrap=30, folds=4, group_columns=("source",)))


def test_every_fitted_score_has_the_spread_of_its_own_models(weak):
    _, y, found = weak
    judgement, swept = found.judgement, found.sweep
    models = {"selected_probe": swept.selected.models, **{name: fit.models for name, fit in swept.fits.items()}}
    models |= {baseline.name: baseline.models for baseline in swept.baselines if baseline.models is not None}
    assert {"lookup_of_source", "question_text", "image_alone"} < set(models)
    for name, of_folds in models.items():
        result = judgement.result(name)
        assert result.spread == judgement.judged["auroc"][name].spread == spread(of_folds, y)
    assert judgement.result(QUERY).spread > 1
    assert judgement.result("first_token_entropy").spread == 1
    prevalence = {judgement.result(name).measures["prevalence"] for name in (QUERY, "first_token_entropy")}
    assert len(prevalence) == 1
    assert {result.spread for result in judgement.of_kind("control")} == {MOST_SPREAD}


def test_cells_of_transfer_have_it_too(weak, monkeypatch):
    shards, y, found = weak
    monkeypatch.setattr(transfer_module, "spread", lambda models, y: 0.01)
    narrow = study(shards, labels_of(shards, y), found.design)
    cells = [each.transfers[0].cells[0][1].auroc for each in (found, narrow)]
    assert cells[0].value == cells[1].value
    assert cells[0].high - cells[0].low > 50 * (cells[1].high - cells[1].low)


def test_the_selected_probe_is_the_best_over_all_and_quotes_the_nested_choice(weak, tmp_path):
    shards, _, found = weak
    assert (found.sweep.leading, found.sweep.best_over_all) == (QUERY, VISION)
    save_probes(tmp_path, found, shards.attributes, "labels.csv", None)
    card, of_vision = (load_probe(tmp_path / stem).metadata for stem in (SELECTED_STEM, VISION))
    assert card["representation"] == of_vision["representation"] == VISION
    quoted = [each["training"]["auroc"] for each in (card, of_vision)]
    assert quoted == [found.judgement.result(name).auroc.value for name in ("selected_probe", VISION)]
    assert quoted[0] != quoted[1]
