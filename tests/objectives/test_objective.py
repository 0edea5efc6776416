"""Keyed dice, losses, and the objective they make."""

import pytest
import torch
from torch.testing import assert_close

from impasto import objectives
from impasto.errors import ConfigError
from impasto.objectives import config as settings
from impasto.objectives import timesteps
from impasto.objectives.losses import mean_squared
from impasto.objectives.noise import gaussian
from impasto.objectives.process import Ddpm

KEYS = ["cats/a/0/0", "cats/b/0/0", "dogs/a/0/0", "cats/a/0/1"]


@pytest.fixture
def objective():
    return objectives.build(settings.Objective(), Ddpm.scaled_linear(), seed=7)


@pytest.fixture
def latents():
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def test_an_example_is_noised_the_same_alone_and_in_any_company(objective, latents):
    together = objective.corrupt(latents, KEYS)
    backwards = objective.corrupt(latents.flip(0), KEYS[::-1])
    for at, key in enumerate(KEYS):
        alone = objective.corrupt(latents[at : at + 1], [key])
        for one, all_, other in zip(
            vars(alone).values(), vars(together).values(), vars(backwards).values(), strict=True
        ):
            assert torch.equal(one[0], all_[at])
            assert torch.equal(one[0], other[3 - at])


def test_noise_differs_between_visits_and_seeds():
    once = gaussian(KEYS, (4, 8, 8), seed=7)
    assert len({tuple(each.flatten().tolist()) for each in [*once, *gaussian(KEYS, (4, 8, 8), seed=8)]}) == 8
    assert torch.equal(once, gaussian(KEYS, (4, 8, 8), seed=7))


def test_noise_leaves_the_global_dice_alone():
    before = torch.get_rng_state()
    gaussian(KEYS, (4, 8, 8), seed=7)
    assert torch.equal(before, torch.get_rng_state())


def test_noise_is_standard_normal_and_unrelated_between_keys():
    noise = gaussian([str(key) for key in range(200)], (4, 16, 16), seed=0)
    assert noise.mean().abs() < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 0.2


def test_timesteps_are_uniform_over_the_range():
    t = timesteps.uniform([str(key) for key in range(20_000)], low=200, high=700, seed=3)
    assert (t.min(), t.max()) == (200, 699)
    counts = torch.histc(t.float(), bins=10, min=200, max=700)
    assert counts.sum() == 20_000
    assert (counts - 2000).abs().max() < 200  # over four standard deviations


def test_a_range_of_one_is_that_timestep():
    assert timesteps.uniform(KEYS, low=5, high=6, seed=0).tolist() == [5, 5, 5, 5]


def test_timesteps_can_be_fixed_for_validation(objective, latents):
    fixed = objective.corrupt(latents, KEYS, torch.full((4,), 300))
    assert fixed.t.tolist() == [300] * 4
    assert torch.equal(fixed.target, objective.corrupt(latents, KEYS).target)  # the noise is the same


def test_timesteps_beyond_the_process_are_refused():
    short = Ddpm.from_scheduler({"num_train_timesteps": 100})
    with pytest.raises(ConfigError, match="the base has 100"):
        objectives.build(settings.Objective(), short, seed=0)


def test_the_loss_is_one_number_an_example(objective, latents):
    noised = objective.corrupt(latents, KEYS)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0])
    loss = objective.loss(torch.zeros_like(latents).bfloat16(), noised, weight)
    assert loss.dtype == torch.float32
    assert_close(loss, noised.target.square().mean((1, 2, 3)) * weight)


def test_a_full_mask_changes_nothing(latents):
    full = torch.ones(4, 1, 8, 8)
    assert_close(mean_squared(latents, latents + 1, full), mean_squared(latents, latents + 1))


def test_a_small_mask_does_not_make_the_loss_small(latents):
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, 2, 3] = 1
    assert_close(mean_squared(latents, latents + 2, mask), torch.full((4,), 4.0))


def test_a_soft_mask_weighs_places():
    errors = torch.tensor([[[[1.0, 3.0]]]])
    mask = torch.tensor([[[[1.0, 0.5]]]])
    assert_close(mean_squared(errors, torch.zeros_like(errors), mask), torch.tensor([(1 + 0.5 * 9) / 1.5]))


def test_an_empty_mask_trains_nothing(latents):
    predicted = latents.clone().requires_grad_()
    loss = mean_squared(predicted, latents + 1, torch.zeros(4, 1, 8, 8))
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 0, 0]
    assert predicted.grad.abs().max() == 0
