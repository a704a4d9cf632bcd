"""Threshold whose error rate holds on new images, by learn-then-test (Angelopoulos and others 2021) through MAPIE.

Legend: N rows, G images.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import binom

from halp_probe.probes.errors import ProbeError
from halp_probe.probes.judging.thresholds import Threshold
from halp_probe.scoring.candidates import candidates, check_promise

_ORDERING = 4  # one in this many images decides the order in which candidates are tested on the others
_P_VALUES = np.logspace(-300, 0, 1200)  # MAPIE orders candidates by the nearest of these
_ROUNDING = 1e-9  # added to thresholds: MAPIE compares 1 - risk with 1 - threshold


def controlled_threshold(
    risk: np.ndarray, y: np.ndarray, images: np.ndarray, *, max_error: float, confidence: float = 0.9, seed: int = 0
) -> Threshold:
    """Return the threshold that answers most among those shown to have an error rate of at most `max_error`.

    `risk` [N], `y` [N] of 0 and 1, `images` [N] equal for rows of one image. The rows must be of images on which
    neither the probe nor its calibration was fitted. With probability `confidence` over the draw of these images, of
    the questions that are answered on a new image, drawn as these were, at most `max_error` are answered wrongly: one
    question an image, any of its questions alike. Rows of one image are not independent, so one row an image is drawn
    (by `seed`) and the others are not used; where images have different numbers of questions, an image counts as one
    whatever their number. Out-of-fold risks come from several probes, none of which is the saved one: with them the
    guarantee is only approximate.

    The `candidates` are tested by binomial tail bounds in a fixed order, until one fails: on a quarter of the images
    it is found which are the likeliest to pass, on the others they are tested. Raises ProbeError when MAPIE is missing,
    and when none passes.
    """
    try:
        from mapie.risk_control import BinaryClassificationController
    except ImportError as error:
        raise ProbeError("a controlled threshold needs MAPIE: pip install 'halp_probe[abstention]'") from error
    check_promise(max_error, confidence)
    rows = np.random.default_rng(seed).permutation(one_row_an_image(images, seed))  # [G]
    ordering, testing = np.split(rows, [len(rows) // _ORDERING])
    if not len(ordering):
        raise ProbeError(f"{len(rows)} images are too few for a controlled threshold; label more images")
    levels = candidates(max_error)
    levels = levels[levels >= risk[ordering].min()]  # where nothing is answered there is nothing to order by
    safe, right = 1 - risk, 1 - y  # [N]
    controller = BinaryClassificationController(
        predict_function=lambda values: np.column_stack([1 - values, values]),
        risk="precision",  # of "will be right": one minus the error rate among the answered
        target_level=1 - max_error,
        confidence_level=confidence,
        list_predict_params=1 - levels - _ROUNDING,
        fwer_method="split_fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few or no candidates passed: the error below says so
        controller.learn_fixed_sequence_order(safe[ordering], right[ordering], _P_VALUES, binary=True)
        controller.calibrate(safe[testing], right[testing])
    if controller.best_predict_param is None:
        remedy = _remedy(risk[rows], y[rows], levels, max_error, confidence)
        raise ProbeError(
            f"no threshold keeps the error rate at {max_error:g} with confidence {confidence:g} on {len(rows)} images "
            f"({y[rows].mean():.3f} of their answers are wrong); {remedy}"
        )
    highest = 1 - float(controller.best_predict_param)
    answered = risk[testing] <= highest
    return Threshold(
        risk=highest,
        coverage=float(answered.mean()),
        error=float(y[testing][answered].mean()),
        rows=len(testing),
        max_error=max_error,
        confidence=confidence,
        per="image",
    )


def one_row_an_image(images: np.ndarray, seed: int) -> np.ndarray:
    """Return [G], a row of each image, drawn with equal chances among its rows; rising."""
    shuffled = np.random.default_rng(seed).permutation(len(images))
    first = np.unique(np.asarray(images)[shuffled], return_index=True)[1]
    return np.sort(shuffled[first])


def _remedy(risk: np.ndarray, y: np.ndarray, levels: np.ndarray, max_error: float, confidence: float) -> str:
    """Say how many images would do, were errors as common among more of them; [G], one row an image."""
    enough = []
    for level in levels:
        answered = risk <= level
        likely = (y[answered].sum() + 1) / (answered.sum() + 2)
        if likely < max_error:
            for n in np.unique(np.geomspace(10, 1e6, 200).astype(int)):
                if binom.cdf(np.ceil(likely * n), n, max_error) <= 1 - confidence:
                    enough.append(n / answered.mean() * _ORDERING / (_ORDERING - 1))
                    break
    if not enough or min(enough) <= len(y):
        return "label more images, or allow a higher error"
    return f"about {int(np.ceil(min(enough) / 10) * 10)} images like these would do, or a higher error"
