"""Which noise levels are drawn: distributions, ranges, shifts, and looks that share the levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from impasto import objectives
from impasto.errors import ConfigError
from impasto.objectives import config as settings
from impasto.objectives import curves, densities, timesteps
from impasto.objectives.process import Ddpm

FIXED, FLUX = settings.FixedShift(), settings.FluxShift()
KINDS = {
    "uniform": settings.Objective(timesteps=settings.Uniform(looks="stratified")),
    "logit-normal": settings.Objective(timesteps=settings.LogitNormal(mean=0.5, std=0.8)),
    "sigmoid": settings.Objective(timesteps=settings.Sigmoid(scale=1.3)),
    "cosine-map": settings.Objective(timesteps=settings.CosineMap()),
    "mode": settings.Objective(timesteps=settings.Mode()),
    "mode of the ends": settings.Objective(timesteps=settings.Mode(scale=-0.8)),
    "fixed shift": settings.Objective(timesteps=settings.LogitNormal(), shift=FIXED),
    "shift by resolution": settings.Objective(shift=settings.ResolutionShift(side=32)),
    "shift of flux": settings.Objective(timesteps=settings.Sigmoid(), shift=FLUX),
    "range": settings.Objective(
        timesteps=settings.CosineMap(low=300, high=420), shift=settings.FixedShift(strength=0.5)
    ),
}
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())


def draw(config, keys, size=(64, 64), seed=5):
    built = objectives.build(config, Ddpm.scaled_linear(), seed)
    return built.draw(keys, size)


@each_kind
def test_levels_are_drawn_as_often_as_the_curve_says(config):
    drawn = draw(config, [f"0:{picture}:0:0" for picture in range(20_000)])
    expected = curves.probability(config, 1000)
    cells = np.arange(0, 1001, 50)
    counts = np.histogram(drawn.numpy(), cells)[0]
    shares = np.add.reduceat(expected, cells[:-1])
    assert np.all(np.abs(counts - 20_000 * shares) < 5 * np.sqrt(20_000 * shares) + 1)
    assert expected[: config.timesteps.low].sum() == expected[config.timesteps.high :].sum() == 0


@each_kind
def test_a_level_depends_on_its_own_key_alone(config):
    keys = [f"0:{picture}:{visit}:{epoch}" for picture in "ab" for visit in range(2) for epoch in range(2)]
    together = draw(config, keys)
    assert torch.equal(draw(config, keys[::-1]).flip(0), together)
    assert [int(draw(config, [key])) for key in keys] == together.tolist()
    assert together.dtype == torch.int64
    assert not torch.equal(draw(config, keys, seed=6), together)


@each_kind
def test_quantiles_and_shares_undo_each_other(config):
    found = objectives.density(config, (64, 64))
    for share in (1e-6, 0.01, 0.3, 0.5, 0.77, 1 - 1e-6):
        assert math.isclose(found.below(found.quantile(share)), share, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("share", [2.0**-60, 2.0**-53, 0.5, 1 - 2.0**-53, 1.0])
@each_kind
def test_the_most_extreme_rolls_stay_in_the_range(config, share):
    low, high = config.timesteps.low, config.timesteps.high
    density = objectives.density(config, (64, 64))
    found = timesteps.distributed(["k"], lambda key: share, density, low=low, high=high, steps=1000)
    assert low <= int(found) < high


def test_a_logit_normal_is_one_of_normal_numbers():
    found = densities.logit_normal(0.5, 2.0)
    assert math.isclose(found.quantile(0.5), 1 / (1 + math.exp(-0.5)))
    assert math.isclose(found.quantile(0.841344746068543), 1 / (1 + math.exp(-2.5)))


def test_the_middle_of_a_cosine_map_is_twice_as_dense_as_its_ends():
    chances = curves.probability(KINDS["cosine-map"], 1000)
    assert chances[[0, 250, 500, 999]] * 1000 == pytest.approx(
        [2 / math.pi, 3.2 / math.pi, 4 / math.pi, 2 / math.pi], rel=2e-3
    )


def test_mode_bends_the_uniform_as_printed():
    def printed(u, s):
        return 1 - u - s * (math.cos(math.pi * u / 2) ** 2 - 1 + u)

    for scale in (-1.0, 0.0, 0.81, 1.75):
        for u in (0.1, 0.35, 0.9):
            assert math.isclose(densities.mode(scale).quantile(1 - u), printed(u, scale))
    assert curves.probability(settings.Objective(timesteps=settings.Mode(scale=0.0)), 1000) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("size", "strength"), [((64, 64), 1.877611), ((96, 96), 2.331861), ((128, 128), 3.158193), ((128, 192), 4.466775)]
)
def test_the_shift_of_flux_is_the_recorded_one(size, strength):
    assert densities.flux_shift(size) == pytest.approx(strength, rel=1e-6)


@pytest.mark.parametrize(("t", "moved"), [(1.0, 1.0), (0.999, 0.9996664), (0.5, 0.75), (0.001, 0.002994)])
def test_the_shift_of_3_is_the_recorded_one(t, moved):
    assert densities.shift(t, 3.0) == pytest.approx(moved, rel=1e-5)


def test_four_times_the_area_is_shifted_by_two():
    assert densities.area_shift((128, 128), 64) == 2
    assert densities.area_shift((64, 64), 64) == 1


def test_larger_pictures_are_trained_at_more_noise():
    plain = settings.Objective(timesteps=settings.LogitNormal())
    config = plain.model_copy(update={"shift": settings.ResolutionShift()})
    keys = [f"0:{picture}:0:0" for picture in range(500)]
    small, usual, large = (draw(config, keys, size).float().mean() for size in ((32, 32), (64, 64), (128, 128)))
    assert small < usual - 50 < large - 100
    assert torch.equal(draw(config, keys), draw(plain, keys))


def spread(keys, bins):
    """How unevenly keys fall into bins: the largest distance from even."""
    counts = np.histogram([timesteps.stratified(key, seed=1) for key in keys], bins, (0, 1))[0]
    return np.abs(counts - len(keys) / bins).max()


@pytest.mark.parametrize(
    ("visits", "epochs"), [(1, 64), (64, 1), (8, 8), (3, 21), (2, 32), (16, 4)], ids=lambda count: str(count)
)
def test_looks_at_one_picture_go_through_the_levels_evenly(visits, epochs):
    for picture in "abcdef":
        looks = [f"0:{picture}:{visit}:{epoch}" for visit in range(visits) for epoch in range(epochs)]
        assert spread(looks, 4) <= 3  # rolled alone: 3.5 standard deviations away from even, sooner or later 12


def test_pictures_start_at_levels_of_their_own():
    assert spread([f"0:{picture}:0:0" for picture in range(4000)], 10) < 80


def test_stratified_looks_are_given_in_the_settings():
    looks = [f"0:a:0:{epoch}" for epoch in range(10)]
    drawn = draw(KINDS["uniform"], looks)
    assert set(np.histogram(drawn.numpy(), 5, (0, 1000))[0].tolist()) <= {1, 2, 3}


def test_the_usual_timesteps_are_what_they_were():
    keys = ["0:a:0:0", "0:b:0:0", "1:a:3:2"]
    assert torch.equal(
        draw(settings.Objective(timesteps=settings.Uniform(low=20, high=900)), keys),
        timesteps.uniform(keys, low=20, high=900, seed=5),
    )


def test_a_range_without_draws_is_refused():
    never = settings.LogitNormal(mean=5.0, std=0.1, high=100)
    with pytest.raises(ConfigError, match=r"E-CFG-121.*next to nothing between timesteps 0 and 100"):
        draw(settings.Objective(timesteps=never), ["k"])


@pytest.mark.parametrize("kind", [settings.LogitNormal, settings.Mode, settings.CosineMap, settings.Sigmoid])
def test_empty_ranges_are_refused_for_every_kind(kind):
    with pytest.raises(ValidationError, match="low must be smaller"):
        kind(low=5, high=5)
