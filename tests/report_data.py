"""The content of a `report.json` as a sweep of ShapesVQA would leave it, and one in which nothing could be measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import precision_recall_curve, roc_curve

LAYERS = (0, 2, 3, 4, 5)
N, PREVALENCE = 3000, 0.174
BASELINES = {
    "question_text": ("question text", 0.605),
    "first_token_entropy": ("first token entropy", 0.869),
    "answer_logprob": ("answer log-probability", 0.842),
    "prior_source": ("prior of source", 0.541),
}
MEASURES = {
    "auprc": ("AUPRC", "higher", "mean over test folds; chance = prevalence 0.174"),
    "fpr95": ("FPR at 95 % TPR", "lower", "right answers flagged when 95 % of the wrong ones are"),
    "aurc": ("AURC", "lower", "area under the risk-coverage curve"),
    "prr": ("PRR", "higher", "1 = the order of an oracle, 0 = any order"),
    "brier": ("Brier", "lower", ""),
    "ece": ("ECE", "lower", "bins of equal mass"),
}


def estimate(value: float | None, half: float = 0.015, note: str = "") -> dict[str, Any]:
    """With an interval of twice `half`, when there is a value."""
    low, high = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "note": note}


def result(kind: str, name: str, title: str, auroc: float | None, **changes: Any) -> dict[str, Any]:
    minus = (
        {} if auroc is None else {b: estimate(auroc - value, 0.02) for b, (_, value) in BASELINES.items() if b != name}
    )
    return {
        "name": name,
        "title": title,
        "kind": kind,
        "position": None,
        "layer": None,
        "auroc": estimate(auroc, note="" if auroc is not None else "the shards have no such column"),
        "minus": minus,
        "selected_in": None,
        "chosen": [],
        "measures": {},
        "note": "",
    } | changes


def representations(layers: Sequence[int]) -> list[dict[str, Any]]:
    """The two image means, and both token positions at every layer: rising to the last."""
    made = [
        result("representation", f"{name}_representation", name.replace("_", " "), auroc, position=name, selected_in=0)
        for name, auroc in (("vision_only", 0.859), ("vision_encoder", 0.851))
    ]
    for position, first, last in (("vision_token", 0.842, 0.861), ("query_token", 0.497, 0.907)):
        for k, layer in enumerate(layers):
            auroc = first + (last - first) * (k + 1) / len(layers)
            name, title = f"{position}_representation/layer_{layer}", f"{position.replace('_', ' ')}, layer {layer}"
            place = {"position": position, "layer": layer, "selected_in": 0, "chosen": ["0.001", "0.01"]}
            made.append(result("representation", name, title, auroc, **place))
    made[-1] |= {"selected_in": 4, "chosen": ["0.001", "0.001", "0.01", "0.001", "0.001"]}
    made[-2] |= {"selected_in": 1}
    return made


def results(layers: Sequence[int] = LAYERS) -> list[dict[str, Any]]:
    selected = result("selected", "selected_probe", "selected probe", 0.9046, chosen=["query_token, layer 5"] * 5)
    measured = (0.71, 0.41, 0.052, 0.73, 0.083, 0.021)
    selected["measures"] = {name: estimate(v, 0.02) for name, v in zip(MEASURES, measured, strict=True)}
    baselines = [result("baseline", name, title, auroc) for name, (title, auroc) in BASELINES.items()]
    baselines[1]["measures"] = {"auprc": estimate(0.61, 0.03), "prr": estimate(-0.0004, 0.04)}
    missing = result("baseline", "answer_length", "answer length", None)
    control = result("control", "shuffled_labels", "shuffled labels", 0.504, minus={}, note="judged by its own labels")
    return [selected, *representations(layers), *baselines, missing, control]


def curves() -> dict[str, Any]:
    """From simulated scores."""
    rng = np.random.default_rng(0)
    wrong = (rng.random(N) < PREVALENCE).astype(int)  # [N]
    made: dict[str, Any] = {"roc": [], "pr": [], "risk_coverage": []}
    for title, strength in (("selected probe", 1.9), ("first token entropy", 1.55), ("question text", 0.4)):
        score = rng.normal(size=N) + strength * wrong
        false, true, _ = roc_curve(wrong, score)
        precision, recall, _ = precision_recall_curve(wrong, score)
        coverage = np.arange(1, N + 1)[49::25] / N
        risk = (wrong[np.argsort(score)].cumsum() / np.arange(1, N + 1))[49::25]
        band = (
            {"low": None, "high": None}
            if made["roc"]
            else {"low": (risk * 0.8).tolist(), "high": (risk * 1.2).tolist()}
        )
        made["roc"].append({"title": title, "x": false.tolist(), "y": true.tolist()})
        made["pr"].append({"title": title, "x": recall.tolist(), "y": precision.tolist()})
        made["risk_coverage"].append({"title": title, "x": coverage.tolist(), "y": risk.tolist(), **band})
    risk = np.array([0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.16, 0.27, 0.44, 0.71])
    rate = risk * np.linspace(0.6, 1.1, 10)
    half = np.sqrt(rate * (1 - rate) / 300) * 2
    made["calibration"] = {
        "risk": risk.tolist(),
        "rate": rate.tolist(),
        "low": (rate - half).clip(0).tolist(),
        "high": (rate + half).clip(0, 1).tolist(),
        "count": [300] * 10,
    }
    return made


def groups() -> list[dict[str, Any]]:
    rows = [
        {"value": value, "n": 500, "n_positive": 80 - 9 * k, "n_images": 120, "auroc": estimate(0.93 - 0.02 * k, 0.03)}
        for k, value in enumerate(("colour", "count", "shape", "size"))
    ]
    rare = {"value": "where", "n": 12, "n_positive": 0, "n_images": 9, "auroc": estimate(None, note="no wrong answer")}
    return [{"column": "category", "rows": [*rows, rare], "macro": estimate(0.9), "prior": estimate(0.541)}]


def transfer(values: Sequence[str] = ("colour", "count", "shape", "size")) -> list[dict[str, Any]]:
    cells = [
        [
            {
                "auroc": estimate(0.92 - 0.11 * abs(i - j), 0.04)
                if j < 3
                else estimate(None, note="fewer than 10 wrong"),
                "n_train": 1200,
                "n_test": 100,
                "n_test_positive": 20 if j < 3 else 7,
            }
            for j in range(len(values))
        ]
        for i in range(len(values))
    ]
    return [{"column": "category", "representation": "query token, layer 5", "values": list(values), "cells": cells}]


def examples() -> dict[str, Any]:
    texts = [
        ("How many circles are there in the picture?", "There are 4.", "3"),
        ("Is the small triangle to the left of the largest of the blue squares?", "Yes.", "no"),
        ("What colour is the star?", "The star is green.", "blue"),
        ("Which shape is the largest, and what colour does it have?", "The largest shape is the red square.", "circle"),
    ]
    rows = [
        {
            "question_id": f"q{k:04d}",
            "image_id": f"scene_{k}.png",
            "question": question,
            "answer": answer,
            "truth": truth,
            "risk": 0.973 - 0.021 * k,
            "label": int(k != 2),
        }
        for k, (question, answer, truth) in enumerate(texts)
    ]
    calm = [row | {"question_id": f"q{k}", "risk": 0.004 + k / 1000, "label": 0} for k, row in enumerate(rows)]
    return {"most_risky": rows, "least_risky": calm}


def full_report(**changes: Any) -> dict[str, Any]:
    """Everything measured; `changes` replace whole parts."""
    return {
        "format": "halp_probe.report",
        "format_version": 1,
        "made": {
            "halp_probe_version": "0.2.0",
            "date": "2026-11-21T12:00:00Z",
            "seed": 0,
            "bootstrap": 1000,
            "folds": 5,
            "split": "image",
            "probe": "linear",
            "preset": None,
            "calibration": "platt",
            "seconds": 4.2,
        },
        "data": {
            "model_name": "shapes",
            "revision": "0f3c9a1",
            "shards": "demo_output/shards",
            "labels": "demo_output/labels.csv",
            "n": N,
            "n_positive": 521,
            "n_images": 500,
            "images_told_by": "content (image_sha256)",
            "left_out": [{"reason": "label unknown", "count": 12}],
            "label_meaning": "1 = hallucinated: the answer was judged wrong; 0 = right",
        },
        "headline": {
            "name": "selected_probe",
            "title": "selected probe",
            "auroc": estimate(0.9046),
            "best_baseline": {"name": "first_token_entropy", "title": "first token entropy", "auroc": estimate(0.8688)},
            "difference": estimate(0.0358, 0.0187),
            "abstain": {
                "share": 0.2,
                "error_before": estimate(0.1737, 0.013),
                "error_after": estimate(0.0614, 0.009),
                "reduction": estimate(0.1123, 0.011),
            },
            "note": "",
        },
        "results": results(),
        "measures": [{"name": n, "title": t, "better": b, "note": note} for n, (t, b, note) in MEASURES.items()],
        "curves": curves(),
        "groups": groups(),
        "transfer": transfer(),
        "examples": examples(),
        "warnings": [
            {"level": "note", "text": "12 questions have no label and were left out."},
            {"level": "caution", "text": "Only 12 wrong answers are in fold 3."},
            {
                "level": "serious",
                "text": "A lookup of `source` reaches .83: above every probe on vision representations.",
            },
        ],
    } | changes


def empty_report() -> dict[str, Any]:
    """Every list empty, every number missing."""
    nothing = estimate(None, note="no question has a label")
    report = full_report(results=[], measures=[], groups=[], transfer=[], warnings=[])
    report["data"] |= {"n": 0, "n_positive": 0, "n_images": 0, "left_out": [], "revision": ""}
    report["headline"] |= {"auroc": nothing, "best_baseline": None, "difference": None, "abstain": None}
    report["curves"] = {"roc": [], "pr": [], "risk_coverage": [], "calibration": None}
    report["examples"] = {"most_risky": [], "least_risky": []}
    return report


def pictures() -> dict[str, bytes]:
    """A JPEG for each example but the last."""
    made = {}
    for k in range(3):
        buffer = io.BytesIO()
        Image.new("RGB", (120, 90), (60 * k, 90, 160)).save(buffer, format="JPEG")
        made[f"scene_{k}.png"] = buffer.getvalue()
    return made
