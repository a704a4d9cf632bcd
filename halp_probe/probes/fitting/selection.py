"""Choice among candidates, by how well each does on rows that it was not fitted on.

Legend: J splits, S candidates, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halp_probe.probes.judging.metrics import auroc


@dataclass(frozen=True)
class Choice:
    """Choice of a candidate, and how well each candidate did."""

    index: int  # of the candidate
    auroc: np.ndarray  # [S] mean over the splits


def best_candidate(logits: np.ndarray, y: np.ndarray, tests: Sequence[np.ndarray]) -> Choice:
    """Choose the candidate with the highest mean AUROC over the splits; of equals, the one with the lowest log-loss.

    `logits` [J, S, N] log-odds, `y` [N] of 0 and 1, `tests` J arrays of rows, each of both classes. Other rows'
    log-odds are not looked at. Raises ValueError without splits, and for a test set of one class.
    """
    if not len(tests) or len(tests) != len(logits):
        raise ValueError(
            f"{len(tests)} test sets for the log-odds of {len(logits)} splits; pass one for each, at least one"
        )
    ranks = np.empty(logits.shape[:2])  # [J, S]
    losses = np.empty(logits.shape[:2])  # [J, S]
    for j, rows in enumerate(tests):
        labels = y[rows]
        if len(np.unique(labels)) < 2:
            raise ValueError(f"the test rows of split {j} are not of both classes; leave the split out")
        ranks[j] = [auroc(logit, labels) for logit in logits[j][:, rows]]
        losses[j] = [np.mean(np.logaddexp(0, logit) - labels * logit) for logit in logits[j][:, rows]]
    mean = ranks.mean(axis=0)
    return Choice(int(np.lexsort((losses.mean(axis=0), -mean))[0]), mean)
