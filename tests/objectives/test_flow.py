"""The straight way to noise: what is shown, asked for and drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import objectives
from impasto.errors import ConfigError
from impasto.objectives import config as settings
from impasto.objectives.process import Ddpm, Flow, Process, of_scheduler
from impasto.objectives.sampling import leaning, sample, trailing

T = torch.tensor([0, 499, 999])


def test_the_way_is_straight_and_ends_in_noise() -> None:
    latents, noise = torch.randn(2, 3, 16, 2, 2)
    x = Flow().add_noise(latents, noise, T)
    assert torch.allclose(x[0], 0.999 * latents[0] + 0.001 * noise[0], atol=1e-6)
    assert torch.allclose(x[1], (latents[1] + noise[1]) / 2, atol=1e-6)
    assert torch.equal(x[2], noise[2])
    assert torch.equal(Flow().target(latents, noise, T), noise - latents)


def test_a_perfect_prediction_gives_back_latents_and_noise() -> None:
    process = Flow()
    latents, noise = torch.randn(2, 3, 16, 2, 2)
    x, answer = process.add_noise(latents, noise, T), process.target(latents, noise, T)
    assert torch.allclose(process.clean(x, answer, T), latents, atol=1e-5)
    assert torch.allclose(process.noise_of(x, answer, T), noise, atol=1e-5)


def test_signal_to_noise_falls_to_nothing() -> None:
    snr = Flow().snr(torch.arange(1000))
    assert float(snr[499]) == pytest.approx(1.0)
    assert float(snr[999]) == 0.0
    assert bool((snr.diff() < 0).all())


def test_samplers_lean_towards_noise_as_the_schedule_says() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    spaced = [(leaning(t, 1000, 3.0) + 1) / 1000 for t in trailing(1000, 8)]
    sigmas = torch.arange(8, 0, -1) / 8
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=sigmas.tolist())
    assert spaced == pytest.approx(scheduler.sigmas[:-1].tolist(), abs=5e-4)
    assert [leaning(t, 1000, 1.0) for t in (0, 500, 999)] == [0, 500, 999]


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++2m"])
def test_every_sampler_finds_the_picture_that_a_perfect_denoiser_knows(sampler: str) -> None:
    picture, process = torch.randn(1, 16, 2, 2), Flow(shift=3.0)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        _, sigma = process.levels(t)
        return (x - picture) / sigma.view(-1, 1, 1, 1)

    noise = torch.randn(1, 16, 2, 2)
    drawn = sample(predict, process, noise, steps=5, sampler=sampler)  # type: ignore[arg-type]
    assert torch.allclose(drawn, picture, atol=1e-4)


def test_euler_takes_the_steps_of_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x + (t.view(-1, 1, 1, 1) + 1) / 1000

    noise = torch.randn(1, 16, 2, 2, generator=torch.Generator().manual_seed(0))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, t.view(1) - 1), t, x, return_dict=False)[0]
    assert torch.allclose(sample(predict, Flow(), noise, steps=4, sampler="euler"), x, atol=1e-5)


def test_a_schedule_says_which_process_it_is() -> None:
    flow = of_scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "flow")
    assert (flow.prediction, flow.shift, flow.steps) == ("flow", 3.0, 1000)
    assert isinstance(of_scheduler({}, "v"), Ddpm)


@pytest.mark.parametrize(
    ("objective", "code"),
    [
        ({"weighting": {"kind": "min-snr"}}, "E-CFG-126"),
        ({"v_like": 0.5}, "E-CFG-126"),
        ({"zero_terminal_snr": True}, "E-CFG-125"),
    ],
)
def test_what_a_flow_does_not_know_is_refused(objective: dict[str, object], code: str) -> None:
    with pytest.raises(ConfigError, match=code):
        objectives.build(settings.Objective.model_validate(objective), Flow(), seed=0)


# -- as the base was made ---------------------------------------------------------------------------------------------

AT_512, AT_1024 = (64, 64), (128, 128)
KEYS = [f"0:{picture}:0:0" for picture in range(200)]


def drawn(objective: settings.Objective, process: Process, size: tuple[int, int] = AT_512) -> list[int]:
    found: list[int] = objectives.build(objective, process, seed=3).draw(KEYS, size).tolist()
    return found


def test_a_base_without_a_flow_sees_every_level_alike() -> None:
    explicit = settings.Objective(timesteps=settings.Uniform(), shift=settings.NoShift())
    assert drawn(settings.Objective(), Ddpm.scaled_linear()) == drawn(explicit, Ddpm.scaled_linear())


@pytest.mark.parametrize("size", [AT_512, AT_1024])
def test_a_flow_sees_the_middle_most_and_flux_more_noise_in_larger_pictures(size: tuple[int, int]) -> None:
    explicit = settings.Objective(timesteps=settings.LogitNormal(), shift=settings.NoShift())
    assert drawn(settings.Objective(), Flow(shift=3.0), size) == drawn(explicit, Flow(shift=3.0), size)
    shifted = settings.Objective(timesteps=settings.Sigmoid(), shift=settings.FluxShift())
    assert drawn(settings.Objective(), Flow(by_size=True), size) == drawn(shifted, Flow(by_size=True), size)


@pytest.mark.parametrize(("size", "strength"), [(AT_512, 1.877611), ((96, 96), 2.331861), (AT_1024, 3.158193)])
def test_half_of_what_flux_sees_is_noisier_than_its_shift_of_the_middle(size: tuple[int, int], strength: float) -> None:
    """The recorded shifts of sd-scripts' flux_shift: the median of the draws is s / (1 + s)."""
    found = objectives.density(objectives.for_base(settings.Objective(), Flow(by_size=True)), size)
    assert found.quantile(0.5) == pytest.approx(strength / (1 + strength), abs=1e-6)


def test_the_range_and_the_looks_hold_for_what_is_usual_too() -> None:
    narrow = settings.Objective(timesteps=settings.Usual(low=200, high=400, looks="stratified"))
    explicit = settings.Objective(timesteps=settings.LogitNormal(low=200, high=400, looks="stratified"))
    found = drawn(narrow, Flow())
    assert found == drawn(explicit, Flow())
    assert 200 <= min(found) <= max(found) < 400


# -- how much a level counts ------------------------------------------------------------------------------------------

SIGMA = (torch.arange(1, 1001, dtype=torch.float64) / 1000).numpy()
COSINE_MAP = 2 / (np.pi * (1 - 2 * SIGMA + 2 * SIGMA**2))


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ({"kind": "cosine-map"}, COSINE_MAP),
        ({"kind": "cosine-map", "of_picture": True}, COSINE_MAP * SIGMA**2),
        ({"kind": "picture"}, SIGMA**2),
    ],
)
def test_levels_of_a_flow_are_weighed_by_how_much_noise_there_is(
    weighting: dict[str, object], expected: NDArray[np.float64]
) -> None:
    built = objectives.build(settings.Objective.model_validate({"weighting": weighting}), Flow(), seed=0)
    assert built.weights is not None
    assert built.weights.numpy() == pytest.approx(expected, rel=2e-5, abs=1e-7)


def test_the_middle_counts_twice_as_much_as_the_ends() -> None:
    built = objectives.build(settings.Objective(weighting=settings.CosineWeight()), Flow(), seed=0)
    assert built.weights is not None
    assert built.weights[T].tolist() == pytest.approx([0.6378935, 1.2732395, 0.6366198], rel=1e-5)


def test_weighed_by_the_picture_the_loss_is_the_error_of_the_clean_picture() -> None:
    process = Flow()
    objective = objectives.build(settings.Objective(weighting=settings.OfPicture()), process, seed=0)
    latents = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    noised = objective.corrupt(latents, ["a:0:0", "b:0:0", "c:0:0"])
    answer = noised.target + torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    clean = (process.clean(noised.x, answer, noised.t) - latents).square().mean(dim=(1, 2, 3))
    assert torch.allclose(objective.loss(answer, noised, torch.ones(3)), clean, rtol=1e-3)


@pytest.mark.parametrize("kind", ["cosine-map", "picture"])
def test_weightings_of_a_flow_are_refused_for_other_bases(kind: str) -> None:
    objective = settings.Objective.model_validate({"weighting": {"kind": kind}})
    with pytest.raises(ConfigError, match="E-CFG-127"):
        objectives.build(objective, Ddpm.scaled_linear(), seed=0)
