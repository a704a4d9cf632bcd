"""Gauge of one question's risk: a bar with the threshold on it, and words."""

from __future__ import annotations

from halp_probe.app.conversation import RiskAssessment
from halp_probe.app.wording import percent

_FOLLOW_UP = (
    "A follow-up: the probes learned from first questions only, so this percentage is outside the range they were "
    "calibrated on. Take it as a hint."
)


def gauge(assessment: RiskAssessment) -> str:
    """Return HTML for a question that has a risk."""
    risk = assessment.risk
    assert risk is not None
    risk_text, limit = percent(risk, assessment.threshold), percent(assessment.threshold, risk)
    where = 100 * assessment.threshold
    label_side = f"right:{100 - where:.1f}%" if where > 50 else f"left:{where:.1f}%"
    parts = [
        f'<p class="halp-risk"><b>{risk_text}</b> likely to be wrong</p>',
        f'<div class="halp-track" role="img" aria-label="{risk_text} likely to be wrong, threshold {limit}">',
        f'<div class="halp-fill{" over" if assessment.too_risky else ""}" style="width:{100 * risk:.1f}%"></div>',
        f'<div class="halp-limit" style="left:{where:.1f}%"></div></div>',
        f'<div class="halp-scale"><span class="at" style="{label_side}">threshold {limit}</span>&nbsp;</div>',
    ]
    if assessment.follow_up:
        parts.append(f'<p class="halp-quiet">{_FOLLOW_UP}</p>')
    return f'<div class="halp-gauge">{"".join(parts)}</div>'
