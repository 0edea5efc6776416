"""The noising process against recorded tables and diffusers' own."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from impasto.errors import ModelFileError
from impasto.objectives.process import Ddpm, zero_terminal_snr

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULES = {
    "scaled_linear": STABLE_DIFFUSION,
    "linear": {"beta_schedule": "linear"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "short": {**STABLE_DIFFUSION, "num_train_timesteps": 100},
    "trained": {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
}
T = torch.tensor([0, 1, 10, 100, 250, 500, 750, 900, 999])
ALPHAS = [0.99914998, 0.99829602, 0.99043131, 0.89422315, 0.6737923, 0.27633247, 0.056169804, 0.014151133, 0.0046600951]
SNR = [1175.4406, 585.86218, 103.5075, 8.453866, 2.0655317, 0.38185006, 0.059512604, 0.014354262, 0.0046819123]
ZERO_SNR = [0.99914998, 0.9982335, 0.98979372, 0.88676107, 0.65245676, 0.24101864, 0.03279908, 0.0029603913, 0.0]


def exact(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_tables_of_stable_diffusion_are_the_recorded_ones():
    process = Ddpm.scaled_linear()
    assert process.steps == 1000
    assert_close(process.alphas_cumprod[T], exact(ALPHAS), rtol=2e-6, atol=0)
    assert_close(process.snr(T).double(), exact(SNR), rtol=3e-5, atol=0)


def test_zero_terminal_snr_ends_in_pure_noise():
    rescaled = zero_terminal_snr(Ddpm.scaled_linear().alphas_cumprod)
    assert_close(rescaled[T], exact(ZERO_SNR), rtol=2e-6, atol=0)
    assert rescaled[-1] == 0


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_diffusers(name, prediction):
    config = {**SCHEDULES[name], "prediction_type": prediction}
    ours, theirs = Ddpm.from_scheduler(config), DDPMScheduler(**config)
    t = torch.linspace(0, ours.steps - 1, 5).long()
    latents, noise = torch.randn(2, 5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    target = noise if prediction == "epsilon" else theirs.get_velocity(latents, noise, t)
    assert_close(ours.add_noise(latents, noise, t), theirs.add_noise(latents, noise, t), rtol=1e-5, atol=2e-6)
    assert_close(ours.target(latents, noise, t), target, rtol=1e-5, atol=2e-6)


def test_zero_terminal_snr_is_that_of_diffusers():
    config = {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    ours, theirs = Ddpm.from_scheduler(config), DDPMScheduler(**config)
    assert_close(ours.alphas_cumprod.float()[:-1], theirs.alphas_cumprod[:-1], rtol=1e-4, atol=2e-6)
    assert ours.alphas_cumprod[-1] == 0


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_perfect_prediction_gives_back_latents_and_noise(prediction):
    process = Ddpm.scaled_linear(prediction)
    latents, noise = torch.randn(2, 9, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    x, answer = process.add_noise(latents, noise, T), process.target(latents, noise, T)
    assert_close(process.clean(x, answer, T), latents, rtol=0, atol=2e-5)
    assert_close(process.noise_of(x, answer, T), noise, rtol=0, atol=2e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_half_precision_latents_are_noised_in_full_precision(prediction):
    process, half = Ddpm.scaled_linear(prediction), torch.ones(2, 4, 3, 3, dtype=torch.bfloat16)
    t = torch.tensor([0, 999])
    for made in (process.add_noise, process.target, process.clean, process.noise_of):
        assert made(half, half, t).dtype == torch.float32


def test_the_user_may_overrule_the_prediction_type():
    assert Ddpm.from_scheduler({"prediction_type": "epsilon"}, prediction="v").prediction == "v"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "sample"}, "prediction_type 'sample' cannot be trained"),
        ({"beta_schedule": "sigmoid"}, "the noise schedule 'sigmoid' is not known"),
        ({"rescale_betas_zero_snr": True}, "noise cannot be predicted"),
    ],
)
def test_what_cannot_be_trained_is_refused(config, message):
    with pytest.raises(ModelFileError, match=message):
        Ddpm.from_scheduler(config)
