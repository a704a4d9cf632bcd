"""How often fused probes and the verdict "does the probe add anything?" are right, on data whose truth is known.

    python benchmarks/fusion_truth.py --seeds 100

Each seed is a study of 600 questions on 200 images (1,500 on 500 for the split signal): the model's entropy, four
layers of 12 numbers, and a label that depends on what the case says. Printed: how many intervals hold the truth, and
the mean of what was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit

from halp_probe.bootstrap import Estimate
from halp_probe.probes.added import ALL_BASELINES
from halp_probe.probes.design import Design
from halp_probe.probes.fusion.names import fused_name
from halp_probe.probes.judging.metrics import auroc
from halp_probe.probes.names import FUSIONS
from halp_probe.probes.study import Study, study


@dataclass(frozen=True, kw_only=True)
class PlantedShards:
    """Questions in memory; what a study reads of shards."""

    question_ids: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    columns: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=lambda: {"model_name": "planted"})

    @property
    def representations(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    @property
    def text_columns(self) -> tuple[str, ...]:
        return tuple(self.texts)

    def has(self, name: str) -> bool:
        return name in self.texts or name in self.columns

    def text(self, name: str) -> list[str]:
        return self.texts[name]

    def numbers(self, name: str) -> np.ndarray:
        return self.columns[name]

    def vectors(self, representation: str) -> np.ndarray:
        return self.arrays[representation]


PER_IMAGE, WIDTH, LAYERS = 3, 12, (0, 7, 14, 21)


def planted_study(weights: Mapping[str, float], seed: int) -> Study:
    """Return a study of labels with log-odds of these weights: `entropy`, `state` (layer 7), `split` (two layers)."""
    rng = np.random.default_rng(seed)
    n = PER_IMAGE * (500 if "split" in weights else 200)
    entropy, state, split, shared = rng.standard_normal((4, n))
    log_odds = sum(weights.get(k, 0) * v for k, v in {"entropy": entropy, "state": state, "split": split}.items())
    y = (rng.random(n) < expit(log_odds - 0.3)).astype(int)
    vectors = {layer: rng.standard_normal((n, WIDTH)) for layer in LAYERS}
    if "state" in weights:
        vectors[7][:, 0] = state
    if "split" in weights:  # both layers carry the same large noise, one with the other sign: each alone says little
        vectors[7] = (4.4 * shared + split)[:, None] + 0.1 * vectors[7]
        vectors[14] = (-4.4 * shared + split)[:, None] + 0.1 * vectors[14]
    images = [str(row // PER_IMAGE) for row in range(n)]
    shards = PlantedShards(
        question_ids=tuple(f"q{row}" for row in range(n)),
        arrays={f"query_token_representation/layer_{k}": v.astype(np.float32) for k, v in vectors.items()},
        texts={"image_id": images, "image_sha256": [f"{image:0>64}" for image in images]},
        columns={"first_token_entropy": entropy},
    )
    labels: dict[str, int | None] = {q: int(label) for q, label in zip(shards.question_ids, y, strict=True)}
    return study(shards, labels, Design(bootstrap=400, seed=seed))


def optimum(weights: Mapping[str, float], known: tuple[str, ...]) -> float:
    """Return the AUROC that the best score of the `known` parts reaches on very many questions."""
    rng = np.random.default_rng(0)
    parts = {name: rng.standard_normal(1_000_000) for name in weights}
    y = (rng.random(1_000_000) < expit(sum(w * parts[name] for name, w in weights.items()) - 0.3)).astype(int)
    return auroc(sum((weights[name] * parts[name] for name in known), np.zeros(len(y))), y)


def gain(found: Study) -> Estimate:
    """Return what the probe adds to all baselines."""
    return next(each.gain for each in found.judgement.added if each.stack == ALL_BASELINES)


def _one(case: tuple[dict[str, float], int]) -> dict[str, tuple[float, float, float]]:
    found = planted_study(*case)
    best = max((r.auroc for r in found.judgement.of_kind("representation")), key=lambda each: each.value)
    estimates = {"best layer": best, "gain": gain(found)}
    for way in FUSIONS:
        for confidence in (False, True):
            name = fused_name(way, confidence=confidence)
            estimates[name] = found.judgement.result(name).auroc
    return {name: (each.value, each.low, each.high) for name, each in estimates.items()}


def _report(title: str, weights: dict[str, float], truth: Callable[[str], float | None], seeds: int) -> None:
    with ProcessPoolExecutor(2) as pool:
        runs = list(pool.map(_one, [(weights, seed) for seed in range(seeds)]))
    print(f"\n{title}")
    for name in runs[0]:
        values = np.array([run[name] for run in runs])  # [seeds, 3]
        line = f"  {name:36} mean {values[:, 0].mean():+.3f}, least {values[:, 0].min():+.3f}"
        if (expected := truth(name)) is not None:
            held = int(((values[:, 1] <= expected) & (expected <= values[:, 2])).sum())
            line += f"; {expected:.3f} held by {held} of {seeds} intervals"
        if name == "gain":
            line += f"; above 0 in {int((values[:, 1] > 0).sum())}, below in {int((values[:, 2] < 0).sum())}"
        print(line)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    independent = {"entropy": 1.0, "state": 1.2}
    added = optimum(independent, ("entropy", "state")) - optimum(independent, ("entropy",))
    _report("noise: no fusion finds anything", {}, lambda name: 0.0 if name == "gain" else 0.5, seeds)
    _report("the signal is the entropy", {"entropy": 1.2}, lambda name: 0.0 if name == "gain" else None, seeds)
    _report("a signal beside the entropy", independent, lambda name: added if name == "gain" else None, seeds)
    _report("a signal split over two layers", {"split": 2.5}, lambda name: None, seeds)


if __name__ == "__main__":
    main()
