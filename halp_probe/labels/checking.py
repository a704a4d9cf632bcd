"""Error rates of a whole table of labels, from a sheet that a person has filled in.

Legend: n checked rows, each of a stratum (a rule and verdict) and with a weight, the rows that it stands for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halp_probe.bootstrap import Estimate
from halp_probe.labels.agreement import kappas
from halp_probe.labels.check_sheet import OWN_LABEL, read_weights
from halp_probe.labels.comparison import Reference, reference
from halp_probe.labels.table import LabelError, LabelRow
from halp_probe.labels.verdict import RIGHT, WRONG

_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """Error rates of a table of labels, weighted to all its rows; nan where nothing was checked.

    `error`: share of wrong labels among the decided; `wrong_of_right`: share hallucinated of those called right;
    `right_of_wrong`: share right of those called hallucinated; `hallucinated_of_unknown`; `hallucinated`: share
    hallucinated of all rows, whatever their label.
    """

    checked: int
    error: Estimate
    wrong_of_right: Estimate
    right_of_wrong: Estimate
    hallucinated_of_unknown: Estimate
    hallucinated: Estimate
    kappa: float  # Cohen's, weighted
    note: str  # what the numbers leave out, or ""


def read_checked(path: str | Path) -> Reference:
    """Read the labels that a person filled in. Raises LabelError for a sheet without one."""
    return reference(path, OWN_LABEL)


def error_rates(rows: Sequence[LabelRow], sheet: str | Path) -> ErrorRates:
    """Return the error rates of the labels `rows`, by the labels that a person filled into the sheet.

    A stratum of which only some rows were filled in is weighted by these. Raises LabelError for a file that is no
    sheet, one that nobody filled in, and one of other questions.
    """
    person, weights = read_checked(sheet), read_weights(Path(sheet))
    labels = {row.question_id: row.label for row in rows}
    own = {key: label for key, label in person.labels.items() if label is not None and key in labels}
    if not own:
        raise LabelError(
            f"{sheet}: none of the questions that were checked is in the labels; pass those it was drawn from"
        )
    weight = _weights(own, weights)
    strata, seen = ({weights[key][1] for key in keys} for keys in (weights, own))
    pairs = [(labels[key], own[key], weight[key]) for key in own]
    return ErrorRates(
        checked=len(own),
        error=_share([(said != true, w) for said, true, w in pairs if said is not None]),
        wrong_of_right=_share([(true == WRONG, w) for said, true, w in pairs if said == RIGHT]),
        right_of_wrong=_share([(true == RIGHT, w) for said, true, w in pairs if said == WRONG]),
        hallucinated_of_unknown=_share([(true == WRONG, w) for said, true, w in pairs if said is None]),
        hallucinated=_share([(true == WRONG, w) for _, true, w in pairs]),
        kappa=_kappa([(said, true, w) for said, true, w in pairs if said is not None]),
        note=f"{len(strata - seen)} of {len(strata)} strata have no checked row and are left out"
        if strata - seen
        else "",
    )


def summary(rates: ErrorRates) -> str:
    """Summarise in a few lines."""
    told = {
        "of the labels are wrong": rates.error,
        "of those called right are hallucinated": rates.wrong_of_right,
        "of those called hallucinated are right": rates.right_of_wrong,
        "of the unknown are hallucinated": rates.hallucinated_of_unknown,
        "of all answers are hallucinated": rates.hallucinated,
    }
    kappa = "" if math.isnan(rates.kappa) else f"; Cohen's kappa {rates.kappa:.3f}"
    head = f"{rates.checked} answers checked by hand, weighted to all answers (95 % in brackets){kappa}"
    shares = [f"  {_format(share)} {what}" for what, share in told.items() if not math.isnan(share.value)]
    return "\n".join([head, *shares, *([f"note: {rates.note}"] if rates.note else [])])


def _weights(own: Mapping[str, int], weights: Mapping[str, tuple[float, str]]) -> dict[str, float]:
    """Return the weight of each checked row: its stratum's rows over the stratum's checked ones."""
    drawn: dict[str, float] = {}
    for weight, stratum in weights.values():
        drawn[stratum] = drawn.get(stratum, 0.0) + weight
    checked = Counter(weights[key][1] for key in own)
    return {key: drawn[weights[key][1]] / checked[weights[key][1]] for key in own}


def _share(found: Sequence[tuple[bool, float]]) -> Estimate:
    """Return the weighted share, with Wilson's interval at Kish's effective number of rows."""
    if not found:
        return Estimate(value=np.nan, low=np.nan, high=np.nan, note="nothing was checked")
    hits, weights = np.array([hit for hit, _ in found], dtype=float), np.array([weight for _, weight in found])
    share = float(hits @ weights / weights.sum())
    number = float(weights.sum() ** 2 / (weights**2).sum())
    middle = (share + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    reach = _Z / (1 + _Z**2 / number) * math.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    return Estimate(value=share, low=max(middle - reach, 0.0), high=min(middle + reach, 1.0), note="")


def _kappa(pairs: Sequence[tuple[int, int, float]]) -> float:
    counts = np.zeros((1, 2, 2))
    for said, true, weight in pairs:
        counts[0, said, true] += weight
    return float(kappas(counts)[0])


def _format(share: Estimate) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}] %"
