"""python benchmarks/probes.py

Times a nested sweep of one representation by the batched solver against the same loop over scikit-learn's float32
LogisticRegression(lbfgs), and compares what they found. Synthetic rows whose k-th variance is k to the power of
-decay, in random directions and units: decaying, as hidden states are, and flat, where there is little to gain. Takes
a quarter of an hour at the default size on two cores; `--check` only compares, at a small size, in seconds.

Legend: N rows, D width, K folds, S strengths, R training sets.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import sklearn
from figures import add_json, write_figures
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from halp_probe.distances import relative_distance
from halp_probe.probes.fitting.estimators import STRENGTHS
from halp_probe.probes.fitting.solver import Solutions, solve_logistic

Left = frozenset[int]  # the folds that a training set leaves out: one, or one and an inner one


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is swept."""

    X: np.ndarray  # [N, D] float32
    y: np.ndarray  # [N]
    fold: np.ndarray  # [N]
    count: int  # K
    max_iter: int  # of scikit-learn

    def kept(self, left: Left) -> np.ndarray:
        """[N] bool: the training rows."""
        return ~np.isin(self.fold, list(left))

    def auroc(self, fold: int, logit: np.ndarray) -> float:
        rows = self.fold == fold
        return float(roc_auc_score(self.y[rows], logit[rows]))


@dataclass(kw_only=True)
class Found:
    """One way's results: inner AUROCs by (outer fold, inner fold, C), coefficients by (left-out folds, C)."""

    seconds: float = 0.0
    shared_seconds: float = 0.0  # the same without fitting a pair of folds twice
    inner: dict[tuple[int, int, float], float] = field(default_factory=dict)
    outer: dict[int, float] = field(default_factory=dict)  # AUROC of the chosen C
    chosen: dict[int, float] = field(default_factory=dict)
    coef: dict[tuple[Left, float], np.ndarray] = field(default_factory=dict)
    iterations: dict[float, list[int]] = field(default_factory=dict)  # of each fit, by C
    problems: int = 0


def made(rows: int, width: int, folds: int, decay: float, max_iter: int) -> Task:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((rows, width), dtype=np.float32)
    directions = np.linalg.qr(rng.standard_normal((width, width), dtype=np.float32))[0]
    rank = np.arange(1, width + 1, dtype=np.float32)
    X = (latent * rank ** (-decay / 2)) @ directions.T
    X = X * np.exp(0.7 * rng.standard_normal(width, dtype=np.float32)) + rng.standard_normal(width, dtype=np.float32)
    score = latent @ (rng.standard_normal(width, dtype=np.float32) * rank**-0.5)
    y = (rng.random(rows) < 1 / (1 + np.exp(0.8 - 1.5 * score / score.std()))).astype(int)
    fold = np.empty(rows, dtype=int)
    for number, (_, test) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=0).split(X, y)):
        fold[test] = number
    return Task(X=X.astype(np.float32), y=y, fold=fold, count=folds, max_iter=max_iter)


def nested(count: int) -> Iterator[tuple[int, list[int]]]:
    """Each outer fold and the inner folds of its training rows: the other outer folds."""
    for outer in range(count):
        yield outer, [inner for inner in range(count) if inner != outer]


def by_scikit_learn(task: Task) -> Found:
    """The plain loop; a pair of folds comes up twice, once from either side, and is fitted twice."""
    found, seen = Found(), set()
    begin = time.perf_counter()
    for outer, inners in nested(task.count):
        for inner in inners:
            left = frozenset((outer, inner))
            start = time.perf_counter()
            for C, logit in fitted(task, left, STRENGTHS, found):
                found.inner[outer, inner, C] = task.auroc(inner, logit)
            found.shared_seconds += (time.perf_counter() - start) * (left not in seen)
            seen.add(left)
        start = time.perf_counter()
        C = choose(found, outer, inners)
        (logit,) = (logit for _, logit in fitted(task, frozenset([outer]), (C,), found))
        found.chosen[outer], found.outer[outer] = C, task.auroc(outer, logit)
        found.shared_seconds += time.perf_counter() - start
    found.seconds = time.perf_counter() - begin
    return found


def fitted(task: Task, left: Left, Cs: Sequence[float], found: Found) -> Iterator[tuple[float, np.ndarray]]:
    """Log-odds [N] at each C of the rows not trained on (0 elsewhere)."""
    train = task.kept(left)
    scaler = StandardScaler()
    inputs, others = scaler.fit_transform(task.X[train]), scaler.transform(task.X[~train])
    for C in Cs:
        model = LogisticRegression(C=C, max_iter=task.max_iter).fit(inputs, task.y[train])
        found.coef[left, C] = model.coef_[0]
        found.iterations.setdefault(C, []).append(int(model.n_iter_[0]))
        found.problems += 1
        logit = np.zeros(len(task.y))
        logit[~train] = model.decision_function(others)
        yield C, logit


def by_solver(task: Task, device: str | None, *, share: bool) -> Found:
    """One batch; `share`: a pair of folds is one training set, whichever of the two is the outer one."""
    found = Found()
    begin = time.perf_counter()
    singles = [frozenset([outer]) for outer in range(task.count)]
    pairs = [frozenset(pair) for pair in combinations(range(task.count), 2)]
    sets = singles + (pairs if share else pairs * 2)
    solved = solve_logistic(task.X, task.y, np.stack([task.kept(left) for left in sets]), STRENGTHS, device=device)
    row = {left: r for r, left in enumerate(sets)}
    for outer, inners in nested(task.count):
        for inner in inners:
            for C, logit in zip(STRENGTHS, solved.logit[row[frozenset((outer, inner))]], strict=True):
                found.inner[outer, inner, C] = task.auroc(inner, logit)
        C = choose(found, outer, inners)
        logit = solved.logit[row[frozenset([outer])], STRENGTHS.index(C)]
        found.chosen[outer], found.outer[outer] = C, task.auroc(outer, logit)
    found.seconds = found.shared_seconds = time.perf_counter() - begin
    record(found, solved, sets)
    return found


def record(found: Found, solved: Solutions, sets: Sequence[Left]) -> None:
    for s, C in enumerate(STRENGTHS):
        found.iterations[C] = solved.iterations[:, s].tolist()
        for r, left in enumerate(sets):
            found.coef[left, C] = solved.coef[r, s]
    found.problems = solved.iterations.size


def choose(found: Found, outer: int, inners: Sequence[int]) -> float:
    return max(STRENGTHS, key=lambda C: np.mean([found.inner[outer, inner, C] for inner in inners]))


def auroc_gap(a: Found, b: Found) -> float:
    """The largest difference of an inner AUROC, or of an outer one at the same C."""
    gaps = [abs(value - b.inner[key]) for key, value in a.inner.items()]
    return max(gaps + [abs(a.outer[k] - b.outer[k]) for k in a.outer if a.chosen[k] == b.chosen[k]])


def coefficient_gap(a: Found, b: Found, C: float) -> float:
    """The largest ‖difference‖ / ‖coefficients of b‖ at this C."""
    both = [key for key in a.coef if key in b.coef and key[1] == C]
    return max(float(relative_distance(a.coef[key], b.coef[key])) for key in both)


LOOP, SHARED_LOOP = "scikit-learn, plain loop", "scikit-learn, each pair of folds once"
OURS, UNSHARED = "solver", "solver, each pair of folds twice"


def print_report(task: Task, runs: dict[str, list[Found]]) -> None:
    best = {name: min(found.seconds for found in runs[name]) for name in runs}
    best[SHARED_LOOP] = min(found.shared_seconds for found in runs[LOOP])
    loop, ours = runs[LOOP][0], runs[OURS][0]
    pairs = task.count * (task.count - 1) // 2
    fits = {name: runs[name][0].problems for name in runs} | {SHARED_LOOP: pairs * len(STRENGTHS) + task.count}
    print(f"{'':40} {'fits':>5} {'s':>8} {'× solver':>9}")
    for name in (LOOP, SHARED_LOOP, OURS, UNSHARED):
        print(f"{name:40} {fits[name]:5} {best[name]:8.2f} {best[name] / best[OURS]:9.1f}")
    print(f"\n{'C':>8} {'lbfgs iterations':>18} {'ours':>6} {'coefficients differ':>20}")
    for C in STRENGTHS:
        lbfgs = loop.iterations[C]
        gap = f"{coefficient_gap(ours, loop, C):.1e}"
        print(f"{C:8g} {f'{min(lbfgs)}–{max(lbfgs)}':>18} {max(ours.iterations[C]):6} {gap:>20}")
    products = sum(2 * i + 3 for rounds in ours.iterations.values() for i in rounds) / ours.problems
    print(f"\nproducts of all problems with the inputs: {products:.0f}")
    print(f"largest difference of an AUROC: {auroc_gap(ours, loop):.1e}; where scikit-learn stops early, the")
    print("coefficients differ by its error: the solver's own is bounded by its tolerance (tests compare the optima)")


def report(args: argparse.Namespace, decay: float, runs: dict[str, list[Found]]) -> dict[str, Any]:
    """The figures of the ways that have run so far, on one spectrum."""
    settings = {name: getattr(args, name) for name in ("rows", "width", "folds", "max_iter", "device")}
    ways = {
        name: {
            "fits": found[0].problems,
            "seconds": [each.seconds for each in found],
            "shared_seconds": [each.shared_seconds for each in found],
        }
        for name, found in runs.items()
        if found
    }
    figures = {**settings, "decay": decay, "numpy": np.__version__, "scikit_learn": sklearn.__version__, "ways": ways}
    if runs[OURS] and runs[LOOP]:
        loop, ours = runs[LOOP][0], runs[OURS][0]
        figures["largest_auroc_difference"] = auroc_gap(ours, loop)
        figures["coefficient_difference_by_C"] = {C: coefficient_gap(ours, loop, C) for C in STRENGTHS}
    return figures


def check(task: Task, device: str | None) -> None:
    """Exit with status 1 where the ways do not agree."""
    loop = by_scikit_learn(task)
    for share in (True, False):
        gap = auroc_gap(by_solver(task, device, share=share), loop)
        if gap > 2e-3:
            raise SystemExit(f"AUROCs differ by {gap:.2g}")
    print("the solver and scikit-learn agree")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[1], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8000, help="N")
    parser.add_argument("--width", type=int, default=3584, help="D")
    parser.add_argument("--folds", type=int, default=5, help="K outer folds; the others are the inner folds")
    parser.add_argument(
        "--decay", type=float, nargs="+", default=[1.5, 0.0], help="the k-th variance is k to the power of minus this"
    )
    parser.add_argument("--max-iter", type=int, default=1000, help="of scikit-learn")
    parser.add_argument("--repeat", type=int, default=1, help="interleaved; the best of each way counts")
    parser.add_argument("--device", help="cpu or cuda: torch on that device; not given: numpy")
    add_json(parser)
    parser.add_argument("--check", action="store_true", help="400 rows of width 30: compare, and print no times")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")  # the table tells how many iterations it had
    if args.check:
        for decay in args.decay:
            check(made(400, 30, 4, decay, args.max_iter), args.device)
        return
    figures: list[dict[str, Any]] = []
    for decay in args.decay:
        compare(args, decay, figures)


def compare(args: argparse.Namespace, decay: float, figures: list[dict[str, Any]]) -> None:
    """Time all ways on one spectrum; `figures` gets theirs, and holds those of the spectra before."""
    task = made(args.rows, args.width, args.folds, decay, args.max_iter)
    threads = max(pool["num_threads"] for pool in threadpool_info())
    print(
        f"{args.rows:,} rows of width {args.width:,} float32, {args.folds} folds, variances k^-{decay:g}, "
        f"{threads} threads, best of {args.repeat}; solver on {args.device or 'numpy'}; "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}; load {os.getloadavg()[0]:.1f} before",
        flush=True,
    )
    if args.device:  # its libraries load at the first use
        by_solver(made(700, 650, 3, decay, args.max_iter), args.device, share=True)
    ways = {
        OURS: lambda: by_solver(task, args.device, share=True),
        UNSHARED: lambda: by_solver(task, args.device, share=False),
        LOOP: lambda: by_scikit_learn(task),
    }
    runs: dict[str, list[Found]] = {name: [] for name in ways}
    for _ in range(args.repeat):
        for name, way in ways.items():
            runs[name].append(way())
            write_figures(args.json, [*figures, report(args, decay, runs)])
    figures.append(report(args, decay, runs))
    print(f"load {os.getloadavg()[0]:.1f} after\n")
    print_report(task, runs)
    print()


if __name__ == "__main__":
    main()
