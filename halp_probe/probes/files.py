"""Files of a fitted probe: `<stem>.safetensors` with its numbers and `<stem>.json` with what they mean.

Legend: N rows, D width. The JSON has format, format_version, kind, label_meaning, classes, C, parameters, calibration,
threshold, tensors_sha256, and what the caller adds about the probe (its vectors, see card.py; its training). It is
written last and names the content of the other file, so a pair that loads is complete. Version 1 had neither
calibration nor threshold; version 3 is a fused probe, of several `parts`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from halp_probe.files import write_bytes
from halp_probe.json_files import read_json, write_json
from halp_probe.models.naming import BUNDLED, BUNDLED_PROBES
from halp_probe.probes.errors import ProbeError
from halp_probe.probes.fusion.fused import FusedProbe, InputSource, read_input
from halp_probe.probes.judging.calibration import Calibration
from halp_probe.probes.judging.thresholds import Threshold
from halp_probe.probes.names import FUSED
from halp_probe.probes.tensors import KINDS, description_of, restore, tensors_of

FORMAT = "halp_probe.probe"
FORMAT_VERSION = 3
LABEL_MEANING = "1 = the answer is hallucinated (judged wrong), 0 = right; risk = probability of 1"
SELECTED_STEM = "selected_probe"  # the one to use, among those of a study
_IMAGES = "training_images"
_VERSION_OF_PLAIN = 2  # what readers of before fused probes know


@dataclass(frozen=True, kw_only=True)
class SavedProbe:
    """Probe with what was saved beside it; X is [N, D] float of its representation throughout.

    A fused probe reads several representations, and is asked by `risk_of` alone. Raises ValueError for another width
    than the probe was fitted on.

    Examples
    --------
    >>> import halp_probe
    >>> probe = halp_probe.load_probe("probes/probes/selected_probe")
    >>> x = halp_probe.open_shards("output").vectors(probe.metadata["representation"])  # [N, D]
    >>> risk = probe.risk(x)  # [N], calibrated, of a wrong answer
    >>> risk.shape, bool(((risk >= 0) & (risk <= 1)).all())
    ((360,), True)
    >>> fused = halp_probe.load_probe("probes/probes/fused_stack_and_confidence")
    >>> fused.inputs[-1], fused.risk_of(halp_probe.open_shards("output")).shape
    ('first_token_logprob', (360,))
    """

    estimator: Any  # one of KINDS
    metadata: dict[str, Any]  # the whole JSON
    calibration: Calibration
    threshold: Threshold | None
    training_images: np.ndarray  # [G] uint64, the `image_keys` of what it was trained on; empty if unknown

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it reads: its representation, or all that a fused probe reads."""
        if isinstance(self.estimator, FusedProbe):
            return self.estimator.inputs
        return (str(self.metadata["representation"]),)

    @property
    def title(self) -> str:
        """Name of its representation, or of the fused probe, such as `fused_stack`."""
        return str(self.metadata.get("representation") or self.metadata["name"])

    @property
    def widths(self) -> dict[str, int]:
        """Width D of each of its inputs."""
        if isinstance(self.estimator, FusedProbe):
            return {name: len(part.estimator.mean_) for part in self.estimator.parts for name in part.inputs}
        return {self.inputs[0]: self.width}

    @property
    def width(self) -> int:
        """Width D of the vectors that it reads. Raises ProbeError for a fused probe, which reads several."""
        return len(self._plain().mean_)

    def risk_of(self, source: InputSource) -> np.ndarray:
        """Return [N] float64, the calibrated risk of each question of opened shards; nan where a state is not finite.

        Raises what the source raises for a representation that it does not have.
        """
        if isinstance(self.estimator, FusedProbe):
            return self.calibration(self.estimator.log_odds(source))
        vectors = read_input(source, self.inputs[0])  # [N, D]
        known = np.isfinite(vectors).all(axis=1)
        risk = np.full(len(vectors), np.nan)
        if known.any():
            risk[known] = self.risk(vectors[known])
        return risk

    def risk(self, X: Any) -> np.ndarray:
        """Return [N] float64, the calibrated risk of a wrong answer.

        Without a calibration, `predict_proba(X)[:, 1]`.
        """
        if self.calibration.kind == "none":
            return self.predict_proba(X)[:, 1]
        return self.calibration(self.decision_function(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return [N] float64 log-odds of a wrong answer, before calibration."""
        return self._plain().decision_function(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return [N, 2] float64 probabilities of right and wrong, before calibration."""
        return self._plain().predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return [N], the more likely class, before calibration."""
        return self._plain().predict(X)

    def _plain(self) -> Any:
        """Return the estimator of a probe that reads one representation. Raises ProbeError for a fused one."""
        if isinstance(self.estimator, FusedProbe):
            raise ProbeError(
                f"the probe {self.title} reads {len(self.inputs)} inputs, so no single array has them: ask "
                "`risk_of(shards)`"
            )
        return self.estimator


def file_stem(representation: str) -> str:
    """Return the stem of its files: `query_token_representation/layer_7` -> `query_token_representation_layer_7`."""
    return re.sub(r"[^\w.+-]+", "_", representation)


def save_probe(
    stem: Path,
    probe: Any,
    about: Mapping[str, Any],
    calibration: Calibration | None = None,
    threshold: Threshold | None = None,
    images: Sequence[str] = (),
) -> None:
    """Write the pair of files of a fitted probe, one of KINDS.

    `about` must be JSON and goes into the card unchanged (a nan as null). `calibration` is of out-of-fold log-odds
    and `threshold` of the risks that it makes of them; `images` name (by hash or id) what the probe was trained on.
    """
    data = save_tensors({**tensors_of(probe), _IMAGES: image_keys(images)})
    described = description_of(probe)
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if isinstance(probe, FusedProbe) else _VERSION_OF_PLAIN,
        "kind": described.pop("kind"),
        "label_meaning": LABEL_MEANING,
        **about,
        **described,
        "calibration": (calibration or Calibration()).as_json(),
        "threshold": threshold.as_json() if threshold else None,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
    }
    write_bytes(_sibling(stem, ".safetensors"), data)
    _write_card(_sibling(stem, ".json"), card)


def set_threshold(path: str | os.PathLike[str], threshold: Threshold) -> None:
    """Write another threshold into a saved probe's card; `path` and errors are those of `load_probe`.

    Raises ProbeError for the bundled probe, which all users share.
    """
    card = load_probe(path).metadata
    if str(path) == BUNDLED:
        raise ProbeError(f"the bundled probe {BUNDLED!r} keeps its threshold; copy its two files from {BUNDLED_PROBES}")
    _write_card(_sibling(_stem(Path(path)), ".json"), {**card, "threshold": threshold.as_json()})


def remove_other_probes(folder: Path, stems: Collection[str]) -> None:
    """Remove the probes in the folder that are not among these stems; files that are not probes stay."""
    for card in _cards(folder):
        if card.stem not in stems:
            card.unlink()
            card.with_suffix(".safetensors").unlink(missing_ok=True)


def load_probe(path: str | os.PathLike[str]) -> SavedProbe:
    """Read a saved probe, ready to score.

    Parameters
    ----------
    path
        Either of its two files or the stem of both, or `shapes` for the bundled model's.

    Returns
    -------
    SavedProbe
        `.risk(X)` gives [N] float64 for X [N, D]; `.metadata` says what it reads and was fitted on, `.threshold` above
        which risk to abstain.

    Raises
    ------
    ProbeError
        An `InputError`: when a file is missing, of another format or version, or not the partner of the other.

    Examples
    --------
    >>> import halp_probe
    >>> probe = halp_probe.load_probe("probes/probes/query_token_representation_layer_3")
    >>> x = halp_probe.open_shards("output").vectors(probe.metadata["representation"])
    >>> risk = probe.risk(x)
    >>> risk.shape, bool((0 <= risk).all() and (risk <= 1).all())
    ((360,), True)
    """
    stem = BUNDLED_PROBES / SELECTED_STEM if str(path) == BUNDLED else _stem(Path(path))
    card = _read_card(_sibling(stem, ".json"))
    data = _read_bytes(_sibling(stem, ".safetensors"))
    if hashlib.sha256(data).hexdigest() != card["tensors_sha256"]:
        raise ProbeError(
            f"{_sibling(stem, '.safetensors')} is not the file that {stem.name}.json describes (sha256 differs); "
            "copy both files again from one place, or train the probe again"
        )
    try:
        tensors = load_tensors(data)
        return SavedProbe(
            estimator=restore(card, tensors),
            metadata=card,
            calibration=Calibration.from_json(card.get("calibration") or {}),
            threshold=Threshold.from_json(card["threshold"]) if card.get("threshold") else None,
            training_images=tensors.get(_IMAGES, image_keys(())),
        )
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProbeError(
            f"{stem}: the two files do not hold a {card['kind']} probe ({error}); train it again"
        ) from error


def load_probes(folder: str | os.PathLike[str]) -> dict[str, SavedProbe]:
    """Read all probes of a folder.

    Parameters
    ----------
    folder
        One that `train_probes.py` wrote, or the `probes/` inside, or `shapes` for the bundled model's. JSON files of
        another kind may lie beside the probes.

    Returns
    -------
    dict
        From the stem of a probe's files to the `SavedProbe`, the selected one first.

    Raises
    ------
    ProbeError
        An `InputError`: when there is none, or one that `load_probe` refuses.

    Examples
    --------
    >>> import halp_probe
    >>> list(halp_probe.load_probes("probes"))[:2]
    ['selected_probe', 'query_token_representation_layer_0']
    """
    place = BUNDLED_PROBES if str(folder) == BUNDLED else Path(folder)
    if (place / "probes").is_dir():
        place = place / "probes"
    stems = {_stem(path).name for path in (*_cards(place), *place.glob("*.safetensors"))}
    if not stems:
        raise ProbeError(f"{folder} holds no probe; pass the `output_dir` of train_probes.py")
    return {stem: load_probe(place / f"{stem}.json") for stem in sorted(stems, key=_reading_order)}


def image_keys(images: Sequence[str]) -> np.ndarray:
    """Return [G] uint64, rising: the first 8 bytes of the SHA-256 of each different name, enough to recognise it."""
    digests = [hashlib.sha256(name.encode()).digest()[:8] for name in sorted(set(images))]
    return np.sort(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))


def _reading_order(stem: str) -> tuple[bool, bool, str]:
    """Return the sort key: the selected probe, those of one representation, fused ones."""
    return stem != SELECTED_STEM, stem.startswith(f"{FUSED}_"), stem


def _cards(folder: Path) -> list[Path]:
    """Yield the cards of probes among the JSON files of a folder."""
    cards = []
    for path in folder.glob("*.json"):
        try:
            _read_card(path)
        except ProbeError:
            continue
        cards.append(path)
    return cards


def _write_card(path: Path, card: Mapping[str, Any]) -> None:
    write_json(path, _replace_nan(card))


def _read_card(path: Path) -> dict[str, Any]:
    card = read_json(path, "train the probe again", ProbeError)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ProbeError(
            f"{path} is not a probe (its format is not {FORMAT!r}); pass a file that train_probes.py wrote"
        )
    if card.get("format_version") not in range(1, FORMAT_VERSION + 1):
        raise ProbeError(
            f"{path} has version {card.get('format_version')!r}, this halp_probe reads up to {FORMAT_VERSION}: "
            "upgrade halp_probe"
        )
    missing = {"kind", "classes", "C", "parameters", "tensors_sha256"} - set(card)
    if missing or card["kind"] not in tuple(KINDS):
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"is of unknown kind {card['kind']!r}"
        raise ProbeError(f"{path} {what}; train the probe again")
    return card


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProbeError(
            f"{path} cannot be read ({error.strerror}); a probe is a .json and a .safetensors side by side"
        ) from error


def _stem(path: Path) -> Path:
    """Return the path without the two suffixes; a stem may have dots of its own."""
    return path.with_name(path.name.removesuffix(".json").removesuffix(".safetensors"))


def _sibling(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _replace_nan(value: Any) -> Any:
    """Return the same value with null for nan, which JSON does not have, and lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _replace_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
