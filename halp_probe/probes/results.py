"""Results of a sweep: each representation, the selected probe, each baseline and control, and how they differ.

Legend: N rows, T of them tested, K folds, B bootstrap draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from halp_probe.bootstrap import Draws, Estimate, join_notes
from halp_probe.probes.added import (
    ALL_BASELINES,
    AND_PROBE,
    EARLY_BASELINES,
    SELECTED_BASELINE,
    STATELESS_BASELINES,
    AddedScores,
)
from halp_probe.probes.controls import RANDOM_BY_IMAGE, Control
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.fitting.splits import Folds
from halp_probe.probes.judging.intervals import MOST_SPREAD
from halp_probe.probes.judging.measures import MEASURES
from halp_probe.probes.judging.metrics import MeasuredScore, judge, judge_measures
from halp_probe.probes.judging.rows import Rows
from halp_probe.probes.nested import CrossFit, spread
from halp_probe.probes.sweep import Sweep
from halp_probe.shards.names import is_representation, layer_of

SELECTED = "selected_probe"
SAME_SCORES = "both are the same scores, so there is no difference to judge"
_OF_SCORES = tuple(name for name, measure in MEASURES.items() if not measure.needs_probability)
_OF_RISKS = tuple(name for name, measure in MEASURES.items() if measure.needs_probability)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one score: how well it separates hallucinated from right answers."""

    name: str
    kind: str  # selected, representation, fused, selected_baseline, baseline, baseline_stack or control
    auroc: Estimate
    measures: Mapping[str, Estimate] = field(default_factory=dict)  # the others of MEASURES
    selected_in: int | None = None  # folds that chose it, of a representation
    chosen: tuple[float, ...] = ()  # candidate of each fold
    spread: float = 1.0  # by which the bootstrap's standard deviation is multiplied in intervals: see refit_spread
    is_known_afterwards: bool = False  # only when the answer is written: no rival of a probe that comes before
    called: str = ""  # its title, where the name does not say what was chosen
    note: str = ""  # why a number is missing, or what it means

    @property
    def position(self) -> str | None:
        """Position vision_only, vision_encoder, vision_token or query_token; None for others, features too."""
        placed = self.kind == "representation" and is_representation(self.name)
        return self.name.split("/")[0].removesuffix("_representation") if placed else None

    @property
    def layer(self) -> int | None:
        """Layer of the representation; None for what has no layer."""
        return layer_of(self.name)

    @property
    def title(self) -> str:
        """Name in words."""
        if self.called:
            return self.called
        words = (self.position or self.name).replace("_", " ")
        if self.is_known_afterwards:
            words += " (known afterwards)"
        return words if self.layer is None else f"{words}, layer {self.layer}"


@dataclass(frozen=True, kw_only=True)
class Added:
    """Gain of a stack of baselines by the selected probe, in AUROC."""

    stack: str  # all_baselines, early_baselines or baselines_without_states
    baselines: tuple[str, ...]
    joined: int  # folds whose inner folds took the probe into the stack
    without: Estimate
    with_probe: Estimate
    gain: Estimate  # paired
    p_value: float  # two-sided, of no gain

    @property
    def title(self) -> str:
        """The stack in words."""
        return {
            ALL_BASELINES: "all baselines",
            EARLY_BASELINES: "the baselines known before the first token",
            STATELESS_BASELINES: "the baselines that read no hidden state",
        }[self.stack]

    @property
    def verdict(self) -> str:
        """`adds`, `adds nothing that shows`, or `takes away`, by the interval of the gain."""
        if self.gain.low > 0:
            return "adds"
        return "takes away" if self.gain.high < 0 else "adds nothing that shows"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Results of all scores on the same rows, and what they were made from."""

    results: tuple[Result, ...]  # the selected probe, representations in reading order, baselines, controls
    scores: Mapping[str, np.ndarray]  # name -> [N] out-of-fold score, controls left out
    judged: Mapping[str, Mapping[str, MeasuredScore]]  # measure -> name -> on the same draws
    added: tuple[Added, ...] = ()  # to all baselines, then to those known before the first token; none without folds
    n: int  # T
    n_positive: int
    n_images: int

    def of_kind(self, kind: str) -> list[Result]:
        """Return the results of one kind, in order."""
        return [result for result in self.results if result.kind == kind]

    def result(self, name: str) -> Result:
        """Return the result of this name."""
        return next(result for result in self.results if result.name == name)

    @property
    def headline(self) -> Result:
        """Result of the selected probe; without one, of the representation that is best on the rows that judge it."""
        selected = self.of_kind("selected")
        return selected[0] if selected else _best(self.of_kind("representation"))

    @property
    def best_baseline(self) -> Result | None:
        """Baseline chosen inside the training folds among those known before the answer, as the probe is.

        Without inner folds it is the one with the highest AUROC of those known before; if none has one, of those known
        afterwards.

        None where no baseline has an AUROC.
        """
        if selected := self.of_kind("selected_baseline"):
            return selected[0]
        known = [result for result in self.of_kind("baseline") if np.isfinite(result.auroc.value)]
        before = [result for result in known if not result.is_known_afterwards]
        return _best(before or known) if known else None

    def difference(self, name: str, other: str, measure: str = "auroc") -> Estimate:
        """Return the paired difference of two scores by one measure, such as `aurc`; nan where either lacks it."""
        judged = self.judged.get(measure, {})
        if name not in judged or other not in judged:
            return Estimate(value=np.nan, low=np.nan, high=np.nan, note=f"not both have {measure}")
        found = judged[name].minus(judged[other])
        return replace(found, note=join_notes(found.note, SAME_SCORES)) if self.are_the_same(name, other) else found

    def are_the_same(self, name: str, other: str) -> bool:
        """Check for two names of the same scores, such as the selected probe that is the image alone in every fold."""
        return np.array_equal(self.scores[name], self.scores[other], equal_nan=True)


def judge_sweep(sweep: Sweep, rows: LabelledRows, folds: Folds, draws: Draws) -> Judgement:
    """Judge everything by AUROC and its companions, with intervals on the same bootstrap draws."""
    scores, models = _scores_and_models(sweep)
    spreads = {name: spread(each, rows.y) for name, each in models.items()}
    tested, here = rows.take_tested(folds), folds.tested
    judged = judge_measures(_OF_SCORES, {name: score[here] for name, score in scores.items()}, tested, draws, spreads)
    if sweep.selected:
        judged |= judge_measures(_OF_RISKS, {SELECTED: sweep.selected.risk[here]}, tested, draws, spreads)
    made = _Results(judged=judged, spreads=spreads, reasons=tuple(folds.unjudged.values()))
    whole = judged["auroc"][sweep.leading].value
    controls = [_control(control, whole, rows.image_codes, draws) for control in sweep.controls]
    return Judgement(
        results=(*made.of_probes(sweep), *made.of_baselines(sweep), *controls),
        scores=scores,
        judged=judged,
        added=tuple(_added(sweep.added, judged["auroc"])) if sweep.added else (),
        n=len(tested),
        n_positive=int(tested.y.sum()),
        n_images=len(np.unique(tested.images)),
    )


def _scores_and_models(sweep: Sweep) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return by name the score [N] of everything that is judged, and the models [K, N] of what was fitted."""
    fits = sweep.fits | sweep.further
    scores = {SELECTED: sweep.selected.score} if sweep.selected else {}
    scores |= {name: fit.score for name, fit in fits.items()}
    scores |= {baseline.name: baseline.score for baseline in sweep.baselines}
    models = {SELECTED: sweep.selected.models} if sweep.selected else {}
    models |= {name: fit.models for name, fit in fits.items()}
    models |= {baseline.name: baseline.models for baseline in sweep.baselines if baseline.models is not None}
    return scores, models


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Maker of results from what was judged; `reasons` say why folds have no AUROC."""

    judged: Mapping[str, Mapping[str, MeasuredScore]]
    spreads: Mapping[str, float]
    reasons: tuple[str, ...]

    def result(self, name: str, kind: str, note: str = "", **about: Any) -> Result:
        found = {measure: each[name].estimate for measure, each in self.judged.items() if name in each}
        return Result(
            name=name,
            kind=kind,
            auroc=found.pop("auroc"),
            measures=found,
            spread=self.spreads.get(name, 1.0),
            note="; ".join(filter(None, (note, *self.reasons))),
            **about,
        )

    def of_probes(self, sweep: Sweep) -> Iterator[Result]:
        """Yield the selected probe, each representation and each fused probe."""
        if sweep.selected:
            yield self.result(SELECTED, "selected")
        for name, fit in sweep.fits.items():
            chosen_in = sweep.selected.counts[name] if sweep.selected else None
            yield self.result(name, "representation", selected_in=chosen_in, chosen=fit.chosen)
        for name, fit in sweep.fused.items():
            yield self.result(name, "fused", _choices(fit), chosen=fit.chosen)

    def of_baselines(self, sweep: Sweep) -> Iterator[Result]:
        """Yield the selected baseline, each baseline and each stack of baselines."""
        baselines = [
            self.result(baseline.name, "baseline", baseline.note, is_known_afterwards=not baseline.early)
            for baseline in sweep.baselines
        ]
        if sweep.added and sweep.added.selected:
            about = _chosen_baseline(sweep.added.selected.chosen_names, baselines)
            yield self.result(SELECTED_BASELINE, "selected_baseline", _choices(sweep.added.selected), **about)
        yield from baselines
        for name, fit in sweep.added.stacks.items() if sweep.added else ():
            yield self.result(name, "baseline_stack", _choices(fit), chosen=fit.chosen)


def _choices(fit: CrossFit) -> str:
    """Say how often each named candidate was chosen; "" where they are numbers."""
    return ", ".join(f"{name} in {times} folds" for name, times in fit.chosen_names.most_common())


def _chosen_baseline(counts: Counter[str], results: Sequence[Result]) -> dict[str, Any]:
    """Return what the selected baseline is called, and whether it is known only afterwards."""
    most = next(each for each in results if each.name == counts.most_common(1)[0][0])
    called = most.title if len(counts) == 1 else f"selected baseline (mostly {most.title})"
    return {"called": called, "is_known_afterwards": most.is_known_afterwards}


def _added(scores: AddedScores, judged: Mapping[str, MeasuredScore]) -> Iterator[Added]:
    for name, members in scores.names.items():
        if not members:
            continue
        without, with_probe = judged[name], judged[name + AND_PROBE]
        yield Added(
            stack=name,
            baselines=members,
            joined=scores.joined[name],
            without=without.estimate,
            with_probe=with_probe.estimate,
            gain=with_probe.minus(without),
            p_value=with_probe.p_value(without),
        )


def _control(control: Control, whole: float, images: np.ndarray, draws: Draws) -> Result:
    """Judge a control; `whole` is the AUROC that the same representation reaches on the true labels."""
    tested = control.folds.tested
    rows = Rows(y=control.y, fold=control.folds.fold, images=images).take(tested)
    judged = judge({control.name: control.score[tested]}, rows, draws)
    found = judged[control.name].control
    note = f"{control.note}; selectivity {whole - found.value:.3f}" if control.name == RANDOM_BY_IMAGE else control.note
    return Result(name=control.name, kind="control", auroc=found, spread=MOST_SPREAD, note=note)


def _best(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: np.nan_to_num(result.auroc.value, nan=-1.0))
