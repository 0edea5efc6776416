"""Generalized LoRA (Chavan et al. 2023, "One-for-All"), in the form and with the names of LyCORIS."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.adapters.adapter import filled, share
from impasto.adapters.config import Glora
from impasto.adapters.layers import Change, channels, through
from impasto.adapters.targets import Layer, Seat, Size


class GloraLayer(Change):
    """alpha / rank * (W a1 a2 + b1 b2) added to the weight W; `a2` and `b2` start as zero."""

    def __init__(self, base: Layer, size: Size, config: Glora, generator: torch.Generator) -> None:
        super().__init__(rank_dropout=config.rank_dropout, module_dropout=config.module_dropout)
        out, inner = channels(base)
        kernel = base.weight.shape[2:]
        point = (1,) * len(kernel)
        self.a1 = _Weight((inner, size.rank, *point), generator)
        self.a2 = _Weight((size.rank, inner, *point))
        self.b1 = _Weight((out, size.rank, *point), generator)
        self.b2 = _Weight((size.rank, inner, *kernel))
        self.register_buffer("alpha", torch.tensor(size.alpha))
        self.alpha: Tensor
        self.scale = size.alpha / size.rank

    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        low = _pointwise(self.a2.weight, x, base)  # [N, ..., rank] or [N, rank, H, W]
        from_base = through(base, low, self._base_times_a1(base.weight))
        own = _pointwise(self.b1.weight, through(base, x, self.b2.weight), base)
        return self.scale * (from_base + own)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        held = base.weight.float()
        return held + self._added(held)

    def length(self, base: nn.Module) -> Tensor:
        """Of what is added to the weight, which depends on the weight."""
        assert isinstance(base, Layer)
        length: Tensor = torch.linalg.vector_norm(self._added(base.weight.float()))
        return length

    def shrink(self, ratio: Tensor) -> None:
        """Both products, each of their factors alike."""
        share(ratio, [self.a1.weight, self.a2.weight])
        share(ratio, [self.b1.weight, self.b2.weight])

    def _added(self, held: Tensor) -> Tensor:
        """What is added to the weight `held`, fp32."""
        from_base = torch.einsum("or...,ri->oi...", self._base_times_a1(held), self.a2.weight.float().flatten(1))
        own = self.b1.weight.float().flatten(1) @ self.b2.weight.float().flatten(1)
        return self.scale * (from_base + own.view(held.shape))

    def rescale(self) -> None:
        """Take the scale from alpha and rank as they now are: after loading a file."""
        self.scale = float(self.alpha) / self.a2.weight.shape[0]

    def _base_times_a1(self, weight: Tensor) -> Tensor:
        """[O, rank, ...kernel]"""
        a1 = self.a1.weight.flatten(1).to(weight.dtype)
        if weight.ndim == 2:
            return F.linear(weight, a1.T)
        return torch.einsum("oi...,ir->or...", weight, a1)


class _Weight(nn.Module):
    """One named weight."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))
        if generator is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            with torch.no_grad():
                self.weight.uniform_(-bound, bound, generator=generator)


def _pointwise(weight: Tensor, x: Tensor, base: Layer) -> Tensor:
    """`x` through a weight that looks at one place at a time."""
    return F.linear(x, weight) if isinstance(base, nn.Linear) else F.conv2d(x, weight)


def fresh(config: Glora, seat: Seat, generator: torch.Generator) -> GloraLayer:
    """A layer at its start."""
    return GloraLayer(seat.target.layer, seat.sized, config, generator)


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> GloraLayer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    rank = tensors["a2.weight"].shape[0]
    return filled(GloraLayer(base, Size(rank, float(rank)), Glora(), torch.Generator()), tensors)
