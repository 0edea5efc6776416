"""Muon, by which the pocket model's base is trained."""

import pytest
import torch
from torch import nn

from impasto.pocket.pretrain.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16)])
def test_singular_values_are_brought_near_one(shape):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(stack))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_matrix_is_learnt_and_the_state_is_tensors():
    torch.manual_seed(0)
    net, wanted = nn.Linear(12, 8), torch.randn(8, 12)
    optimizer = Muon(net, 3e-2, betas=(0.9, 0.99))
    started = float((net.weight.detach() - wanted).square().mean())
    for _ in range(150):
        loss = (net.weight - wanted).square().mean() + net.bias.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < started / 4
    assert all(isinstance(value, torch.Tensor) for state in optimizer.state.values() for value in state.values())
