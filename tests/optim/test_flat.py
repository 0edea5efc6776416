"""Flat parameters are the same parameters."""

import pytest
import torch
from torch import nn

from impasto.optim.flat import ALIGN, FlatParameters, stack


def test_making_them_flat_changes_no_number_and_no_name(trainee):
    plain, flat = trainee(), trainee().flatten()
    assert flat.weights().keys() == plain.weights().keys()
    for name, value in plain.weights().items():
        assert torch.equal(flat.weights()[name], value)


def test_gradients_are_the_same_and_add_up_in_place(trainee):
    plain, flat = trainee(), trainee().flatten()
    for step in range(3):
        plain.loss(step).backward()
        flat.loss(step).backward()
    for group in flat.flat.groups.values():
        group.check()
        assert group.grads.abs().max() > 0
    for one, other in zip(plain.net.parameters(), flat.net.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)
    assert flat.flat.norm() == pytest.approx(
        torch.linalg.vector_norm(torch.cat([each.grad.flatten() for each in plain.net.parameters()])).item()
    )


def test_one_operation_forgets_all_gradients(trainee):
    flat = trainee().flatten()
    flat.loss(0).backward()
    flat.flat.zero_grad()
    assert all(each.grad is not None and each.grad.abs().max() == 0 for each in flat.net.parameters())


def test_loading_in_place_reaches_the_flat_values(trainee):
    flat, other = trainee().flatten(), trainee(seed=1)
    flat.net.load_state_dict(other.weights())
    for group in flat.flat.groups.values():
        group.check()
    start = flat.flat.groups["unet"].values[: 7 * 5].view(5, 7)
    assert torch.equal(start, other.weights()["unet.weight"])


def test_every_parameter_starts_aligned(trainee):
    flat = trainee().flatten()
    for group in flat.flat.groups.values():
        assert len(group.values) % ALIGN == 0
        offsets = [(each.data_ptr() - group.values.data_ptr()) // 4 for each in flat.net.parameters()]
        assert all(offset % ALIGN == 0 for offset in offsets if 0 <= offset < len(group.values))


def test_taking_a_gradient_away_is_noticed(trainee, rates):
    flat = trainee().flatten()
    flat.net.zero_grad()  # sets gradients to None
    with pytest.raises(AssertionError, match="a gradient was replaced"):
        flat.optimizer.step(rates)


def test_moving_a_parameter_is_noticed(trainee, rates):
    flat = trainee().flatten()
    flat.parts["unet"][0].data = flat.parts["unet"][0].data.clone()
    with pytest.raises(AssertionError, match="a parameter was moved"):
        flat.optimizer.step(rates)


def test_a_part_without_parameters_is_left_out():
    parameter = nn.Parameter(torch.ones(3))
    assert list(FlatParameters({"unet": [parameter], "text_encoder": []}).groups) == ["unet"]
    with pytest.raises(ValueError, match="no parameters to train"):
        FlatParameters({"unet": []})


def test_those_alike_live_side_by_side_and_go_on_bit_for_bit(trainee, rates):
    apart, beside = ([trainee(seed=seed).flatten() for seed in range(3)] for _ in range(2))
    for at, each in enumerate((*apart, *beside)):
        each.loss(at % 3).backward()
        each.optimizer.step(rates)
        each.optimizer.zero_grad()
        each.loss(3).backward()  # gradients move too
    stack(each.flat for each in beside)
    for part in beside[0].flat.groups:
        places = [each.flat.groups[part].values.data_ptr() for each in beside]
        assert places[1] - places[0] == places[2] - places[1] == beside[0].flat.groups[part].values.nbytes
        assert not beside[0].flat.groups[part].alone
    stack([beside[1].flat])  # the others left
    assert all(group.alone for group in beside[1].flat.groups.values())
    for at, each in enumerate((*apart, *beside)):
        for group in each.flat.groups.values():
            group.check()
        each.loss(at % 3).backward()
        each.optimizer.step(rates)
    for one, other in zip(apart, beside, strict=True):
        assert all(torch.equal(value, other.weights()[name]) for name, value in one.weights().items())
        assert all(torch.equal(value, other.optimizer.state()[name]) for name, value in one.optimizer.state().items())
