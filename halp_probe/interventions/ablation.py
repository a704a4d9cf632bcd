"""Ablation of a probe's direction: answer a table with it taken out at its layer, and compare with the plain answers.

Three extractions of one layer, each batched and resumable: as the model is, without the probe's direction, and, as a
control, the same with a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from halp_probe.extraction.extract import extract_with, load
from halp_probe.extraction.options import ExtractOptions
from halp_probe.extraction.outcome import Extraction
from halp_probe.interventions import outputs
from halp_probe.interventions.directions import control_direction, direction_of, layer_read
from halp_probe.interventions.effects import ABLATED, CONTROL, DRAWS, PLAIN, Effect, Runs, effects, read_runs
from halp_probe.interventions.steering import ablate_direction
from halp_probe.locking import lock_folder
from halp_probe.models.loading import LoadedModel
from halp_probe.probes.files import SavedProbe
from halp_probe.progress import Progress, silent
from halp_probe.records import Sample
from halp_probe.scoring.compatibility import check_fits
from halp_probe.shards.reader import Shards, open_shards
from halp_probe.tasks.task import TaskInput


@dataclass(frozen=True, kw_only=True)
class AblationDesign:
    """Design of an ablation: what is taken out, what it is compared with, and how answers are judged."""

    to: Literal["zero", "mean"] = "zero"  # component that remains: none, or that of the mean of the training states
    control: Literal["removed", "moved"] = "removed"  # random direction taken out, or states moved along it as far
    rule: str = "auto"  # as in `label`
    seed: int = 0  # of the random direction and of the bootstrap


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Effects of taking the direction out; `runs` and `effects` are None where a run did not finish."""

    extractions: Mapping[str, Extraction]  # by the run's name, as far as they came
    runs: Runs | None = None
    effects: tuple[Effect, ...] = ()
    moved: Mapping[str, float] | None = None  # run -> how far its states are from the plain ones, over their length


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Plan of one of the three runs."""

    name: str
    direction: np.ndarray | None = None  # [D] of unit length, to take out; None: nothing
    along: np.ndarray | None = None  # [D] of unit length, in which states are moved by as much instead
    component: float = 0.0  # that states have along `direction` afterwards, in the units of the residual stream
    settings: Mapping[str, Any]  # for the folder's record, which refuses others


def ablate(
    options: ExtractOptions,
    task_input: TaskInput[Sample, str],
    probe: SavedProbe,
    design: AblationDesign,
    *,
    probe_name: str = "",
    allow_other_model: bool = False,
    progress: Progress = silent,
    stopping: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(lambda: False),
) -> Ablation:
    """Ablate into the folder that `options`, made by `probe_options`, name: ablation.csv, ablation.json, three runs.

    `probe_name` is recorded in ablation.json. Raises InputError for a probe without a direction, or that was not
    fitted on such states of this model, and what an extraction raises.
    """
    layer, plans = layer_read(probe), _plans(probe, design)
    folder = options.output_dir
    extractions: dict[str, Extraction] = {}
    with lock_folder(folder):
        loaded, prompter = load(options)
        check_fits(probe, loaded, allow_other_model=allow_other_model)
        for plan in plans:
            own = replace(options, output_dir=folder / plan.name)
            with lock_folder(own.output_dir), _intervention(loaded, layer, plan):
                extraction = extract_with(
                    own,
                    task_input,
                    loaded,
                    prompter,
                    gate_settings=plan.settings,
                    progress=progress,
                    stopping=stopping(),
                )
            extractions[plan.name] = extraction
            if extraction.stopped or not extraction.captured + extraction.already_done:
                return Ablation(extractions=extractions)
        shards = {plan.name: open_shards(folder / plan.name) for plan in plans}
        runs = read_runs(shards, probe, design.rule)
        found = tuple(effects(runs, replace(DRAWS, seed=design.seed)))
        moved = {plan.name: outputs.measure_movement(runs, plan.name) for plan in plans}
        outputs.write_csv(folder / outputs.CSV_FILE, runs)
        about = {**_about(probe, probe_name, design, plans, shards), "moved": moved}
        outputs.write_json(folder / outputs.JSON_FILE, about, runs, found)
    return Ablation(extractions=extractions, runs=runs, effects=found, moved=moved)


def _plans(probe: SavedProbe, design: AblationDesign) -> list[_Plan]:
    """Plan the three runs.

    Attributes of the last two runs' shards say that their states are not the plain ones.
    """

    def component(direction: np.ndarray) -> float:
        return float(probe.estimator.mean_ @ direction) if design.to == "mean" else 0.0

    own, random = direction_of(probe), control_direction(probe, design.seed)
    about = {"intervention_probe_sha256": probe.metadata["tensors_sha256"], "intervention_to": design.to}
    control = {"intervention": f"a random direction: {design.control}", **about, "intervention_seed": design.seed}
    return [
        _Plan(name=PLAIN, settings={}),
        _Plan(
            name=ABLATED,
            direction=own,
            component=component(own),
            settings={"intervention": "the probe's direction: removed", **about},
        ),
        _Plan(name=CONTROL, direction=random, component=component(random), settings=control)
        if design.control == "removed"
        else _Plan(name=CONTROL, direction=own, along=random, component=component(own), settings=control),
    ]


def _intervention(loaded: LoadedModel, layer: int, plan: _Plan) -> AbstractContextManager[None]:
    if plan.direction is None:
        return nullcontext()
    return ablate_direction(loaded, layer, plan.direction, to=plan.component, along=plan.along)


def _about(
    probe: SavedProbe, name: str, design: AblationDesign, plans: list[_Plan], shards: Mapping[str, Shards]
) -> dict[str, Any]:
    """Return what ablation.json says of the runs."""
    return {
        "probe": name,
        "probe_sha256": probe.metadata["tensors_sha256"],
        **{key: probe.metadata[key] for key in ("kind", "representation", "layer")},
        **{key: shards[PLAIN].attributes.get(key) for key in ("model_name", "revision", "dtype")},
        **{key: getattr(design, key) for key in ("to", "control", "rule", "seed")},
        "left": {plan.name: plan.component for plan in plans if plan.direction is not None},
    }
