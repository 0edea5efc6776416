"""Tables over the timesteps, from their signal-to-noise ratios in fp64: how much a level counts, and where an error
turns from squared into linear. Numpy only, so that they can be looked at without a model."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Prediction = Literal["epsilon", "v"]
"""What the weights by the signal-to-noise ratio are made for."""

MOST = 1000.0
"""Ratios over this count as this, in the weights that would else vanish or explode near clean."""


def unweighted(snr: Array) -> Array:
    """Every timestep alike."""
    return np.ones_like(snr)


def min_snr(snr: Array, prediction: Prediction, *, gamma: float) -> Array:
    """min(r, γ) of the error in the clean picture (Hang et al. 2023), as a weight of the prediction's error."""
    return _of_prediction(np.minimum(snr, gamma), snr, prediction)


def soft_min_snr(snr: Array, prediction: Prediction, *, gamma: float) -> Array:
    """rγ / (r + γ) of the error in the clean picture (Crowson et al. 2024)."""
    return _of_prediction(snr * gamma / (snr + gamma), snr, prediction)


def debiased(snr: Array, prediction: Prediction) -> Array:
    """1 / √r for noise (Yu et al. 2023), 1 / (r + 1) for v."""
    capped: Array = np.minimum(snr, MOST)
    return 1 / np.sqrt(capped) if prediction == "epsilon" else 1 / (capped + 1)


def noise_like(snr: Array) -> Array:
    """r / (r + 1): an error in v weighed as the error in noise that it amounts to."""
    capped: Array = np.minimum(snr, MOST)
    return capped / (capped + 1)


def cosine_map(snr: Array, *, of_picture: bool) -> Array:
    """2 / (π (1 - 2σ + 2σ²)) of a flow at σ (Esser et al. 2024, eq. 21), times σ² for the error of the picture."""
    sigma = _sigma(snr)
    found: Array = 2 / (np.pi * (1 - 2 * sigma + 2 * sigma**2))
    return found * picture(snr) if of_picture else found


def picture(snr: Array) -> Array:
    """σ²: an error in the direction of a flow as the error in the clean picture, x - σ times the direction."""
    return _sigma(snr) ** 2


def v_like(snr: Array, *, strength: float) -> Array:
    """1 + λ (r + 1) / r: an error in noise, plus a share of the error in v that it amounts to."""
    return 1 + strength / noise_like(snr)


def constant(snr: Array, *, at: float, scale: float) -> Array:
    """The same threshold at every timestep."""
    return np.full_like(snr, at * scale)


def exponential(snr: Array, *, at: float, scale: float) -> Array:
    """From 1 at timestep 0 to nearly `at` at the last, by the same factor each (Khrapov et al. 2024)."""
    passed: Array = np.arange(len(snr)) / len(snr)
    return scale * at**passed


def by_snr(snr: Array, *, at: float, scale: float) -> Array:
    """(1 - at) / (1 + σ)² + at with σ = 1 / √r (Khrapov et al. 2024), times `scale`."""
    root: Array = np.sqrt(snr)
    return scale * ((1 - at) * (root / (root + 1)) ** 2 + at)


def _sigma(snr: Array) -> Array:
    """σ of a flow, whose ratio is ((1 - σ) / σ)²."""
    found: Array = 1 / (1 + np.sqrt(snr))
    return found


def _of_prediction(weight: Array, snr: Array, prediction: Prediction) -> Array:
    """A weight of errors in the clean picture as one of errors in the prediction (Salimans and Ho 2022, section 4)."""
    return weight / (snr if prediction == "epsilon" else snr + 1)
