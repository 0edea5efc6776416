"""How data becomes noise, and what the denoiser is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from impasto.errors import ModelFileError, Problem

Prediction = Literal["epsilon", "v", "flow"]
WHERE = "scheduler/scheduler_config.json"


class Process(Protocol):
    """A noising process with its prediction type; the family chooses one."""

    steps: int
    """Timesteps run from 0 (clean) to steps - 1."""

    prediction: Prediction
    """What the denoiser is asked for."""

    shift: float
    """How far samplers lean towards noisy timesteps; 1 spaces them evenly."""

    by_size: bool
    """Whether they lean as FLUX.1 does instead, the further the larger the picture."""

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the signal and how much noise there is at `t`, each [N]."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents [N, ...] noised to integer timesteps `t` [N]."""
        ...

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would answer."""
        ...

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio at `t`, [N]."""
        ...

    def clean(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean latents that a prediction at `t` amounts to."""
        ...

    def noise_of(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The noise that a prediction at `t` amounts to."""
        ...


class Ddpm:
    """The variance-preserving process x = sqrt(ᾱ) z + sqrt(1 - ᾱ) n (Ho et al. 2020, eq. 4).

    The denoiser predicts the noise n, or the velocity v = sqrt(ᾱ) n - sqrt(1 - ᾱ) z (Salimans and Ho 2022, appendix
    D). All results are fp32, on the device of the tables.
    """

    def __init__(
        self, prediction: Prediction, alphas_cumprod: Tensor, *, device: torch.device | str | None = None
    ) -> None:
        """`alphas_cumprod` [steps] is ᾱ; its roots are taken in fp64 and kept on `device` in fp32."""
        exact = alphas_cumprod.detach().to("cpu", torch.float64)
        assert prediction != "flow", "a flow has no such schedule"
        self.prediction: Prediction = prediction
        self.shift = 1.0
        self.by_size = False
        self.steps = len(exact)
        self.alphas_cumprod = exact
        self._signal = exact.sqrt().float().to(device)
        self._noise = (1 - exact).sqrt().float().to(device)
        self._snr = (exact / (1 - exact)).float().to(device)

    @classmethod
    def scaled_linear(cls, prediction: Prediction = "epsilon", *, device: torch.device | str | None = None) -> Ddpm:
        """The schedule of Stable Diffusion 1, 2 and XL: 1000 steps, the roots of β evenly from 0.00085 to 0.012."""
        betas = _spread(0.00085**0.5, 0.012**0.5, 1000) ** 2
        return cls(prediction, (1 - betas).cumprod(0), device=device)

    @classmethod
    def from_scheduler(
        cls,
        config: Mapping[str, Any],
        *,
        prediction: Prediction | None = None,
        device: torch.device | str | None = None,
    ) -> Ddpm:
        """The process a diffusers scheduler's configuration describes; settings it leaves out are diffusers'.

        `prediction` overrules the configuration's. Raises ModelFileError for a schedule or a prediction type that
        cannot be trained.
        """
        alphas_cumprod = (1 - _betas(config)).cumprod(0)
        asked = prediction or _prediction(config)
        if config.get("rescale_betas_zero_snr", False):
            if asked == "epsilon":
                what = "the last step is pure noise (rescale_betas_zero_snr), from which noise cannot be predicted"
                raise ModelFileError(Problem("E-MOD-122", what, WHERE, "set model.prediction to v"))
            alphas_cumprod = zero_terminal_snr(alphas_cumprod)
        return cls(asked, alphas_cumprod, device=device)

    def ending_in_noise(self) -> Ddpm:
        """The same process with its last step pure noise, where only v can be predicted."""
        assert self.prediction == "v", "from pure noise the noise cannot be predicted"
        return Ddpm(self.prediction, zero_terminal_snr(self.alphas_cumprod), device=self._snr.device)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(ᾱ) and sqrt(1 - ᾱ) at `t`, each [N]."""
        return self._signal[t], self._noise[t]

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents [N, ...] noised to integer timesteps `t` [N]."""
        signal, strength = self._levels_like(latents, t)
        return signal * latents + strength * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would answer, [N, ...]."""
        match self.prediction:
            case "epsilon":
                return noise.float()
            case "v":
                signal, strength = self._levels_like(latents, t)
                return signal * noise - strength * latents
            case _:
                raise AssertionError(self.prediction)

    def snr(self, t: Tensor) -> Tensor:
        """ᾱ / (1 - ᾱ) at `t`, [N]."""
        return self._snr[t]

    def clean(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean latents that a prediction at `t` amounts to, [N, ...]."""
        signal, strength = self._levels_like(x, t)
        match self.prediction:
            case "epsilon":
                return (x - strength * predicted) / signal
            case "v":
                return signal * x - strength * predicted
            case _:
                raise AssertionError(self.prediction)

    def noise_of(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The noise that a prediction at `t` amounts to, [N, ...]."""
        match self.prediction:
            case "epsilon":
                return predicted.float()
            case "v":
                signal, strength = self._levels_like(x, t)
                return strength * x + signal * predicted
            case _:
                raise AssertionError(self.prediction)

    def _levels_like(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1,) + (1,) * (x.ndim - 1)  # [N, 1, ...]
        signal, strength = self.levels(t)
        return signal.view(shape), strength.view(shape)


class Flow:
    """The straight way from a picture to noise, x = (1 - σ) z + σ n; the denoiser predicts where it goes, n - z (Liu et
    al. 2023, "Flow Straight and Fast"; Esser et al. 2024, section 2).

    Timestep t of `steps` stands for σ = (t + 1) / steps, so the last one is pure noise. All results are fp32.
    """

    prediction: Prediction = "flow"

    def __init__(
        self, *, shift: float = 1.0, by_size: bool = False, steps: int = 1000,
        device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        self.steps = steps
        self.shift = shift
        self.by_size = by_size
        self._sigma = (torch.arange(1, steps + 1, dtype=torch.float64) / steps).float().to(device)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - σ and σ at `t`, each [N]."""
        return 1 - self._sigma[t], self._sigma[t]

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents [N, ...] on their way to the noise at integer timesteps `t` [N]."""
        sigma = self._like(latents, t)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would answer, [N, ...]."""
        return noise.float() - latents.float()

    def snr(self, t: Tensor) -> Tensor:
        """((1 - σ) / σ)² at `t`, [N]."""
        signal, strength = self.levels(t)
        return (signal / strength).square()

    def clean(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean latents that a prediction at `t` amounts to, [N, ...]."""
        return x - self._like(x, t) * predicted

    def noise_of(self, x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The noise that a prediction at `t` amounts to, [N, ...]."""
        return x + (1 - self._like(x, t)) * predicted

    def _like(self, x: Tensor, t: Tensor) -> Tensor:
        return self._sigma[t].view(-1, *[1] * (x.ndim - 1))  # [N, 1, ...]


def of_scheduler(
    config: Mapping[str, Any], prediction: Prediction, device: torch.device | str | None = None
) -> Process:
    """The process that a diffusers scheduler's configuration describes, with this prediction."""
    if prediction == "flow":
        by_size = bool(config.get("use_dynamic_shifting", False))
        return Flow(shift=float(config.get("shift", 1.0)), by_size=by_size, device=device)
    return Ddpm.from_scheduler(config, prediction=prediction, device=device)


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """ᾱ shifted and scaled so that its last step is pure noise (Lin et al. 2024, Algorithm 1)."""
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    steps = int(config.get("num_train_timesteps", 1000))
    first, last = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    match config.get("beta_schedule", "linear"):
        case "linear":
            return _spread(first, last, steps)
        case "scaled_linear":
            return _spread(first**0.5, last**0.5, steps) ** 2
        case "squaredcos_cap_v2":
            return _cosine(steps)
        case other:
            what, fix = f"the noise schedule {other!r} is not known", "use linear, scaled_linear or squaredcos_cap_v2"
            raise ModelFileError(Problem("E-MOD-120", what, WHERE, fix))


def _prediction(config: Mapping[str, Any]) -> Prediction:
    match config.get("prediction_type", "epsilon"):
        case "epsilon":
            return "epsilon"
        case "v_prediction":
            return "v"
        case other:
            fix = "set model.prediction to epsilon or v"
            raise ModelFileError(Problem("E-MOD-121", f"prediction_type {other!r} cannot be trained", WHERE, fix))


def _spread(first: float, last: float, steps: int) -> Tensor:
    return torch.linspace(first, last, steps, dtype=torch.float64)


def _cosine(steps: int) -> Tensor:
    """Betas of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), none above 0.999."""

    def remaining(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - remaining((t + 1) / steps) / remaining(t / steps), 0.999) for t in range(steps)]
    return torch.tensor(betas, dtype=torch.float64)
