"""Pictures out of noise: plain functions over any process, for previews and proofs.

All samplers go through the *trailing* timesteps: evenly spaced and ending on the last one, so that even a few steps
start from as much noise as there is in the picture to be (Lin et al. 2024, Table 2). *Leading* timesteps, which leave
out the noisiest levels, are not offered. They end on clean latents.

These settings draw the same picture in diffusers, each with `timestep_spacing="trailing"`:

    ddim      DDIMScheduler(clip_sample=False, set_alpha_to_one=True), where the steps divide the process' (1000).
              For other numbers of steps diffusers goes to timesteps a little beside the ones it asks the model about.
    euler     EulerDiscreteScheduler()
    dpm++2m   DPMSolverMultistepScheduler(), of order 2, algorithm dpmsolver++ and solver midpoint, as by default
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_never

import torch
from torch import Tensor

from impasto.objectives.densities import flux_shift
from impasto.objectives.process import Process

Sampler = Literal["ddim", "euler", "dpm++2m"]

Predict = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents [N, C, h, w] and timesteps [N] -> the denoiser's answer [N, C, h, w], guidance included."""


def nothing() -> None:
    """What to poll when nobody can ask for a stop."""


@torch.no_grad()
def sample(
    predict: Predict,
    process: Process,
    noise: Tensor,
    *,
    steps: int,
    sampler: Sampler = "ddim",
    poll: Callable[[], None] = nothing,
) -> Tensor:
    """Clean latents [N, C, h, w] out of standard normal `noise` [N, C, h, w], in `steps` calls of `predict`.

    `poll` is called before each of them and may raise to stop. Raises ValueError if the process has fewer timesteps
    than `steps`.
    """
    height, width = noise.shape[-2:]
    shift = flux_shift((height, width)) if process.by_size else process.shift
    spaced = [leaning(t, process.steps, shift) for t in trailing(process.steps, steps)]
    falling = torch.tensor(spaced, device=noise.device)
    path = falling[:, None].expand(-1, len(noise))  # [steps, N]
    match sampler:
        case "ddim":
            return ddim(predict, process, noise.float(), path, poll)
        case "euler":
            return euler(predict, process, noise.float(), path, poll)
        case "dpm++2m":
            return dpm_2m(predict, process, noise.float(), path, poll)
        case _:
            assert_never(sampler)


def trailing(total: int, steps: int) -> list[int]:
    """`steps` timesteps out of 0..total-1, falling, evenly spaced and starting with the last."""
    if not 1 <= steps <= total:
        raise ValueError(f"between 1 and {total} denoising steps are possible, not {steps}")
    return [round(total - done * total / steps) - 1 for done in range(steps)]


def leaning(t: int, total: int, shift: float) -> int:
    """A timestep moved towards noise: σ = (t + 1) / total becomes shift σ / (1 + (shift - 1) σ) (Esser et al. 2024, eq.
    23)."""
    sigma = (t + 1) / total
    return round(total * shift * sigma / (1 + (shift - 1) * sigma)) - 1


def ddim(predict: Predict, process: Process, x: Tensor, path: Tensor, poll: Callable[[], None] = nothing) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with σ = 0) from `x` along timesteps `path` [steps, N]."""
    clean = x
    for i, t in enumerate(path):
        poll()
        predicted = predict(x, t).float()
        clean = process.clean(x, predicted, t)
        if i + 1 < len(path):
            x = process.add_noise(clean, process.noise_of(x, predicted, t), path[i + 1])
    return clean


def euler(predict: Predict, process: Process, x: Tensor, path: Tensor, poll: Callable[[], None] = nothing) -> Tensor:
    """Euler's method in the noise-to-signal ratio σ (Karras et al. 2022, Algorithm 1 without churn).

    In latents divided by the signal its straight steps are those of DDIM (Song et al. 2021, eq. 14). What differs is
    the start: σ times the noise without any signal, where DDIM takes the noise itself.
    """
    _, strength = process.levels(path[0])
    return ddim(predict, process, _like(strength, x) * x, path, poll)


def dpm_2m(predict: Predict, process: Process, x: Tensor, path: Tensor, poll: Callable[[], None] = nothing) -> Tensor:
    """DPM-Solver++ of order 2, multistep (Lu et al. 2022, "DPM-Solver++", Algorithm 2) along `path` [steps, N].

    The first step and the last are of order 1.
    """
    clean, before, step_before = x, None, None  # before: the clean latents of the last step; h in the paper: step
    for i, t in enumerate(path):
        poll()
        clean = process.clean(x, predict(x, t).float(), t)
        if i + 1 == len(path):
            break
        (signal, strength), (next_signal, next_strength) = process.levels(t), process.levels(path[i + 1])
        step = _log_ratio(next_signal, next_strength) - _log_ratio(signal, strength)  # [N]
        direction = clean
        if before is not None and step_before is not None:
            direction = clean + _like(step / step_before / 2, x) * (clean - before)
        x = _like(next_strength / strength, x) * x - _like(next_signal * torch.expm1(-step), x) * direction
        before, step_before = clean, step
    return clean


def _log_ratio(signal: Tensor, strength: Tensor) -> Tensor:
    return signal.log() - strength.log()


def _like(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 1))  # [N, 1, ...]
