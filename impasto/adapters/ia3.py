"""(IA)3 (Liu et al. 2022): factors on keys, values and hidden values, in the form and with the names of LyCORIS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from impasto.adapters.adapter import filled
from impasto.adapters.config import Ia3
from impasto.adapters.layers import Change, channels, through, unbiased
from impasto.adapters.targets import Layer, Seat, Target

OUTPUTS = ("to_k", "to_v", "k_proj", "v_proj")
"""The ends of paths whose layers' outputs are scaled."""

INPUTS = ("ff.net.2", "mlp.fc2")
"""The ends of those whose inputs are."""


class Ia3Layer(Change):
    """W (1 + w), row by row, or column by column with `on_input`; `w` starts as zero. The bias stays as it is."""

    names: ClassVar = {"factors": "weight"}

    def __init__(self, base: Layer, *, on_input: bool, module_dropout: float = 0.0) -> None:
        super().__init__(module_dropout=module_dropout)
        if not isinstance(base, nn.Linear):
            raise ValueError("(IA)3 is for linear layers")
        self.factors = nn.Parameter(torch.zeros(channels(base)[on_input]))
        self.register_buffer("on_input", torch.tensor(float(on_input)))
        self.on_input: Tensor
        self._on_input = on_input

    def change(self, x: Tensor, y: Tensor, base: Layer) -> Tensor:
        if self._on_input:
            return through(base, x * self.factors, base.weight)
        return self.factors * unbiased(y, base)

    def weight(self, base: nn.Module) -> Tensor:
        assert isinstance(base, Layer)
        factors = 1 + self.factors
        return base.weight.float() * (factors if self._on_input else factors[:, None])

    def length(self, base: nn.Module) -> Tensor:
        """Of what the factors add to the weight: each weighs as much as the row or column that it scales is long."""
        assert isinstance(base, Layer)
        scaled = torch.linalg.vector_norm(base.weight.float(), dim=0 if self._on_input else 1)
        length: Tensor = torch.linalg.vector_norm(self.factors.float() * scaled)
        return length

    def shrink(self, ratio: Tensor) -> None:
        """The factors."""
        self.factors.mul_(ratio)

    def rescale(self) -> None:
        """Take the direction from the file."""
        self._on_input = bool(self.on_input)


def fresh(config: Ia3, seat: Seat, generator: torch.Generator) -> Ia3Layer:
    """A layer at its start; the place in the model says what it scales."""
    on_input = seat.target.path.endswith(INPUTS)
    return Ia3Layer(seat.target.layer, on_input=on_input, module_dropout=config.module_dropout)


def choose(targets: Iterable[Target]) -> list[Target]:
    """The targets that (IA)3 scales, and the norms, which may be trained beside them."""
    return [each for each in targets if each.is_norm or each.path.endswith(OUTPUTS + INPUTS)]


def from_file(base: Layer, tensors: Mapping[str, Tensor]) -> Ia3Layer:
    """The layer that a file's tensors make on `base`. Raises ValueError when they do not fit."""
    return filled(Ia3Layer(base, on_input=bool(tensors["on_input"])), tensors)
