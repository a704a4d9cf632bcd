"""Directions of probes: where a probe reads the residual stream, and along which direction to steer or to ablate.

Legend: D decoder width.
"""

from __future__ import annotations

import numpy as np

from halp_probe.errors import InputError
from halp_probe.probes.files import SavedProbe
from halp_probe.probes.fitting.estimators import BinaryProbe, DirectionProbe
from halp_probe.shards.names import layer_of


def direction_of(probe: SavedProbe | BinaryProbe) -> np.ndarray:
    """Return the direction in which the log-odds of a wrong answer rise fastest.

    It is the gradient with respect to the vector as it was captured (the weights over the scales of standardisation),
    brought to unit length: along it, `t` units of the residual stream change the log-odds by `t · |gradient|`, and
    whatever is orthogonal to it changes nothing.

    Parameters
    ----------
    probe
        A saved probe, or a fitted linear, ridge or difference probe.

    Returns
    -------
    numpy.ndarray
        [D] float64 of unit length.

    Raises
    ------
    InputError
        For an MLP, which has no single direction, for a probe whose log-odds are constant, and for a saved probe of a
        vision mean, which no decoder block puts out.

    Examples
    --------
    >>> import halp_probe
    >>> import numpy as np
    >>> probe = halp_probe.load_probe("probes/probes/query_token_representation_layer_3")
    >>> direction = halp_probe.direction_of(probe)
    >>> direction.shape, round(float(np.linalg.norm(direction)), 6)
    ((128,), 1.0)
    """
    gradient = _gradient(probe)
    return gradient / np.linalg.norm(gradient)


def control_direction(probe: SavedProbe | BinaryProbe, seed: int) -> np.ndarray:
    """Return [D] float64 of unit length: the direction of a probe with random weights on the same standardised inputs.

    It is made orthogonal to the probe's own, so that the probe sees nothing of it. Raises as `direction_of` does.
    """
    own = direction_of(probe)
    estimator = probe.estimator if isinstance(probe, SavedProbe) else probe
    drawn = np.random.default_rng(seed).standard_normal(len(own)) / estimator.scale_
    drawn /= np.linalg.norm(drawn)
    rest = drawn - (drawn @ own) * own
    return rest / np.linalg.norm(rest)


def layer_read(probe: SavedProbe) -> int:
    """Return the layer whose states the probe reads.

    Raises InputError for the vision means, which come before layer 0.
    """
    if len(probe.inputs) > 1:
        raise InputError(
            f"the probe {probe.title} reads {len(probe.inputs)} inputs, so no single layer has its direction: pass a "
            "probe of one representation"
        )
    representation = probe.title
    layer = layer_of(representation)
    if layer is None:
        raise InputError(
            f"the probe reads {representation}, a mean over the vision tower's output and no state of a decoder block: "
            "there is no layer to intervene at; pass a probe of a vision token or query token"
        )
    return layer


def _gradient(probe: SavedProbe | BinaryProbe) -> np.ndarray:
    """Return [D] float64, the gradient of the log-odds with respect to the raw vector."""
    if isinstance(probe, SavedProbe):
        layer_read(probe)
        probe = probe.estimator
    if not isinstance(probe, DirectionProbe):
        raise InputError(
            f"a {type(probe).__name__} has no single direction: what raises its log-odds differs from state to state; "
            "pass a linear, ridge or difference probe"
        )
    gradient = np.asarray(probe.coef_[0] / probe.scale_, dtype=np.float64)
    if not 0 < np.linalg.norm(gradient) < np.inf:
        raise InputError("the probe's log-odds are the same for every state, so it has no direction; train it again")
    return gradient
