"""Objectives: what the training tries to do. This is the one place that matches on the kinds; importing it does not
import torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, assert_never

from impasto.errors import ConfigError, Problem
from impasto.objectives import config as settings
from impasto.objectives import densities
from impasto.objectives.densities import Density, Size

if TYPE_CHECKING:
    from torch import Tensor

    from impasto.objectives.objective import DrawTimesteps, Error, Objective, ShapeNoise
    from impasto.objectives.process import Prediction, Process
    from impasto.objectives.weighting import Array

RARE = 1e-6
"""A range of timesteps that gets fewer of all draws than this is a mistake."""


def build(config: settings.Objective, process: Process, seed: int) -> Objective:
    """The objective of a member with dice `seed`, over its family's process.

    Raises ConfigError for what the process does not have or its prediction cannot be trained with.
    """
    from impasto.objectives import losses
    from impasto.objectives.objective import Objective

    config = for_base(config, process)
    _fits(config, process)
    process = _rescaled(process) if config.zero_terminal_snr else process
    return Objective(
        process,
        seed,
        _timesteps(config, process.steps, seed),
        _shaping(config.noise),
        _perturbation(config.noise),
        _error(config.loss, process),
        partial(losses.masked_mean, normalise=config.mask.normalise, floor=config.mask.floor),
        _weights(config, process),
    )


def for_base(config: settings.Objective, process: Process) -> settings.Objective:
    """The settings with what is as the base was made put into words."""
    return as_made(config, flow=process.prediction == "flow", by_size=process.by_size)


def as_made(config: settings.Objective, *, flow: bool, by_size: bool) -> settings.Objective:
    """The same for a base that learns a flow or not, and whose shift goes by the size of the picture or not."""
    times, shift = config.timesteps, config.shift
    if isinstance(times, settings.Usual):
        kind = settings.LogitNormal if flow else settings.Uniform
        times = kind(low=times.low, high=times.high, looks=times.looks)
    if isinstance(shift, settings.UsualShift):
        shift = settings.FluxShift() if by_size else settings.NoShift()
    return config.model_copy(update={"timesteps": times, "shift": shift})


def density(config: settings.Objective, size: Size) -> Density:
    """How the levels of latents of `size` are distributed, before they are kept to the range. What is as the base was
    made is taken to be as for one that predicts noise."""
    return densities.shifted(_unshifted(config.timesteps), _strength(config.shift, size))


def weigh(config: settings.Objective, snr: Array, prediction: Prediction) -> Array:
    """How much each timestep counts, [steps], by its signal-to-noise ratio."""
    from impasto.objectives import weighting

    found = _weighting(config.weighting, prediction)(snr)
    return found * weighting.v_like(snr, strength=config.v_like) if config.v_like else found


def thresholds(config: settings.Loss, snr: Array) -> Array | None:
    """Where the error turns from squared into linear at each timestep, [steps]; None for losses that do not turn."""
    match config:
        case settings.MeanSquared() | settings.Absolute():
            return None
        case settings.Huber() | settings.SmoothL1():
            return _thresholds(config)(snr)
        case _:
            assert_never(config)


# -- what does not go together ----------------------------------------------------------------------------------------


def _fits(config: settings.Objective, process: Process) -> None:
    found = [*_range(config.timesteps, process.steps), *_prediction(config, process.prediction)]
    if found:
        raise ConfigError(*found)


def _range(config: settings.Timesteps, steps: int) -> Sequence[Problem]:
    if config.high > steps:
        what = f"timesteps up to {config.high} are asked for, and the base has {steps}"
        return [Problem("E-CFG-120", what, "objective.timesteps.high", f"set it to {steps} or less")]
    if _unshifted(config).share(config.low / steps, config.high / steps) < RARE:
        what = f"this distribution has next to nothing between timesteps {config.low} and {config.high}"
        return [Problem("E-CFG-121", what, "objective.timesteps", "widen the range, or move the distribution there")]
    return []


def _prediction(config: settings.Objective, prediction: Prediction) -> Sequence[Problem]:
    found = []
    if config.zero_terminal_snr and prediction == "epsilon":
        what = "from pure noise the noise cannot be predicted, and this base predicts noise"
        fix = "set it to false, or use a base that predicts v"
        found.append(Problem("E-CFG-122", what, "objective.zero_terminal_snr", fix))
    if isinstance(config.weighting, settings.NoiseLike) and prediction == "epsilon":
        what = "this base predicts noise already; noise-like is for bases that predict v"
        found.append(Problem("E-CFG-123", what, "objective.weighting.kind", 'kind = "none"'))
    if config.v_like and prediction == "v":
        what = "this base predicts v already; v_like is for bases that predict noise"
        found.append(Problem("E-CFG-124", what, "objective.v_like", "v_like = 0.0"))
    of_flow = isinstance(config.weighting, settings.CosineWeight | settings.OfPicture)
    if of_flow and prediction != "flow":
        what = f"the weighting {config.weighting.kind!r} is for bases that learn a flow, and this one does not"
        fix = 'kind = "none", or "min-snr"'
        found.append(Problem("E-CFG-127", what, "objective.weighting.kind", fix))
    if prediction == "flow" and (config.v_like or not (of_flow or config.weighting == settings.Unweighted())):
        what = "this base learns a flow, for which weights by the signal-to-noise ratio are not made"
        fix = 'kind = "none" or "cosine-map"; objective.timesteps says which noise levels are trained'
        found.append(Problem("E-CFG-126", what, "objective.weighting.kind", fix))
    return found


# -- which noise levels -----------------------------------------------------------------------------------------------


def _timesteps(config: settings.Objective, steps: int, seed: int) -> DrawTimesteps:
    from impasto.objectives import timesteps

    chosen = config.timesteps
    low, high = chosen.low, chosen.high
    if chosen == settings.Uniform(low=low, high=high) and config.shift == settings.NoShift():
        return lambda keys, size: timesteps.uniform(keys, low=low, high=high, seed=seed)
    roll = partial(timesteps.stratified if chosen.looks == "stratified" else timesteps.independent, seed=seed)
    drawn = partial(timesteps.distributed, low=low, high=high, steps=steps)
    return lambda keys, size: drawn(keys, roll, density(config, size))


def _unshifted(config: settings.Timesteps) -> Density:
    match config:
        case settings.Uniform() | settings.Usual():
            return densities.UNIFORM
        case settings.LogitNormal():
            return densities.logit_normal(config.mean, config.std)
        case settings.Sigmoid():
            return densities.logit_normal(0.0, config.scale)
        case settings.CosineMap():
            return densities.COSINE_MAP
        case settings.Mode():
            return densities.mode(config.scale)
        case _:
            assert_never(config)


def _strength(config: settings.Shift, size: Size) -> float:
    match config:
        case settings.NoShift() | settings.UsualShift():
            return 1.0
        case settings.FixedShift():
            return config.strength
        case settings.ResolutionShift():
            return densities.area_shift(size, config.side)
        case settings.FluxShift():
            return densities.flux_shift(size)
        case _:
            assert_never(config)


# -- which noise ------------------------------------------------------------------------------------------------------


def _rescaled(process: Process) -> Process:
    from impasto.objectives.process import Ddpm

    if isinstance(process, Ddpm):
        return process.ending_in_noise()
    what = "this base has no schedule that could be made to end in pure noise"
    raise ConfigError(Problem("E-CFG-125", what, "objective.zero_terminal_snr", "zero_terminal_snr = false"))


def _shaping(config: settings.Noise) -> tuple[ShapeNoise, ...]:
    from impasto.objectives import noise

    found: list[ShapeNoise] = []
    if config.offset:
        found.append(partial(noise.offset, **config.offset.model_dump()))
    if config.pyramid:
        found.append(partial(noise.pyramid, **config.pyramid.model_dump()))
    return tuple(found)


def _perturbation(config: settings.Noise) -> ShapeNoise | None:
    from impasto.objectives import noise

    return partial(noise.perturbed, **config.perturbation.model_dump()) if config.perturbation else None


# -- how an error counts ----------------------------------------------------------------------------------------------


def _error(config: settings.Loss, process: Process) -> Error:
    from impasto.objectives import losses

    match config:
        case settings.MeanSquared():
            return losses.squared
        case settings.Absolute():
            return losses.absolute
        case settings.Huber():
            return partial(losses.huber, thresholds=_table(_thresholds(config), process))
        case settings.SmoothL1():
            return partial(losses.smooth_l1, thresholds=_table(_thresholds(config), process))
        case _:
            assert_never(config)


def _thresholds(config: settings.Huber | settings.SmoothL1) -> Callable[[Array], Array]:
    from impasto.objectives import weighting

    schedules = {"constant": weighting.constant, "exponential": weighting.exponential, "snr": weighting.by_snr}
    return partial(schedules[config.schedule], at=config.threshold, scale=config.scale)


def _weights(config: settings.Objective, process: Process) -> Tensor | None:
    if isinstance(config.weighting, settings.Unweighted) and not config.v_like:
        return None
    return _table(partial(weigh, config, prediction=process.prediction), process)


def _weighting(config: settings.Weighting, prediction: Prediction) -> Callable[[Array], Array]:
    from impasto.objectives import weighting

    match config:
        case settings.Unweighted():
            return weighting.unweighted
        case settings.CosineWeight():
            return partial(weighting.cosine_map, of_picture=config.of_picture)
        case settings.OfPicture():
            return weighting.picture
    assert prediction != "flow", "refused before"
    match config:
        case settings.MinSnr():
            return partial(weighting.min_snr, prediction=prediction, gamma=config.gamma)
        case settings.SoftMinSnr():
            return partial(weighting.soft_min_snr, prediction=prediction, gamma=config.gamma)
        case settings.Debiased():
            return partial(weighting.debiased, prediction=prediction)
        case settings.NoiseLike():
            return weighting.noise_like
        case _:
            assert_never(config)


def _table(make: Callable[[Array], Array], process: Process) -> Tensor:
    """What `make` gives for each timestep, fp32 [steps] on the device of the process."""
    import torch

    snr = process.snr(torch.arange(process.steps))
    return torch.from_numpy(make(snr.cpu().double().numpy())).float().to(snr.device)
