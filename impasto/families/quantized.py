"""A frozen base in 8 or 4 bits: layers that hold few bits and compute with the weight those stand for.

Quantized are the linear and convolution layers that adapters may ride on, by far the most of a base. Norms, biases,
embeddings, time layers and the first and last convolution stay as they are: small, and what rounding hurts most there.
A layer makes its weight anew for each forward and each backward pass, so at no time is more than one at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, assert_never, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from impasto.families.config import Format

E4M3_LARGEST, INT8_LARGEST = 448.0, 127.0
BLOCK = 64
"""Weights that share a scale in nf4."""

OWN = ("_dtype", "_shape")
"""What a layer in few bits knows beside its tensors."""


@dataclass(frozen=True)
class Scaled:
    """One number of 8 bits a weight and one fp32 scale an output: fp8 (e4m3) and int8."""

    numbers: Tensor
    """[O, ...]"""

    scale: Tensor
    """[O, 1, ...]"""

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The weight it stands for."""
        return (self.numbers.float() * self.scale).to(dtype)


@dataclass(frozen=True)
class Nf4:
    """Four bits a weight, two in a byte, and one fp32 scale for each 64 (Dettmers et al. 2023, "QLoRA", section 3)."""

    numbers: Tensor
    """[ceil(numel / 64) * 32], uint8."""

    scale: Tensor
    """[ceil(numel / 64), 1]"""

    levels: Tensor
    """[16]"""

    shape: torch.Size

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The weight it stands for."""
        both = torch.cartesian_prod(self.levels, self.levels)  # [256, 2]: what each byte stands for
        blocks = both[self.numbers.int()].view(-1, BLOCK) * self.scale
        return blocks.view(-1)[: self.shape.numel()].view(self.shape).to(dtype)


Held = Scaled | Nf4

Fast = tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]
"""What a linear layer makes of its input, and of a gradient, from its numbers and scales."""


def nf4_levels() -> list[float]:
    """The 16 values of nf4: quantiles of a normal distribution, zero among them, scaled to -1..1 (QLoRA, eq. 4)."""
    normal, outermost = NormalDist(), (1 - 1 / 32 + 1 - 1 / 30) / 2
    above = [normal.inv_cdf(outermost + (0.5 - outermost) * at / 8) for at in range(8)]
    below = [-normal.inv_cdf(outermost + (0.5 - outermost) * at / 7) for at in range(7)]
    return [each / above[0] for each in sorted([*below, 0.0, *above])]


@torch.no_grad()
def hold(weight: Tensor, form: Format) -> Held:
    """`weight` [O, ...] in few bits, each rounded to the nearest that there is."""
    rows = weight.float().flatten(1)
    match form:
        case "fp8":
            scale = _scale(rows, E4M3_LARGEST)
            numbers = (rows / scale).to(torch.float8_e4m3fn)
        case "int8":
            scale = _scale(rows, INT8_LARGEST)
            numbers = (rows / scale).round().to(torch.int8)
        case "nf4":
            return _nf4(weight)
        case _:
            assert_never(form)
    return Scaled(numbers.view(weight.shape), scale.view(-1, *(1,) * (weight.ndim - 1)))


def quantize(layers: Iterable[nn.Module], form: Format, device: torch.device) -> None:
    """Hold the weights of `layers` in few bits from here on; each is worked on, and then stays, on `device`."""
    for layer in layers:
        assert type(layer) in (nn.Linear, nn.Conv2d), f"{type(layer).__name__} is not held in few bits"
        weight = cast(nn.Parameter, layer.weight).detach()
        held = hold(weight.to(device), form)
        del layer.weight
        layer.__class__ = QuantizedLinear if isinstance(layer, nn.Linear) else QuantizedConv2d
        quantized = cast(QuantizedLinear | QuantizedConv2d, layer)
        quantized.keep(held, weight.dtype)


@torch.no_grad()
def round_to(layers: Iterable[nn.Module], form: Format) -> None:
    """Give plain `layers` the weights that they would have in few bits: the same base, held in plain numbers."""
    for layer in layers:
        weight = cast(Tensor, layer.weight)
        weight.copy_(hold(weight, form).weight(weight.dtype))


class _Quantized(nn.Module):
    """What both kinds of layer share. They are made of plain ones, so that everything else about these stays true."""

    numbers: Tensor
    scale: Tensor
    levels: Tensor
    fast: Fast | None = None
    """The layer's product with the few bits themselves, and its way back, for steps of a training."""

    def keep(self, held: Held, dtype: torch.dtype) -> None:
        """Hold the weight so; `dtype` is what the layer had, and what `weight` comes in."""
        self._dtype = dtype
        self._shape: torch.Size | None = None
        self.register_buffer("numbers", held.numbers)
        self.register_buffer("scale", held.scale)
        if isinstance(held, Nf4):
            self._shape = held.shape
            self.register_buffer("levels", held.levels)

    @property
    def weight(self) -> Tensor:
        """The weight that the few bits stand for, made anew: reading it costs time, writing to it changes nothing."""
        return self.held().weight(self._dtype)

    def stand_in(self) -> nn.Parameter:
        """A weight of the same make that holds nothing, for who only asks of what make it is."""
        shape = self.numbers.shape if self._shape is None else self._shape
        nothing = torch.zeros(1, dtype=self._dtype, device=self.scale.device)
        return nn.Parameter(nothing.expand(shape), requires_grad=False)

    def held(self) -> Held:
        """The few bits."""
        if self._shape is None:
            return Scaled(self.numbers, self.scale)
        return Nf4(self.numbers, self.scale, self.levels, self._shape)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        fast = self.fast if torch.is_grad_enabled() else None
        return cast(Tensor, _Product.apply(x.to(computed), self, fast))  # type: ignore[no-untyped-call]

    def through(self, x: Tensor) -> Tensor:
        """The layer's output for `x`."""
        raise NotImplementedError

    def back(self, grad: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of `shape`."""
        raise NotImplementedError


class QuantizedLinear(_Quantized, nn.Linear):  # type: ignore[override]
    """A frozen nn.Linear whose weight is held in few bits."""

    def through(self, x: Tensor) -> Tensor:
        return F.linear(x, self.held().weight(x.dtype), _as(self.bias, x))

    def back(self, grad: Tensor, shape: torch.Size) -> Tensor:
        found: Tensor = grad @ self.held().weight(grad.dtype)
        return found


class QuantizedConv2d(_Quantized, nn.Conv2d):  # type: ignore[override]
    """A frozen nn.Conv2d whose weight is held in few bits."""

    def through(self, x: Tensor) -> Tensor:
        found: Tensor = self._conv_forward(x, self.held().weight(x.dtype), _as(self.bias, x))
        return found

    def back(self, grad: Tensor, shape: torch.Size) -> Tensor:
        assert self.padding_mode == "zeros"
        found: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            shape, self.held().weight(grad.dtype), grad, self.stride, self.padding, self.dilation, self.groups
        )
        return found


class _Product(torch.autograd.Function):
    """A layer's product that keeps nothing for the backward pass: the weight is made again there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Quantized, fast: Fast | None) -> Tensor:
        ctx.layer, ctx.shape, ctx.fast = layer, x.shape, fast
        if fast is None:
            return layer.through(x)
        made = fast[0](x, layer.numbers, layer.scale)
        bias = _as(cast("Tensor | None", layer.bias), x)
        return made if bias is None else made + bias

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if ctx.fast is not None:
            return ctx.fast[1](grad, ctx.layer.numbers, ctx.layer.scale), None, None
        return ctx.layer.back(grad, ctx.shape), None, None


def _as(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)


def _scale(rows: Tensor, largest: float) -> Tensor:
    """[O, 1]: what makes each row's largest number the largest there is; 1 for rows of zeros."""
    found = rows.abs().amax(1, keepdim=True) / largest
    return torch.where(found > 0, found, torch.ones_like(found))


def _nf4(weight: Tensor) -> Nf4:
    flat = weight.float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale = _scale(blocks, 1.0)
    levels = torch.tensor(nf4_levels(), device=weight.device)
    codes = torch.bucketize(blocks / scale, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return Nf4(codes[:, 0] * 16 + codes[:, 1], scale, levels, weight.shape)
