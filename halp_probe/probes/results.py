"""Judge a sweep: one result for each representation and baseline. Legend: N rows, B bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.probes.baselines import FIRST_TOKEN_ENTROPY, QUESTION_TEXT, SHUFFLED_C, SHUFFLED_LABELS
from halp_probe.probes.features import LabelledRows
from halp_probe.probes.metrics import Estimate, Judged, judge
from halp_probe.probes.splits import Folds
from halp_probe.probes.sweep import Sweep
from halp_probe.shards.names import layer_of

BASELINE = "baseline"


@dataclass(frozen=True)
class Result:
    """How well one representation or baseline tells hallucinated from right answers."""

    name: str
    position: str  # vision_only, vision_encoder, vision_token, query_token or baseline
    layer: int | None
    auroc: Estimate
    minus_text: Estimate | None  # paired difference to the question text; None where it makes no sense
    minus_entropy: Estimate | None  # paired difference to the first token's entropy
    Cs: tuple[float, ...]  # chosen in each fold
    note: str  # why a number is missing, or what it means


@dataclass(frozen=True)
class Judgement:
    """All results on the same rows, and the scores they were made from."""

    results: tuple[Result, ...]  # representations in reading order, then baselines
    risks: dict[str, np.ndarray]  # name -> [N] out-of-fold score
    n: int
    n_positive: int
    n_images: int

    @property
    def candidates(self) -> list[Result]:
        """The representations that have an AUROC."""
        return [r for r in self.results if r.position != BASELINE and np.isfinite(r.auroc.value)]

    @property
    def best(self) -> Result | None:
        """The representation with the highest AUROC; None when there is no choice."""
        return max(self.candidates, key=lambda result: result.auroc.value) if len(self.candidates) > 1 else None


def judge_sweep(swept: Sweep, rows: LabelledRows, folds: Folds, n_draws: int, seed: int) -> Judgement:
    """AUROC of everything, with intervals and with paired differences to the two baselines."""
    nothing = np.full(len(rows.y), np.nan)
    risks = {name: fit.risk for name, fit in swept.fits.items()}
    risks[QUESTION_TEXT] = nothing if swept.text is None else swept.text.risk
    risks[FIRST_TOKEN_ENTROPY] = nothing if entropy_gap(rows) or rows.entropy is None else rows.entropy
    judged = judge(risks, rows.y, folds.fold, rows.image_codes, n_draws, seed)
    results = [_result(name, judged, swept, rows, folds) for name in risks]
    control = swept.control
    on_shuffled = judge({SHUFFLED_LABELS: control.risk}, control.y, control.folds.fold, rows.image_codes, n_draws, seed)
    what = f"linear, C={SHUFFLED_C:g}, {control.representation}, judged by its shuffled labels: must be about .5"
    note = _joined([what, *control.folds.unjudged.values()])
    estimate = on_shuffled[SHUFFLED_LABELS].estimate
    results.append(Result(SHUFFLED_LABELS, BASELINE, None, estimate, None, None, (), note))
    return Judgement(
        results=tuple(results),
        risks=risks,
        n=len(rows.y),
        n_positive=int(rows.y.sum()),
        n_images=len(set(rows.images)),
    )


def entropy_gap(rows: LabelledRows) -> str:
    """Why the entropy baseline cannot be judged on these rows; "" when it can."""
    if rows.entropy is None:
        return "the shards have no first_token_entropy"
    missing = int((~np.isfinite(rows.entropy)).sum())
    return f"{missing} of {len(rows.entropy)} rows have no first_token_entropy" if missing else ""


def _result(name: str, judged: dict[str, Judged], swept: Sweep, rows: LabelledRows, folds: Folds) -> Result:
    reasons = list(folds.unjudged.values())
    text, entropy = judged[QUESTION_TEXT], judged[FIRST_TOKEN_ENTROPY]
    fit = swept.fits.get(name)
    position, layer = (BASELINE, None) if fit is None else (name.split("/")[0], layer_of(name))
    if name == QUESTION_TEXT:
        fit = swept.text
        reasons = reasons if fit else ["the shards have no question texts"]
    elif name == FIRST_TOKEN_ENTROPY:
        reasons = [entropy_gap(rows)] if entropy_gap(rows) else reasons
    return Result(
        name=name,
        position=position.removesuffix("_representation"),
        layer=layer,
        auroc=judged[name].estimate,
        minus_text=None if name == QUESTION_TEXT else judged[name].minus(text),
        minus_entropy=None if name == FIRST_TOKEN_ENTROPY else judged[name].minus(entropy),
        Cs=fit.Cs if fit else (),
        note=_joined(reasons),
    )


def _joined(reasons: Sequence[str]) -> str:
    return "; ".join(reasons)
