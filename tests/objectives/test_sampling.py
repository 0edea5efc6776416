"""Our samplers draw what diffusers' schedulers draw."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch.testing import assert_close

from impasto.objectives.process import Ddpm
from impasto.objectives.sampling import sample, trailing

# diffusers hands tensors to numpy in a way that numpy 2 is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
THEIRS = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
}


def toy(x, t):
    """A smooth answer that depends on place, content and time."""
    return torch.tanh(0.7 * x + 0.3 * x.roll(1, -1)) * (0.5 + t.float().view(-1, 1, 1, 1) / 2000)


def noise(rows=2):
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def drawn_by_diffusers(sampler, config, steps):
    make, more = THEIRS[sampler]
    scheduler = make(**{**CONFIG, "timestep_spacing": "trailing", **config, **more})
    scheduler.set_timesteps(steps)
    x = noise() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        predicted = toy(scheduler.scale_model_input(x, t), t.expand(len(x)))
        x = scheduler.step(predicted, t, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 20, 50])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("sampler", THEIRS)
def test_a_picture_is_the_one_diffusers_draws(sampler, prediction, steps):
    ours = sample(toy, Ddpm.scaled_linear(prediction), noise(), steps=steps, sampler=sampler)
    theirs = drawn_by_diffusers(sampler, {"prediction_type": PREDICTIONS[prediction]}, steps)
    assert_close(ours, theirs, rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("steps", [7, 30])
@pytest.mark.parametrize("sampler", ["euler", "dpm++2m"])
def test_any_number_of_steps_agrees_for_euler_and_dpm(sampler, steps):
    ours = sample(toy, Ddpm.scaled_linear(), noise(), steps=steps, sampler=sampler)
    assert_close(ours, drawn_by_diffusers(sampler, {}, steps), rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("sampler", THEIRS)
def test_models_that_start_from_pure_noise_are_drawn(sampler):
    config = {**CONFIG, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    ours = sample(toy, Ddpm.from_scheduler(config), noise(), steps=10, sampler=sampler)
    assert_close(ours, drawn_by_diffusers(sampler, config, 10), rtol=0, atol=2e-3)  # they stop just short of zero


@pytest.mark.parametrize("steps", [1, 3, 7, 16, 20, 30, 333, 1000])
def test_timesteps_are_those_of_diffusers(steps):
    scheduler = EulerDiscreteScheduler(**CONFIG, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert trailing(1000, steps) == scheduler.timesteps.long().tolist()[:steps]


@pytest.mark.parametrize("sampler", THEIRS)
def test_a_denoiser_that_knows_the_answer_finds_it(sampler):
    process, answer = Ddpm.scaled_linear(), torch.full((2, 4, 8, 8), 0.25)

    def knows(x, t):
        signal, strength = process.levels(t)
        return (x - signal.view(-1, 1, 1, 1) * answer) / strength.view(-1, 1, 1, 1)

    assert_close(sample(knows, process, noise(), steps=8, sampler=sampler), answer, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", THEIRS)
def test_rows_of_a_batch_do_not_meet(sampler):
    process = Ddpm.scaled_linear()
    both = sample(toy, process, noise(), steps=5, sampler=sampler)
    alone = sample(toy, process, noise()[1:], steps=5, sampler=sampler)
    assert_close(both[1:], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", THEIRS)
def test_a_stop_is_heard_between_steps(sampler):
    calls = []

    def poll():
        if len(calls) == 3:
            raise InterruptedError

    def predict(x, t):
        calls.append(t)
        return x

    with pytest.raises(InterruptedError):
        sample(predict, Ddpm.scaled_linear(), noise(), steps=10, sampler=sampler, poll=poll)
    assert len(calls) == 3


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_timesteps_are_refused(steps):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        sample(toy, Ddpm.scaled_linear(), noise(), steps=steps)
