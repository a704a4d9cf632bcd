"""Page `report.html`: the content of `report.json`, self-contained, without network or script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from halp_probe.plotting.figures import UNPRINTABLE
from halp_probe.plotting.titles import shorten
from halp_probe.probes.remarks import LEVELS
from halp_probe.report import charts, layout, wording
from halp_probe.report.colours import fill
from halp_probe.report.reading import check_version


def render_report(report: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> str:
    """Render the page; the same text for the same input.

    `report` is the content of `report.json`, of version 1: numbers that could not be had are None, with a note that
    says why. `thumbnails` are JPEGs by image id; an example without one is shown without a picture.

    Raises InputError for another format or version, and jinja2.UndefinedError where something is missing.
    """
    check_version(report)
    data = report["data"]
    page = (
        _environment()
        .get_template("report.html")
        .render(
            report,
            prevalence=data["n_positive"] / data["n"] if data["n"] else 0.0,
            levels=LEVELS,
            report_layers=report.get("layer_map"),
            report_stability=report.get("stability"),
            report_shifts=report.get("prevalence_shift", []),
            is_selected=any(result["kind"] == "selected" for result in report["results"]),
            pictures={image: base64.b64encode(jpeg).decode() for image, jpeg in thumbnails.items()},
        )
    )
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("halp_probe.report"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, never a gap on the page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(charts=charts, layout=layout, wording=wording, fill=fill)
    environment.filters.update(
        decimal=wording.decimal,
        percent=wording.percent,
        points=wording.points,
        count=wording.count,
        tally=wording.tally,
        span=wording.span,
        shorten=shorten,
    )
    environment.tests["known"] = wording.is_known
    return environment
