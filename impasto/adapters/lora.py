"""Low-rank adaptation of linear and convolution layers (Hu et al. 2021, "LoRA", section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from impasto.adapters import dora, products
from impasto.adapters.adapter import AdapterLayer, Joint, filled, share
from impasto.adapters.config import Lora
from impasto.adapters.layers import exact
from impasto.adapters.rolls import Dice, Rolls
from impasto.adapters.targets import Layer, Seat, Size


class LoraLayer(AdapterLayer):
    """y + alpha / rank * up(down(x)); `down` starts as U(-1/sqrt(fan_in), 1/sqrt(fan_in)), `up` as zero.

    With `decompose`, the rows of the merged weight have a learned length (DoRA).
    """

    hastened = frozenset({"lora_up.weight"})

    def __init__(
        self, base: Layer, size: Size, generator: torch.Generator, *,
        dropout: float = 0.0, rank_dropout: float = 0.0, module_dropout: float = 0.0, decompose: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lora_down = _down(base, size.rank)
        self.lora_up = _up(base, size.rank)
        self.register_buffer("alpha", torch.tensor(size.alpha))
        self.alpha: Tensor
        self.scale = size.alpha / size.rank
        self.dropout = dropout
        self.rank_dropout = rank_dropout
        self.module_dropout = module_dropout
        self.dora_scale = dora.scale_of(base) if decompose else None
        with torch.no_grad():
            bound = 1 / math.sqrt(self.lora_down.weight[0].numel())
            self.lora_down.weight.uniform_(-bound, bound, generator=generator)
            self.lora_up.weight.zero_()

    @property
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""
        return bool(self.dropout or self.rank_dropout or self.module_dropout)

    @property
    def branches(self) -> bool:
        """Whether dice decide what is computed, and not only with which numbers."""
        return bool(self.module_dropout)

    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: Dice | None = None) -> Tensor:
        if dice is None or not self.rolls:
            return self._joined(y, self.lora_up(self.lora_down(x)), self.scale, base)
        rolls = Rolls(dice, x.device)
        if self.module_dropout and rolls.sits_out(self.module_dropout):
            return y
        low, scale = self.lora_down(x), self.scale  # [N, ..., rank] or [N, rank, H, W]
        if self.dropout:
            keep = rolls.rand(low.shape) >= self.dropout
            low = low * keep / (1 - self.dropout)
        if self.rank_dropout:
            low = low * _rank_mask(low, self.rank_dropout, rolls)
            scale = scale / (1 - self.rank_dropout)
        return self._joined(y, self.lora_up(low), scale, base)

    def stacked(self, layers: Sequence[AdapterLayer], base: nn.Module) -> Joint | None:
        """Linear layers and 1x1 convolutions, of any ranks."""
        own = [each for each in layers if isinstance(each, LoraLayer) and each.dora_scale is None]
        if len(own) < len(layers) or not _is_product(base):
            return None
        downs, ups = [each.lora_down.weight for each in own], [each.lora_up.weight for each in own]
        if any(each.dtype != downs[0].dtype for each in downs):
            return None
        return products.joint(downs, ups, lambda: [each.scale for each in own])

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        down = self.lora_down.weight.float().flatten(1)  # [rank, in * kernel]
        up = self.lora_up.weight.float().flatten(1)  # [out, rank]
        merged = base.weight.float() + self.scale * (up @ down).reshape(base.weight.shape)
        return merged if self.dora_scale is None else merged * dora.growth(self.dora_scale, merged)

    def length(self, base: nn.Module) -> Tensor:
        """‖up down‖² is the sum of (upᵀ up) ∘ (down downᵀ): rank x rank, whatever the layer's size."""
        down, up = self.lora_down.weight.flatten(1), self.lora_up.weight.flatten(1)
        return self.scale * ((up.T @ up) * (down @ down.T)).sum().clamp_min(0).sqrt()

    def shrink(self, ratio: Tensor) -> None:
        """`up` and `down` alike."""
        share(ratio, [self.lora_up.weight, self.lora_down.weight])

    def rescale(self) -> None:
        """Take the scale from alpha and rank as they now are: after loading a file."""
        self.scale = float(self.alpha) / self.lora_down.weight.shape[0]

    def _joined(self, y: Tensor, high: Tensor, scale: float, base: nn.Module) -> Tensor:
        if self.dora_scale is None:
            return torch.add(y, high, alpha=scale)
        assert isinstance(base, Layer)
        with exact(y), torch.no_grad():
            down, up = self.lora_down.weight.float().flatten(1), self.lora_up.weight.float().flatten(1)
            merged = base.weight.float() + self.scale * (up @ down).view(base.weight.shape)
        change = dora.change(scale * high, y, base, dora.growth(self.dora_scale, merged))
        return y + change.to(y.dtype)


def _down(base: Layer, rank: int) -> Layer:
    if isinstance(base, nn.Linear):
        return nn.Linear(base.in_features, rank, bias=False)
    assert base.groups == 1, "grouped convolutions have no low-rank form here"
    assert isinstance(base.padding, tuple)
    return nn.Conv2d(
        base.in_channels, rank, _pair(base.kernel_size), _pair(base.stride), _pair(base.padding), _pair(base.dilation),
        bias=False,
    )  # fmt: skip


def _up(base: Layer, rank: int) -> Layer:
    if isinstance(base, nn.Linear):
        return nn.Linear(rank, base.out_features, bias=False)
    return nn.Conv2d(rank, base.out_channels, 1, bias=False)


def _is_product(base: nn.Module) -> bool:
    """Whether each place of the output comes from the same place of the input alone."""
    if isinstance(base, nn.Linear):
        return True
    assert isinstance(base, nn.Conv2d)
    return (base.kernel_size, base.stride, base.padding, base.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


def _rank_mask(low: Tensor, share: float, rolls: Rolls) -> Tensor:
    """[N, rank] of ones and zeros, shaped to broadcast over tokens or places."""
    rank_dim = 1 if low.ndim == 4 else low.ndim - 1
    shape = [1] * low.ndim
    shape[0], shape[rank_dim] = low.shape[0], low.shape[rank_dim]
    return (rolls.rand(shape) >= share).to(low.dtype)


def fresh(config: Lora, seat: Seat, generator: torch.Generator) -> LoraLayer:
    """A layer at its start."""
    return LoraLayer(
        seat.target.layer, seat.sized, generator,
        dropout=config.dropout, rank_dropout=config.rank_dropout, module_dropout=config.module_dropout,
        decompose=config.decompose,
    )  # fmt: skip


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> LoraLayer:
    """The layer that a file's tensors (`lora_down.weight`, `lora_up.weight`, `alpha`) make on `base`.

    A file without alpha means alpha = rank. Raises ValueError when the shapes do not fit.
    """
    rank = tensors["lora_down.weight"].shape[0]
    layer = LoraLayer(base, Size(rank, float(rank)), torch.Generator(), decompose="dora_scale" in tensors)
    return filled(layer, tensors)
