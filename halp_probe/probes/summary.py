"""A study in a few lines, as a notebook shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from halp_probe.probes.remarks import NOTE, Finding, with_interval
from halp_probe.probes.results import Judgement

_WIDTH = 100  # characters
_MOST = 5  # findings


def short_text(judgement: Judgement, findings: Sequence[Finding]) -> str:
    """Return what was judged, the headline against its best baseline, and the gravest findings."""
    headline, best = judgement.headline, judgement.best_baseline
    lines = [
        f"Study of {judgement.n} questions ({judgement.n_positive} hallucinated) on {judgement.n_images} images",
        f"  {headline.title}: AUROC {with_interval(headline.auroc)}",
    ]
    if best is not None:
        difference = judgement.difference(headline.name, best.name)
        told = with_interval(difference) if np.isfinite(difference.value) else "not known"
        lines.append(f"  best baseline, {best.title}: {with_interval(best.auroc)}; difference {told}")
    grave = [finding for finding in findings if finding.level != NOTE]
    for each in grave[:_MOST]:
        lines.append(f"  {textwrap.shorten(f'{each.level}: {each.text}', _WIDTH, placeholder=' …')}")
    if len(grave) > _MOST:
        lines.append(f"  … and {len(grave) - _MOST} more in `findings`")
    return "\n".join([*lines, "  all results: `frame()`; the page: `write_report`"])
