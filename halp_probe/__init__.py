"""Probes on a vision-language model's hidden states that tell, before it answers, how likely the answer is wrong.

What is used most is found here, and imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halp_probe.interventions.directions import direction_of as direction_of
    from halp_probe.interventions.steering import ablate_direction as ablate_direction
    from halp_probe.interventions.steering import steer as steer
    from halp_probe.labels.table import read_labels as read_labels
    from halp_probe.probes.files import load_probe as load_probe
    from halp_probe.probes.files import load_probes as load_probes
    from halp_probe.probes.fitting.estimators import LinearProbe as LinearProbe
    from halp_probe.probes.study import Design as Design
    from halp_probe.probes.study import study as study
    from halp_probe.scoring.conversation import ProbedChat as ProbedChat
    from halp_probe.scoring.scorer import RiskScorer as RiskScorer
    from halp_probe.shards.reader import open_shards as open_shards

__version__ = "0.5.0"
_MODULE_OF = {
    "Design": "halp_probe.probes.study",
    "LinearProbe": "halp_probe.probes.fitting.estimators",
    "ProbedChat": "halp_probe.scoring.conversation",
    "RiskScorer": "halp_probe.scoring.scorer",
    "ablate_direction": "halp_probe.interventions.steering",
    "direction_of": "halp_probe.interventions.directions",
    "load_probe": "halp_probe.probes.files",
    "load_probes": "halp_probe.probes.files",
    "open_shards": "halp_probe.shards.reader",
    "read_labels": "halp_probe.labels.table",
    "steer": "halp_probe.interventions.steering",
    "study": "halp_probe.probes.study",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
