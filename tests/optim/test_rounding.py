"""Weights in bf16 move as if they had room for every update, in the mean."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from impasto import optim
from impasto.optim.config import AdamW, Ema, Optim
from impasto.optim.ema import Ema as Average
from impasto.optim.flat import FlatParameters
from impasto.optim.rounding import stochastic


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mean_of_many_roundings_is_the_value_on_both_sides_of_zero() -> None:
    values = torch.cat([torch.logspace(-12, 4, 33), -torch.logspace(-12, 4, 33)]) * 1.2345
    count = 4000
    rounded = stochastic(values.repeat(count, 1), dice()).double()
    gap = (values.double() * 2**-7).abs()  # one step of bf16
    assert ((rounded - values.double()).abs() <= gap).all()
    error = (rounded.mean(0) - values.double()).abs() / gap
    assert error.max() < 4 * 0.5 / count**0.5  # four standard deviations of the mean of a coin


def test_what_bf16_holds_comes_back_as_it_is_and_so_does_what_is_not_finite() -> None:
    held = torch.tensor([0.0, -0.0, 1.0, -2.5, 3.0e38, float("inf"), -float("inf")]).repeat(100)
    assert torch.equal(stochastic(held.bfloat16().float(), dice()), held.bfloat16())
    assert stochastic(torch.tensor([float("nan")] * 100), dice()).isnan().all()


def trained(dtype: torch.dtype, steps: range) -> FlatParameters:
    """A weight of one that is asked to fall by 1e-5 a step: bf16 has a step of 2^-8 below one."""
    weight = torch.nn.Parameter(torch.ones(1000))
    flat = FlatParameters({"unet": [weight]}, dtype)
    rule = optim.build(Optim(optimizer=AdamW(weight_decay=0.0)), flat)
    for step in steps:
        weight.sum().backward()
        with flat.wide(7, step):
            rule.step({"unet": 1e-5})
        rule.zero_grad()
    return flat


def test_updates_too_small_for_bf16_are_not_lost() -> None:
    held = trained(torch.bfloat16, range(200)).groups["unet"].current()[:1000]
    assert held.mean().item() == pytest.approx(1 - 200 * 1e-5, abs=2e-4)
    assert 1 < len(held.unique()) < 8


def test_memory_is_half_between_steps_and_nobody_can_tell_from_the_shapes() -> None:
    flat = trained(torch.bfloat16, range(1)).groups["unet"]
    assert flat.values.untyped_storage().nbytes() == flat.grads.untyped_storage().nbytes() == 0
    assert flat.values.shape == flat.grads.shape == (1024,)
    parameter, grad, _ = flat._views[0]
    assert parameter.dtype == grad.dtype == torch.bfloat16
    flat.check()


def test_the_same_dice_round_alike_and_others_do_not() -> None:
    one, same = (trained(torch.bfloat16, range(5)).groups["unet"].current() for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, trained(torch.bfloat16, range(100, 105)).groups["unet"].current())


def test_an_average_of_bf16_weights_is_kept_in_fp32() -> None:
    weight = torch.nn.Parameter(torch.ones(10))
    flat = FlatParameters({"unet": [weight]}, torch.bfloat16)
    average = Average(Ema(decay=0.999, warmup=False), flat)
    with flat.wide(0):
        flat.groups["unet"].values.data.fill_(0.5)
    average.update(0, torch.zeros(()))
    assert average.state()["unet"][0] == pytest.approx(0.9995, abs=1e-6)
    with average.swapped():
        assert weight[0] == 1.0
    assert weight[0] == 0.5


def test_fp16_weights_are_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="bf16 takes no more memory"):
        Optim(precision="fp16")  # type: ignore[arg-type]
