"""The products of several members at once are those of each by itself, forth and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from impasto.adapters import products

RANKS = {"alike": (3, 3, 3), "apart": (2, 4, 1)}
SCALES = {"one scale": (0.5, 0.5, 0.5), "scales": (0.5, 1.0, 2.0)}


def factors(ranks: tuple[int, ...], sides: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    downs = [torch.randn(rank, 6, *sides, dtype=dtype, requires_grad=True) for rank in ranks]
    return downs, [torch.randn(5, rank, *sides, dtype=dtype, requires_grad=True) for rank in ranks]


@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("ranks", RANKS.values(), ids=RANKS)
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("layer", ["linear", "vectors", "convolution"])
def test_all_at_once_is_each_in_turn(layer: str, rows: int, ranks: tuple[int, ...], scales: tuple[float, ...]) -> None:
    places = {"linear": (4, 6), "vectors": (6,), "convolution": (6, 2, 3)}[layer]
    convolves = layer == "convolution"
    downs, ups = factors(ranks, (1, 1) if convolves else (), torch.float64)
    x = torch.randn(3 * rows, *places, dtype=torch.float64, requires_grad=True)
    out = (5, *places[1:]) if convolves else (*places[:-1], 5)
    y = torch.randn(3 * rows, *out, dtype=torch.float64, requires_grad=True)
    through = F.conv2d if convolves else F.linear
    each = [
        own + scale * through(through(given, down), up)
        for own, given, down, up, scale in zip(y.split(rows), x.split(rows), downs, ups, scales, strict=True)
    ]
    expected = torch.cat(each)
    found = products.added(y, x, downs, ups, scales)
    assert_close(found, expected)
    weight = torch.randn_like(expected)
    given = [y, x, *downs, *ups]
    for got, want in zip(
        torch.autograd.grad((found * weight).sum(), given),
        torch.autograd.grad((expected * weight).sum(), given),
        strict=True,
    ):
        assert_close(got, want)


def test_under_autocast_products_are_in_the_precision_of_the_base_and_gradients_in_that_of_the_adapter() -> None:
    downs, ups = factors((2, 2), (), torch.float32)
    x, y = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 4, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = products.added(y, x, downs, ups, (1.0, 1.0))
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert {each.grad.dtype for each in (x, *downs, *ups) if each.grad is not None} == {torch.float32}
    assert all(each.grad is not None for each in (x, *downs, *ups))


def test_an_input_that_learns_nothing_costs_no_gradient() -> None:
    downs, ups = factors((2, 2), (), torch.float32)
    products.added(torch.zeros(2, 5), x := torch.randn(2, 6), downs, ups, (1.0, 1.0)).sum().backward()
    assert x.grad is None
    assert downs[0].grad is not None
