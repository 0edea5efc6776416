"""The products of several members at once are those of each by itself, forth and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from impasto.adapters import products

RANKS = {"alike": (3, 3, 3), "apart": (2, 4, 1)}
SCALES = {"one scale": (0.5, 0.5, 0.5), "scales": (0.5, 1.0, 2.0)}


def in_one_memory(downs: list[Tensor], ups: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The same factors as parts of the rows of one matrix, and their gradients as parts of another's."""
    rows = [torch.cat([down.detach().flatten(), up.detach().flatten()]) for down, up in zip(downs, ups, strict=True)]
    values, cut = torch.stack(rows), downs[0].numel()
    grads = torch.zeros_like(values)

    def taken(row: int, like: Tensor, start: int) -> Tensor:
        part = slice(start, start + like.numel())
        found = nn.Parameter(values[row, part].view(like.shape))
        found.data, found.grad = values[row, part].view(like.shape), grads[row, part].view(like.shape)
        return found

    return [taken(at, each, 0) for at, each in enumerate(downs)], [taken(at, each, cut) for at, each in enumerate(ups)]


def factors(
    ranks: tuple[int, ...], sides: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    downs = [torch.randn(rank, 6, *sides, dtype=dtype, requires_grad=True) for rank in ranks]
    return downs, [torch.randn(5, rank, *sides, dtype=dtype, requires_grad=True) for rank in ranks]


@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("lie", ["apart", "in one memory", "ranks apart"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("layer", ["linear", "vectors", "convolution"])
def test_all_at_once_is_each_in_turn(layer: str, rows: int, lie: str, scales: tuple[float, ...]) -> None:
    ranks = RANKS["apart" if lie == "ranks apart" else "alike"]
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
    weight, given = torch.randn_like(expected), [y, x, *downs, *ups]
    wanted = torch.autograd.grad((expected * weight).sum(), given)
    if lie == "in one memory":
        downs, ups = in_one_memory(downs, ups)
    found = products.joint(downs, ups, lambda: scales)(x, y)
    assert_close(found, expected)
    (found * weight).sum().backward()
    for each, want in zip([y, x, *downs, *ups], wanted, strict=True):
        assert_close(each.grad, want)


def test_in_one_memory_nothing_is_copied_and_gradients_are_added_where_they_are() -> None:
    downs, ups = in_one_memory(*factors(RANKS["alike"], ()))
    joint = products.joint(downs, ups, lambda: (1.0, 1.0, 1.0))
    x, y, grads = torch.randn(3, 4, 6), torch.zeros(3, 4, 5), [each.grad for each in (*downs, *ups)]
    for _ in range(2):
        joint(x, y).sum().backward()
    assert all(each.grad is grad for each, grad in zip((*downs, *ups), grads, strict=True))
    twice = [each.grad.clone() for each in downs if each.grad is not None]
    for each in (*downs, *ups):
        assert each.grad is not None
        each.grad.zero_()
    with torch.no_grad():
        ups[1].mul_(3)  # as a step or a file would: seen at once
    joint(x, y).sum().backward()
    for at, (each, before) in enumerate(zip(downs, twice, strict=True)):
        assert_close(each.grad, before / 2 * (3 if at == 1 else 1))


def test_those_at_rest_act_and_learn_nothing() -> None:
    downs, ups = in_one_memory(*factors(RANKS["alike"], ()))
    for each in (*downs, *ups):
        each.requires_grad_(False)
        each.grad = None
    x, y = torch.randn(3, 4, 6), torch.zeros(3, 4, 5, requires_grad=True)
    found = products.joint(downs, ups, lambda: (1.0, 2.0, 1.0))(x, y)
    found.sum().backward()
    assert_close(found[1], 2 * x[1] @ downs[1].T @ ups[1].T)
    assert all(each.grad is None for each in (*downs, *ups))


def test_under_autocast_products_are_in_the_precision_of_the_base_and_gradients_in_that_of_the_adapter() -> None:
    downs, ups = factors((2, 2), ())
    x, y = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 4, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = products.joint(downs, ups, lambda: (1.0, 1.0))(x, y)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert {each.grad.dtype for each in (x, *downs, *ups) if each.grad is not None} == {torch.float32}
    assert all(each.grad is not None for each in (x, *downs, *ups))


def test_an_input_that_learns_nothing_costs_no_gradient() -> None:
    downs, ups = factors((2, 2), ())
    products.joint(downs, ups, lambda: (1.0, 1.0))(x := torch.randn(2, 6), torch.zeros(2, 5)).sum().backward()
    assert x.grad is None
    assert downs[0].grad is not None
