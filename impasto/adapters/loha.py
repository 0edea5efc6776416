"""Low-rank Hadamard products (Hyeon-Woo et al. 2022, "FedPara"), named and scaled as LyCORIS does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from impasto.adapters.adapter import filled, share
from impasto.adapters.additive import Added
from impasto.adapters.config import Loha
from impasto.adapters.layers import channels
from impasto.adapters.targets import Layer, Seat, Size


class LohaLayer(Added):
    """alpha / rank * (w1_a w1_b) ∘ (w2_a w2_b) added to the weight; `w2_a` starts as zero."""

    def __init__(self, base: Layer, size: Size, config: Loha, generator: torch.Generator) -> None:
        super().__init__(
            base, size.alpha, decompose=config.decompose,
            rank_dropout=config.rank_dropout, module_dropout=config.module_dropout,
        )  # fmt: skip
        out, _ = channels(base)
        wide = base.weight[0].numel()  # inputs, times the kernel
        self.hada_w1_a = nn.Parameter(torch.empty(out, size.rank).normal_(std=0.1, generator=generator))
        self.hada_w1_b = nn.Parameter(torch.empty(size.rank, wide).normal_(generator=generator))
        self.hada_w2_a = nn.Parameter(torch.zeros(out, size.rank))
        self.hada_w2_b = nn.Parameter(torch.empty(size.rank, wide).normal_(generator=generator))
        self.scale = size.alpha / size.rank
        self.shape = base.weight.shape

    def delta(self) -> Tensor:
        factors = (self.hada_w1_a, self.hada_w1_b, self.hada_w2_a, self.hada_w2_b)
        return self.scale * hadamard(*(each.float() for each in factors)).view(self.shape)

    def length(self, base: nn.Module) -> Tensor:
        """Of the product itself: it has no shorter form."""
        length: Tensor = torch.linalg.vector_norm(self.delta())
        return length

    def shrink(self, ratio: Tensor) -> None:
        """All four alike."""
        share(ratio, [self.hada_w1_a, self.hada_w1_b, self.hada_w2_a, self.hada_w2_b])

    def rescale(self) -> None:
        """Take the scale from alpha and rank as they now are: after loading a file."""
        self.scale = float(self.alpha) / self.hada_w1_b.shape[0]


def hadamard(w1_a: Tensor, w1_b: Tensor, w2_a: Tensor, w2_b: Tensor) -> Tensor:
    """(w1_a w1_b) ∘ (w2_a w2_b). The two full-size products are made again for the backward pass, not kept."""
    return cast(Tensor, _Hadamard.apply(w1_a, w1_b, w2_a, w2_b))  # type: ignore[no-untyped-call]


class _Hadamard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w1_a: Tensor, w1_b: Tensor, w2_a: Tensor, w2_b: Tensor) -> Tensor:
        ctx.save_for_backward(w1_a, w1_b, w2_a, w2_b)
        return (w1_a @ w1_b).mul_(w2_a @ w2_b)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w1_a, w1_b, w2_a, w2_b = ctx.saved_tensors
        first = grad * (w2_a @ w2_b)
        second = grad * (w1_a @ w1_b)
        return first @ w1_b.T, w1_a.T @ first, second @ w2_b.T, w2_a.T @ second


def fresh(config: Loha, seat: Seat, generator: torch.Generator) -> LohaLayer:
    """A layer at its start."""
    return LohaLayer(seat.target.layer, seat.sized, config, generator)


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> LohaLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    rank = tensors["hada_w1_b"].shape[0]
    config = Loha(decompose="dora_scale" in tensors)
    layer = LohaLayer(base, Size(rank, float(rank)), config, torch.Generator())
    return filled(layer, tensors)
