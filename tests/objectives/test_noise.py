"""Noise with offsets, coarse grain and perturbation: what it is, and that no example meets another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from impasto import dice, objectives
from impasto.objectives import config as settings
from impasto.objectives import noise
from impasto.objectives.process import Ddpm

KEYS = ["0:a:0:0", "0:b:0:0", "0:a:1:0", "1:a:0:3"]
KINDS = {
    "offset": settings.Noise(offset=settings.Offset()),
    "random offset": settings.Noise(offset=settings.Offset(random=True)),
    "adaptive offset": settings.Noise(offset=settings.Offset(adaptive=0.3)),
    "pyramid": settings.Noise(pyramid=settings.Pyramid()),
    "perturbation": settings.Noise(perturbation=settings.Perturbation()),
    "all": settings.Noise(
        offset=settings.Offset(strength=0.2, random=True, adaptive=-0.5),
        pyramid=settings.Pyramid(iterations=10, discount=0.8),
        perturbation=settings.Perturbation(random=True),
    ),
}


@pytest.fixture
def latents():
    return torch.randn(4, 4, 12, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def plain(latents):
    return noise.gaussian(KEYS, latents.shape[1:], seed=7)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())
def test_an_example_is_hidden_alike_in_any_company(config, latents):
    objective = objectives.build(settings.Objective(noise=config), Ddpm.scaled_linear(), seed=7)
    together = objective.corrupt(latents, KEYS)
    backwards = objective.corrupt(latents.flip(0), KEYS[::-1])
    for at, key in enumerate(KEYS):
        alone = objective.corrupt(latents[at : at + 1], [key])
        assert torch.equal(alone.x[0], together.x[at])
        assert torch.equal(alone.x[0], backwards.x[3 - at])
        assert torch.equal(alone.target[0], together.target[at])
    other = objectives.build(settings.Objective(noise=config), Ddpm.scaled_linear(), seed=8)
    assert not torch.equal(other.corrupt(latents, KEYS).x, together.x)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())
def test_validation_uses_plain_noise(config, latents):
    t = torch.full((4,), 300)
    plain = objectives.build(settings.Objective(), Ddpm.scaled_linear(), seed=7).corrupt(latents, KEYS, t)
    shaped = objectives.build(settings.Objective(noise=config), Ddpm.scaled_linear(), seed=7).corrupt(latents, KEYS, t)
    assert torch.equal(plain.x, shaped.x)
    assert torch.equal(plain.target, shaped.target)


def test_an_offset_moves_whole_channels(plain, latents):
    moved = noise.offset(plain, latents, KEYS, 7, strength=0.5) - plain
    steps = moved.mean((2, 3), keepdim=True)
    assert_close(moved, steps.expand_as(moved), rtol=0, atol=1e-6)
    assert_close(steps, 0.5 * noise.gaussian(KEYS, (4, 1, 1), seed=7, purpose="noise offset"))
    assert torch.equal(noise.offset(plain, latents, KEYS, 7, strength=0.0), plain)


def test_an_offset_adds_its_variance():
    keys, nothing = [str(key) for key in range(3000)], torch.zeros(3000, 4, 2, 2)
    steps = noise.offset(nothing, nothing, keys, 0, strength=0.3).mean((2, 3))
    assert steps.std() == pytest.approx(0.3, rel=0.03)
    rolled = noise.offset(nothing, nothing, keys, 0, strength=0.3, random=True).mean((2, 3))
    assert rolled.std() == pytest.approx(0.3 / math.sqrt(3), rel=0.03)  # the mean square of a share in 0..1 is 1/3


def test_an_adaptive_offset_grows_with_the_mean_and_never_turns_round(plain):
    latents = torch.tensor([0.0, 1.0, -2.0, 4.0]).view(4, 1, 1, 1).expand(4, 4, 12, 8)
    unit = noise.gaussian(KEYS, (4, 1, 1), seed=7, purpose="noise offset")
    grown = noise.offset(plain, latents, KEYS, 7, strength=0.1, adaptive=0.2) - plain
    assert_close(grown.mean((2, 3), keepdim=True), torch.tensor([0.1, 0.3, 0.5, 0.9]).view(4, 1, 1, 1) * unit)
    shrunk = noise.offset(plain, latents, KEYS, 7, strength=0.5, adaptive=-0.2) - plain
    expected = torch.tensor([0.5, 0.3, 0.1, 0.0]).view(4, 1, 1, 1) * unit
    assert_close(shrunk.mean((2, 3), keepdim=True), expected, rtol=1e-4, atol=1e-6)


def enlarged(grid, height, width):
    """Bilinear enlargement in fp64, places counted from their middles, edges held."""

    def pull(count, wide):
        rows = np.zeros((wide, count))
        for at in range(wide):
            middle = max((at + 0.5) * count / wide - 0.5, 0)
            low = min(int(middle), count - 1)
            high = min(low + 1, count - 1)
            rows[at, low] += 1 - (middle - low)
            rows[at, high] += middle - low
        return rows

    return pull(grid.shape[1], height) @ grid @ pull(grid.shape[2], width).T


@pytest.mark.parametrize(("iterations", "discount"), [(1, 0.3), (4, 0.8), (32, 0.9)])
def test_a_pyramid_is_the_sum_of_its_grains(plain, latents, iterations, discount):
    found = noise.pyramid(plain, latents, KEYS, 7, iterations=iterations, discount=discount)
    for key, row, before in zip(KEYS, found, plain, strict=True):
        ratios = dice.generator("pyramid ratios", 7, key)
        normal = torch.Generator().manual_seed(dice.seed("pyramid", 7, key))
        total, grids = before.double().numpy(), []
        for level in range(iterations):
            ratio = ratios.uniform(2, 4) ** level
            grids.append((max(1, math.floor(12 / ratio)), max(1, math.floor(8 / ratio))))
            grain = torch.randn(1, 4, *grids[-1], generator=normal)[0].double().numpy()
            total = total + discount**level * enlarged(grain, 12, 8)
            if min(grids[-1]) == 1:
                break
        assert grids[0] == (12, 8)
        assert_close(row.double().numpy(), total / total.std(ddof=1), rtol=0, atol=5e-6)


def test_pyramid_noise_has_the_deviation_of_plain_noise(plain, latents):
    found = noise.pyramid(plain, latents, KEYS, 7, iterations=6, discount=0.8)
    assert_close(found.flatten(1).std(1), torch.ones(4))


def test_perturbation_is_seen_and_not_asked_for(latents):
    perturbed = settings.Objective(noise=settings.Noise(perturbation=settings.Perturbation(gamma=0.3)))
    process = Ddpm.scaled_linear()
    plain = objectives.build(settings.Objective(), process, seed=7).corrupt(latents, KEYS)
    seen = objectives.build(perturbed, process, seed=7).corrupt(latents, KEYS)
    assert torch.equal(seen.target, plain.target)
    assert torch.equal(seen.t, plain.t)
    more = 0.3 * noise.gaussian(KEYS, latents.shape[1:], seed=7, purpose="input perturbation")
    _, strength = process.levels(seen.t)
    assert_close(seen.x - plain.x, strength.view(-1, 1, 1, 1) * more, rtol=1e-4, atol=1e-6)


def test_a_random_perturbation_is_rolled_for_each_look(plain, latents):
    fixed = noise.perturbed(plain, latents, KEYS, 7, gamma=0.4) - plain
    rolled = noise.perturbed(plain, latents, KEYS, 7, gamma=0.4, random=True) - plain
    shares = (rolled / fixed).flatten(1).median(1).values
    assert_close(rolled, shares.view(-1, 1, 1, 1) * fixed, rtol=1e-3, atol=1e-5)
    assert len(set(shares.tolist())) == 4
    assert all(0 < share < 1 for share in shares.tolist())


def test_the_target_of_shaped_noise_is_the_shaped_noise(latents):
    config = settings.Objective(noise=settings.Noise(offset=settings.Offset(), pyramid=settings.Pyramid()))
    objective = objectives.build(config, Ddpm.scaled_linear(), seed=7)
    noised = objective.corrupt(latents, KEYS)
    assert torch.equal(noised.x, objective.process.add_noise(latents, noised.target, noised.t))
