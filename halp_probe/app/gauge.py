"""The risk of one question as a bar with the threshold on it, and in words."""

from __future__ import annotations

from halp_probe.app.conversation import Judged
from halp_probe.app.wording import percent

_FOLLOW_UP = (
    "A follow-up: the probes learned from first questions only, so this percentage is outside of what they were "
    "calibrated on. Take it as a hint."
)


def gauge(judged: Judged) -> str:
    """HTML for a question that has a risk."""
    risk = judged.risk
    assert risk is not None
    told, limit = percent(risk, judged.threshold), percent(judged.threshold, risk)
    where = 100 * judged.threshold
    label_side = f"right:{100 - where:.1f}%" if where > 50 else f"left:{where:.1f}%"
    parts = [
        f'<p class="halp-risk"><b>{told}</b> likely to be wrong</p>',
        f'<div class="halp-track" role="img" aria-label="{told} likely to be wrong, threshold {limit}">',
        f'<div class="halp-fill{" over" if judged.too_risky else ""}" style="width:{100 * risk:.1f}%"></div>',
        f'<div class="halp-limit" style="left:{where:.1f}%"></div></div>',
        f'<div class="halp-scale"><span class="at" style="{label_side}">threshold {limit}</span>&nbsp;</div>',
    ]
    if judged.follow_up:
        parts.append(f'<p class="halp-quiet">{_FOLLOW_UP}</p>')
    return f'<div class="halp-gauge">{"".join(parts)}</div>'
