"""Losses and masks, against recorded values and fp64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from impasto import objectives
from impasto.objectives import config as settings
from impasto.objectives import losses
from impasto.objectives.process import Ddpm

T = [0, 1, 10, 100, 250, 500, 750, 900, 999]
EXPONENTIAL = [1, 0.9977, 0.977237, 0.794328, 0.562341, 0.316228, 0.177828, 0.125893, 0.100231]
BY_SNR = [0.949709, 0.930001, 0.846118, 0.598297, 0.412963, 0.231284, 0.134613, 0.110302, 0.103691]
DIFFERENCES = [0.0, 0.5, -2.0]
RECORDED = {
    settings.MeanSquared(): [0, 0.25, 4],
    settings.Absolute(): [0, 0.5, 2],
    settings.Huber(threshold=0.3, schedule="constant"): [0, 0.1698571, 1.0334250],
    settings.SmoothL1(threshold=0.3, schedule="constant"): [0, 0.5661904, 3.4447498],
}


def built(loss, prediction="epsilon", **more):
    return objectives.build(settings.Objective(loss=loss, **more), Ddpm.scaled_linear(prediction), seed=0)


@pytest.mark.parametrize("loss", RECORDED, ids=lambda loss: loss.kind)
def test_errors_are_the_recorded_ones(loss):
    difference = torch.tensor(DIFFERENCES).view(3, 1, 1, 1)
    target = torch.ones(3, 1, 1, 1)
    found = built(loss).error(target + difference, target, torch.tensor([0, 500, 999]))
    assert_close(found.flatten(), torch.tensor(RECORDED[loss], dtype=torch.float32), rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (settings.Huber(schedule="constant", scale=2.0), [0.2] * 9),
        (settings.Huber(schedule="exponential"), EXPONENTIAL),
        (settings.Huber(schedule="exponential", scale=3.0), [3 * c for c in EXPONENTIAL]),
        (settings.Huber(), BY_SNR),
        (settings.Huber(scale=0.5), [c / 2 for c in BY_SNR]),
    ],
    ids=["constant", "exponential", "exponential, scaled", "snr", "snr, scaled"],
)
def test_thresholds_are_the_recorded_ones(loss, expected):
    found = built(loss).error.keywords["thresholds"]
    assert_close(found[T], torch.tensor(expected), rtol=2e-5, atol=0)


def test_thresholds_follow_the_schedule_that_ends_in_noise():
    objective = built(settings.Huber(), "v", zero_terminal_snr=True)
    found = objective.error.keywords["thresholds"]
    assert found.isfinite().all()
    assert found[999] == pytest.approx(0.1)


@pytest.mark.parametrize("loss", [settings.Huber(), settings.SmoothL1()], ids=lambda loss: loss.kind)
def test_each_example_has_the_threshold_of_its_timestep(loss):
    objective, t = built(loss), torch.tensor([0, 500, 999])
    predicted = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    target = torch.zeros_like(predicted)
    found = objective.error(predicted, target, t)
    c = torch.tensor([BY_SNR[0], BY_SNR[5], BY_SNR[8]], dtype=torch.float64).view(-1, 1, 1, 1)
    expected = 2 * ((predicted.double().square() + c.square()).sqrt() - c) * (c if loss.kind == "huber" else 1)
    assert_close(found.double(), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [settings.Huber(), settings.SmoothL1()], ids=lambda loss: loss.kind)
def test_faint_errors_have_a_slope(loss):
    predicted = torch.full((1, 1, 1, 1), 1e-4, requires_grad=True)
    t = torch.tensor([0])
    built(loss).error(predicted, torch.zeros(1, 1, 1, 1), t).sum().backward()
    c = BY_SNR[0]
    slope = 2 * 1e-4 / (1e-8 + c * c) ** 0.5 * (c if loss.kind == "huber" else 1)
    assert predicted.grad.item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("loss", RECORDED, ids=lambda loss: loss.kind)
def test_half_precision_predictions_are_measured_in_full(loss):
    found = built(loss).error(torch.ones(1, 1, 2, 2).bfloat16(), torch.zeros(1, 1, 2, 2), torch.tensor([3]))
    assert found.dtype == torch.float32


def test_a_mask_that_is_not_normalised_counts_by_its_area():
    errors, mask = torch.full((1, 4, 4, 4), 8.0), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    assert losses.masked_mean(errors, mask).item() == 8
    assert losses.masked_mean(errors, mask, normalise=False).item() == 4


def test_a_floor_lets_the_rest_count_a_little():
    errors = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert losses.masked_mean(errors, mask, floor=0.1).item() == pytest.approx((1 + 0.3) / 1.1)
    assert losses.masked_mean(errors, mask, normalise=False, floor=0.1).item() == pytest.approx((1 + 0.3) / 2)
    assert losses.masked_mean(errors, mask, floor=1.0).item() == 2


def test_the_settings_of_masks_reach_the_loss():
    objective = built(settings.Absolute(), mask=settings.Mask(normalise=False, floor=0.25))
    noised = objective.corrupt(torch.zeros(1, 4, 2, 2), ["k"])
    found = objective.loss(noised.target + 2, noised, torch.ones(1), torch.zeros(1, 1, 2, 2))
    assert_close(found, torch.tensor([0.5]))
