"""A threshold whose error rate holds on new images, by learn-then-test (Angelopoulos and others 2021) through MAPIE.

Legend: N rows, G images.
"""

from __future__ import annotations

import warnings

import numpy as np

from halp_probe.probes.calibration import Threshold
from halp_probe.probes.errors import ProbeError

CANDIDATES = np.linspace(0.02, 1.0, 50)  # risks; fixed beforehand, as the guarantee needs
_ROUNDING = 1e-9  # MAPIE compares 1 - risk with 1 - threshold


def controlled_threshold(
    risk: np.ndarray, y: np.ndarray, images: np.ndarray, *, max_error: float, confidence: float = 0.9, seed: int = 0
) -> Threshold:
    """The threshold that answers most among those shown to have an error rate of at most `max_error`.

    `risk` [N], `y` [N] of 0 and 1, `images` [N] equal for rows of one image. The rows must be of images on which
    neither the probe nor its calibration was fitted. With probability `confidence` over the draw of these images, of
    the questions that are answered on a new image, drawn as these were, at most `max_error` are answered wrongly: one
    question an image, any of its questions alike. Rows of one image are not independent, so one row an image is drawn
    (by `seed`) and the others are not used; where images have different numbers of questions, an image counts as one
    whatever their number. Out-of-fold risks come from several probes, none of which is the saved one: with them the
    guarantee is only approximate.

    Each candidate is tested by a binomial tail bound, all together by Holm's correction. Raises ProbeError when MAPIE
    is missing, and when no candidate passes.
    """
    try:
        from mapie.risk_control import BinaryClassificationController
    except ImportError as error:
        raise ProbeError("a controlled threshold needs MAPIE: pip install 'halp_probe[abstention]'") from error
    if not 0 < max_error < 1 or not 0 < confidence < 1:
        raise ProbeError(f"max_error {max_error} and confidence {confidence} must lie between 0 and 1")
    rows = one_row_an_image(images, seed)  # [G]
    drawn, right = risk[rows], 1 - y[rows]
    controller = BinaryClassificationController(
        predict_function=lambda safe: np.column_stack([1 - safe, safe]),
        risk="precision",  # of "will be right": one minus the error rate among the answered
        target_level=1 - max_error,
        confidence_level=confidence,
        list_predict_params=1 - CANDIDATES - _ROUNDING,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few or none of the candidates passed, which is said below
        controller.calibrate(1 - drawn, right)
    if controller.best_predict_param is None:
        raise ProbeError(
            f"no threshold keeps the error rate at {max_error:g} with confidence {confidence:g} on {len(rows)} images "
            f"({y[rows].mean():.3f} of their answers are wrong); label more images, or allow a higher error"
        )
    highest = round(1 - float(controller.best_predict_param) - _ROUNDING, 6)
    answered = drawn <= highest + _ROUNDING
    return Threshold(
        risk=highest + _ROUNDING,
        coverage=float(answered.mean()),
        error=float(1 - right[answered].mean()),
        rows=len(rows),
        max_error=max_error,
        confidence=confidence,
    )


def one_row_an_image(images: np.ndarray, seed: int) -> np.ndarray:
    """[G] a row of each image, drawn with equal chances among its rows; rising."""
    shuffled = np.random.default_rng(seed).permutation(len(images))
    first = np.unique(np.asarray(images)[shuffled], return_index=True)[1]
    return np.sort(shuffled[first])
