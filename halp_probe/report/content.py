"""Content of report.json: a study in plain JSON, with nothing that the page would have to compute.

Legend: N rows, T of them tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.probes.baselines import LOOKUP
from halp_probe.probes.features import FixedFolds
from halp_probe.probes.files import LABEL_MEANING
from halp_probe.probes.judging.groups import GroupResults
from halp_probe.probes.judging.measures import COVERAGE, MEASURES
from halp_probe.probes.names import MLP
from halp_probe.probes.nested_preset import NestedNumber
from halp_probe.probes.results import Added, Result
from halp_probe.probes.stability import PRECISION, Stability
from halp_probe.probes.study import Study
from halp_probe.probes.transfer import Transfer
from halp_probe.report.curve_points import curve_points, shifted_risks
from halp_probe.report.examples import examples
from halp_probe.version import __version__

FORMAT, FORMAT_VERSION = "halp_probe.report", 1


def report_content(study: Study, texts: Mapping[str, Sequence[str]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole of report.json.

    `texts` are N values each of image_id, question, answer and ground_truth_answer, where the shards have them;
    `about` has model_name, revision, shards, labels, seconds.
    """
    judgement, design = study.judgement, study.design
    best = judgement.best_baseline
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made": {
            "halp_probe_version": __version__,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "split": "image" if design.preset is None else "row",
            "fixed_split": None if study.rows.fixed is None else _fixed_split(study.rows.fixed),
            "folds": study.folds.count,
            "probe": MLP if design.preset else design.probe,
            **{name: getattr(design, name) for name in ("seed", "bootstrap", "preset", "calibration")},
            "seconds": about["seconds"],
        },
        "data": {
            **{name: about[name] for name in ("model_name", "revision", "shards", "labels")},
            "n": judgement.n,
            "n_positive": judgement.n_positive,
            "n_images": judgement.n_images,
            "images_told_by": study.rows.images_identified_by,
            "left_out": [
                {"reason": reason, "count": count}
                for reason, count in Counter(item.reason for item in study.rows.left_out).most_common()
            ],
            "label_meaning": LABEL_MEANING,
        },
        "headline": {
            **_named(judgement.headline),
            "auroc": estimate(judgement.headline.auroc),
            "best_baseline": {**_named(best), "auroc": estimate(best.auroc)} if best else None,
            "difference": estimate(judgement.difference(judgement.headline.name, best.name)) if best else None,
            "added": [_added(added) for added in judgement.added],
            "within": {column: estimate(grouped.macro) for column, grouped in study.groups.items()},
            "differences": _differences(study),
            "abstain": _abstain(study),
            "nested": None
            if study.nested is None
            else {"auroc": estimate(study.nested.auroc), **_nested(study.nested)},
            "note": judgement.headline.note,
        },
        "layer_map": _layer_map(study),
        "results": [_result(result, study) for result in judgement.results],
        "measures": [
            {
                "name": measure.name,
                "title": measure.title,
                "better": {True: "higher", False: "lower", None: None}[measure.higher_is_better],
                "note": measure.note,
            }
            for measure in MEASURES.values()
            if measure.name not in ("auroc", "prevalence")
        ],
        "curves": curve_points(study),
        "prevalence_shift": [_without_nan(each) for each in shifted_risks(study)],
        "groups": [_group(column, grouped, study) for column, grouped in study.groups.items()],
        "transfer": [_transfer(transfer) for transfer in study.transfers],
        "stability": None if study.stability is None else _stability(study.stability),
        "examples": examples(study, texts),
        "label_noise": _label_noise(study),
        "warnings": [asdict(finding) for finding in study.findings],
    }


def _nested(nested: NestedNumber) -> dict[str, Any]:
    return {"folds": nested.folds, "chosen": dict(nested.chosen)}


def _layer_map(study: Study) -> dict[str, Any]:
    layers = study.layers
    return {
        "best": layers.best,
        "above_chance": list(layers.above_chance),
        "rivals": list(layers.rivals),
        "widening": layers.widening,
        "widening_of_differences": layers.widening_of_differences,
    }


def _fixed_split(fixed: FixedFolds) -> dict[str, Any]:
    return {"column": fixed.column, "sha256": fixed.split, "questions": fixed.questions}


def _label_noise(study: Study) -> dict[str, Any]:
    noise, bounds = study.noise, study.noise.bounds
    return {
        "unknown_left_out": noise.left_out,
        "bounds": {
            name: {
                "unknown": each.unknown,
                "if_right": estimate(each.if_right),
                "if_wrong": estimate(each.if_wrong),
                "lowest": each.lowest,
                "highest": each.highest,
            }
            for name, each in bounds.items()
        },
        "corrected": None if noise.corrected is None else estimate(noise.corrected),
    }


def estimate(value: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON, with null for nan."""
    numbers = {name: _number(getattr(value, name)) for name in ("value", "low", "high")}
    return {**numbers, "note": value.note}


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested numbers with null for nan."""
    return {name: _without_nan(each) if isinstance(each, dict) else _number(each) for name, each in values.items()}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _named(result: Result) -> dict[str, str]:
    return {"name": result.name, "title": result.title}


def _result(result: Result, study: Study) -> dict[str, Any]:
    judgement = study.judgement
    against = [*judgement.of_kind("selected_baseline"), *judgement.of_kind("baseline")]
    compared = against if result.kind in ("selected", "representation", "fused") else []
    return {
        **_named(result),
        "kind": result.kind,
        "position": result.position,
        "layer": result.layer,
        "auroc": estimate(result.auroc),
        "minus": {other.name: estimate(judgement.difference(result.name, other.name)) for other in compared},
        "joint": estimate(study.layers.estimates[result.name]) if result.name in study.layers.estimates else None,
        "selected_in": result.selected_in,
        "chosen": [f"{value:g}" for value in result.chosen],
        "measures": {name: estimate(value) for name, value in result.measures.items()},
        "note": result.note,
    }


def _added(added: Added) -> dict[str, Any]:
    return {
        **{name: getattr(added, name) for name in ("stack", "title", "verdict")},
        "baselines": list(added.baselines),
        "joined": added.joined,
        **{name: estimate(getattr(added, name)) for name in ("without", "with_probe", "gain")},
        "p_value": _number(added.p_value),
    }


def _stability(found: Stability) -> dict[str, Any]:
    curve = found.curve
    points = [*curve.points, *([curve.forecast] if curve.forecast else [])]
    return {
        "representation": found.representation,
        "curve": [{"images": point.images, "auroc": estimate(point.auroc)} for point in points],
        "has_forecast": curve.forecast is not None,
        "precision": PRECISION,
        "images_for_precision": curve.images_for_precision,
        "other_folds": list(found.other_folds),
        "left_out": [
            {
                "column": each.column,
                "mean": estimate(each.mean),
                "groups": {name: estimate(value) for name, value in each.by_group.items()},
            }
            for each in found.left_out
        ],
    }


def _abstain(study: Study) -> dict[str, Any]:
    """Estimate the gain from leaving the riskiest fifth unanswered, in each fold by its own scores."""
    judgement, best = study.judgement, study.judgement.best_baseline

    def reduction(name: str) -> Estimate:
        return judgement.judged["prevalence"][name].minus(judgement.judged["error_80"][name])

    name = judgement.headline.name
    before, after = (judgement.judged[measure][name] for measure in ("prevalence", "error_80"))
    return {
        "share": 1 - COVERAGE,
        "error_before": estimate(before.estimate),
        "error_after": estimate(after.estimate),
        "reduction": estimate(reduction(name)),
        "baseline": None
        if best is None
        else {
            **_named(best),
            "reduction": estimate(reduction(best.name)),
            "gain": estimate(judgement.difference(best.name, name, "error_80")),
        },
    }


def _differences(study: Study) -> dict[str, Any]:
    """Return for each measure that both have how much more the headline probe has than its best baseline, paired."""
    judgement, best = study.judgement, study.judgement.best_baseline
    if best is None:
        return {}
    both = [name for name, judged in judgement.judged.items() if {judgement.headline.name, best.name} <= judged.keys()]
    return {
        measure: estimate(judgement.difference(judgement.headline.name, best.name, measure))
        for measure in both
        if MEASURES[measure].higher_is_better is not None
    }


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "column": transfer.column,
        "representation": transfer.most_chosen,
        "chosen": [dict(counts) for counts in transfer.chosen],
        "values": list(transfer.values),
        "cells": [[{**asdict(cell), "auroc": estimate(cell.auroc)} for cell in row] for row in transfer.cells],
    }


def _group(column: str, grouped: GroupResults, study: Study) -> dict[str, Any]:
    return {
        "column": column,
        "rows": [{**asdict(group), "auroc": estimate(group.auroc)} for group in grouped.groups],
        "macro": estimate(grouped.macro),
        "one_label": None
        if (alone := grouped.one_label) is None
        else {
            "values": [group.value for group in alone.groups],
            "share": alone.share,
            "auroc_without": estimate(alone.auroc_without),
        },
        "prior": estimate(study.judgement.result(LOOKUP + column).auroc),
    }
