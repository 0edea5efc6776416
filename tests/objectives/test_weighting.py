"""How much a timestep counts, against recorded tables; and the schedule that ends in pure noise."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from impasto import objectives
from impasto.errors import ConfigError
from impasto.objectives import config as settings
from impasto.objectives import weighting
from impasto.objectives.curves import curves
from impasto.objectives.process import Ddpm

T = [0, 1, 10, 100, 250, 500, 750, 900, 999]
RECORDED = {
    ("min-snr", "epsilon"): [0.00425372, 0.00853443, 0.0483057, 0.591445, 1, 1, 1, 1, 1],
    ("min-snr", "v"): [.00425011, .00851989, .0478435, .528884, .673792, .276332, .0561698, .0141511, .00466009],
    ("debiased", "epsilon"): [0.0316228, 0.0413145, 0.0982911, 0.343932, 0.695799, 1.61828, 4.09917, 8.3466, 14.6146],
    ("debiased", "v"): [0.000999001, 0.00170398, 0.00956869, 0.105777, 0.326208, 0.723668, 0.94383, 0.985849, 0.99534],
    ("noise-like", "v"): [0.999001, 0.998296, 0.990431, 0.894223, 0.673792, 0.276332, 0.0561698, 0.0141511, 0.00466009],
}  # fmt: skip
V_LIKE = [1.5005, 1.50085, 1.50483, 1.55914, 1.74207, 2.80941, 9.90158, 36.3329, 108.294]
ZERO_TERMINAL = np.array(
    [0.99914998, 0.9982335, 0.98979372, 0.88676107, 0.65245676, 0.24101864, 0.03279908, 0.0029603913, 0.0]
)
KINDS = {
    "min-snr": settings.MinSnr(),
    "soft-min-snr": settings.SoftMinSnr(),
    "debiased": settings.Debiased(),
    "noise-like": settings.NoiseLike(),
}


def weights(config, prediction="epsilon"):
    built = objectives.build(config, Ddpm.scaled_linear(prediction), seed=0)
    return None if built.weights is None else built.weights[T].double().numpy()


@pytest.mark.parametrize(("kind", "prediction"), RECORDED)
def test_weights_are_the_recorded_ones(kind, prediction):
    found = weights(settings.Objective(weighting=KINDS[kind]), prediction)
    assert found == pytest.approx(RECORDED[kind, prediction], rel=5e-5)


def test_v_like_multiplies_as_recorded():
    assert weights(settings.Objective(v_like=0.5)) == pytest.approx(V_LIKE, rel=5e-5)


def test_v_like_multiplies_whatever_the_weighting_gives():
    both = weights(settings.Objective(weighting=settings.MinSnr(), v_like=0.5))
    assert both == pytest.approx(np.array(V_LIKE) * RECORDED["min-snr", "epsilon"], rel=1e-4)


def test_soft_min_snr_touches_min_snr_at_both_ends():
    snr = np.array([1e-6, 1e8])
    for prediction in ("epsilon", "v"):
        hard, soft = (f(snr, prediction, gamma=5.0) for f in (weighting.min_snr, weighting.soft_min_snr))
        assert soft == pytest.approx(hard, rel=1e-5)
    assert weighting.soft_min_snr(np.array([5.0]), "epsilon", gamma=5.0) == pytest.approx([0.5])
    assert weighting.soft_min_snr(np.array([5.0]), "v", gamma=5.0) == pytest.approx([2.5 / 6])


def test_no_weighting_is_no_weighting():
    assert weights(settings.Objective()) is None
    assert weights(settings.Objective(v_like=0.0), "v") is None


def test_the_loss_counts_by_timestep():
    objective = objectives.build(settings.Objective(weighting=settings.MinSnr()), Ddpm.scaled_linear(), seed=0)
    plain = objectives.build(settings.Objective(), Ddpm.scaled_linear(), seed=0)
    keys = [f"0:{picture}:0:0" for picture in range(6)]
    noised = objective.corrupt(torch.zeros(6, 4, 4, 4), keys)
    assert torch.equal(noised.x, plain.corrupt(torch.zeros(6, 4, 4, 4), keys).x)
    predicted, weight = torch.zeros(6, 4, 4, 4), torch.full((6,), 0.5)
    counted = objective.loss(predicted, noised, weight)
    assert_close(counted, plain.loss(predicted, noised, weight) * objective.weights[noised.t])
    assert_close(counted[2:3], objective.loss(predicted[2:3], _row(noised, 2), weight[2:3]))
    assert torch.equal(objective.measure(predicted, noised.target), plain.measure(predicted, noised.target))


def _row(noised, at):
    return type(noised)(*(each[at : at + 1] for each in vars(noised).values()))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_the_schedule_that_ends_in_noise(kind):
    config = settings.Objective(weighting=KINDS[kind], zero_terminal_snr=True)
    found = weights(config, "v")
    snr = ZERO_TERMINAL / (1 - ZERO_TERMINAL)
    capped = np.minimum(snr, 1000)
    expected = {
        "min-snr": np.minimum(snr, 5) / (snr + 1),
        "soft-min-snr": 5 * snr / (snr + 5) / (snr + 1),
        "debiased": 1 / (capped + 1),
        "noise-like": capped / (capped + 1),
    }
    assert found == pytest.approx(expected[kind], rel=5e-5, abs=1e-12)  # ᾱ is recorded to 8 digits


def test_a_schedule_ends_in_pure_noise_where_asked():
    objective = objectives.build(settings.Objective(zero_terminal_snr=True), Ddpm.scaled_linear("v"), seed=0)
    assert objective.process.snr(torch.tensor([999])) == 0
    latents = torch.ones(1, 4, 4, 4)
    last = objective.corrupt(latents, ["k"], torch.tensor([999]))
    assert torch.equal(last.target, -latents)  # of pure noise the velocity is the picture, taken away
    again = Ddpm.scaled_linear("v").ending_in_noise().ending_in_noise()
    assert_close(again.alphas_cumprod, Ddpm.scaled_linear("v").ending_in_noise().alphas_cumprod)
    assert Ddpm.scaled_linear("v").snr(torch.tensor([999])) > 0  # the family's own is as it was


@pytest.mark.parametrize(
    ("config", "prediction", "message"),
    [
        (settings.Objective(zero_terminal_snr=True), "epsilon", "E-CFG-122 objective.zero_terminal_snr"),
        (settings.Objective(weighting=settings.NoiseLike()), "epsilon", "E-CFG-123 objective.weighting.kind"),
        (settings.Objective(v_like=0.1), "v", "E-CFG-124 objective.v_like"),
    ],
)
def test_what_does_not_go_with_the_prediction_is_refused(config, prediction, message):
    with pytest.raises(ConfigError, match=message):
        objectives.build(config, Ddpm.scaled_linear(prediction), seed=0)


@pytest.mark.parametrize(("kind", "zero"), list(product(KINDS, (False, True))))
def test_every_weight_is_a_number_at_every_timestep(kind, zero):
    config = settings.Objective(weighting=KINDS[kind], zero_terminal_snr=zero)
    found = objectives.build(config, Ddpm.scaled_linear("v"), seed=0).weights
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert (found >= 0).all()


def test_curves_show_what_trains():
    config = settings.Objective(
        timesteps=settings.LogitNormal(low=100, high=900), weighting=settings.MinSnr(), loss=settings.Huber()
    )
    process = Ddpm.scaled_linear()
    shown, trained = curves(config, process), objectives.build(config, process, seed=0)
    assert shown.weight == pytest.approx(trained.weights.double().numpy(), rel=1e-6)
    assert shown.snr == pytest.approx(process.snr(torch.arange(1000)).double().numpy())
    assert shown.threshold[500] == pytest.approx(0.231284, rel=1e-5)
    assert shown.probability.sum() == pytest.approx(1)
    assert shown.effort.sum() == pytest.approx(1)
    assert shown.effort[300] == pytest.approx(
        shown.probability[300] * shown.weight[300] / (shown.probability * shown.weight).sum()
    )
    assert shown.effort[99] == shown.effort[900] == 0


def test_curves_of_the_usual_settings_are_flat():
    shown = curves(settings.Objective(), Ddpm.scaled_linear())
    assert shown.probability == pytest.approx(1e-3)
    assert shown.weight == pytest.approx(1)
    assert shown.threshold is None


def test_curves_are_imported_without_torch():
    code = "import sys, impasto.objectives.curves; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
