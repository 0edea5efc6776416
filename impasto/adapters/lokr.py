"""Kronecker products (Yeh et al. 2024, "LyCORIS", section 3.2), named and scaled as LyCORIS does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.adapters.adapter import filled, share
from impasto.adapters.additive import Added
from impasto.adapters.config import Lokr
from impasto.adapters.layers import channels, exact
from impasto.adapters.targets import Layer, Seat


@dataclass(frozen=True)
class Form:
    """The sides of the two weights whose Kronecker product has the base's shape, and which of them are low-rank."""

    out: tuple[int, int]
    inner: tuple[int, int]
    first_rank: int | None
    second_rank: int | None

    @property
    def rank(self) -> int | None:
        """The rank by which alpha is divided; None if both weights are whole."""
        return self.second_rank or self.first_rank


class LokrLayer(Added):
    """alpha / rank * w1 ⊗ w2 added to the weight; `w2` starts as zero. With both weights whole the scale is 1."""

    def __init__(self, base: Layer, form: Form, alpha: float, config: Lokr, generator: torch.Generator) -> None:
        super().__init__(
            base, alpha if form.rank else 1.0, decompose=config.decompose,
            rank_dropout=config.rank_dropout, module_dropout=config.module_dropout,
        )  # fmt: skip
        self.form = form
        self.kernel = base.weight.shape[2:]
        (out1, out2), (in1, in2) = form.out, form.inner
        if form.first_rank is None:
            self.lokr_w1 = _fresh(generator, out1, in1)
        else:
            self.lokr_w1_a = _fresh(generator, out1, form.first_rank)
            self.lokr_w1_b = _fresh(generator, form.first_rank, in1)
        if form.second_rank is None:
            self.lokr_w2 = nn.Parameter(torch.zeros(out2, in2, *self.kernel))
        else:
            self.lokr_w2_a = _fresh(generator, out2, form.second_rank)
            self.lokr_w2_b = nn.Parameter(torch.zeros(form.second_rank, in2 * self.kernel.numel()))
        self.scale = 1.0
        self.rescale()

    def first(self) -> Tensor:
        """[o1, i1]"""
        if self.form.first_rank is None:
            return self.lokr_w1.float()
        return self.lokr_w1_a.float() @ self.lokr_w1_b.float()

    def second(self) -> Tensor:
        """[o2, i2, ...kernel], scale included."""
        if self.form.second_rank is None:
            return self.scale * self.lokr_w2.float()
        whole = self.lokr_w2_a.float() @ self.lokr_w2_b.float()
        return self.scale * whole.view(self.form.out[1], self.form.inner[1], *self.kernel)

    def delta(self) -> Tensor:
        second = self.second()
        return torch.kron(self.first().view(*self.first().shape, *(1,) * len(self.kernel)), second)

    def added(self, x: Tensor, base: Layer) -> Tensor:
        """(w1 ⊗ w2) x as w1 (x w2ᵀ), with x folded into i1 rows of i2: the product itself is never built."""
        with exact(x):
            first, second = self.first(), self.second()
        if isinstance(base, nn.Linear):
            return (first @ F.linear(x.reshape(*x.shape[:-1], *self.form.inner), second)).flatten(-2)
        rows = x.reshape(-1, self.form.inner[1], *x.shape[2:])  # [N * i1, i2, H, W]
        rows = F.conv2d(rows, second, None, base.stride, base.padding, base.dilation)
        mixed = first @ rows.reshape(len(x), self.form.inner[0], -1)  # [N, o1, o2 * H * W]
        return mixed.reshape(len(x), -1, *rows.shape[2:])

    def length(self, base: nn.Module) -> Tensor:
        """The length of a Kronecker product is the product of the lengths."""
        length: Tensor = torch.linalg.vector_norm(self.first()) * torch.linalg.vector_norm(self.second())
        return length

    def shrink(self, ratio: Tensor) -> None:
        """Two to four alike, as the form has them."""
        first: list[Tensor] = [self.lokr_w1] if self.form.first_rank is None else [self.lokr_w1_a, self.lokr_w1_b]
        share(ratio, first + ([self.lokr_w2] if self.form.second_rank is None else [self.lokr_w2_a, self.lokr_w2_b]))

    def rescale(self) -> None:
        """Take the scale from alpha and rank as they now are: after loading a file."""
        self.scale = float(self.alpha) / self.form.rank if self.form.rank else 1.0


def fresh(config: Lokr, seat: Seat, generator: torch.Generator) -> LokrLayer:
    """A layer at its start, in the form that the settings ask for."""
    base, size = seat.target.layer, seat.sized
    out, inner = (factorization(count, config.factor) for count in channels(base))
    whole = config.full_matrix
    first = size.rank if config.decompose_both and not whole and size.rank < max(out[0], inner[0]) / 2 else None
    second = size.rank if not whole and size.rank < max(out[1], inner[1]) / 2 else None
    return LokrLayer(base, Form(out, inner, first, second), size.alpha, config, generator)


def factorization(count: int, factor: int | None) -> tuple[int, int]:
    """`count` as a product of two, the smaller first.

    `factor` is one of them if it divides; else the most balanced pair whose smaller side is at most `factor`.
    """
    if factor is not None and count % factor == 0:
        return min(factor, count // factor), max(factor, count // factor)
    most = min(math.isqrt(count), factor or count)
    small = next(each for each in range(most, 0, -1) if count % each == 0)
    return small, count // small


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> LokrLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    first_rank = None if "lokr_w1" in tensors else tensors["lokr_w1_b"].shape[0]
    second_rank = None if "lokr_w2" in tensors else tensors["lokr_w2_b"].shape[0]
    out1 = tensors["lokr_w1" if first_rank is None else "lokr_w1_a"].shape[0]
    in1 = tensors["lokr_w1" if first_rank is None else "lokr_w1_b"].shape[1]
    out, inner = channels(base)
    if out % out1 or inner % in1:
        raise ValueError(f"lokr_w1 is {(out1, in1)}, which does not divide the base's {(out, inner)}")
    form = Form((out1, out // out1), (in1, inner // in1), first_rank, second_rank)
    config = Lokr(decompose="dora_scale" in tensors)
    return filled(LokrLayer(base, form, float(form.rank or 1), config, torch.Generator()), tensors)


def _fresh(generator: torch.Generator, out: int, inner: int) -> nn.Parameter:
    bound = 1 / math.sqrt(inner)
    return nn.Parameter(torch.empty(out, inner).uniform_(-bound, bound, generator=generator))
