"""The straight way to noise: what is shown, asked for and drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impasto import objectives
from impasto.errors import ConfigError
from impasto.objectives import config as settings
from impasto.objectives.process import Ddpm, Flow, of_scheduler
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
