"""LoRA whose first ranks can be used alone (Valipour et al. 2023, "DyLoRA"), in files like any LoRA."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from impasto.adapters.config import DyLora
from impasto.adapters.layers import through
from impasto.adapters.lora import LoraLayer
from impasto.adapters.targets import Layer, Seat, Size


class DyLoraLayer(LoraLayer):
    """A training visit uses the first k rows alone, k a multiple of `unit` that all layers of the visit share.

    They are scaled by alpha / rank * sqrt(rank / k), so that a few rows speak as loudly as all. Previews, validation
    and files have all rows. To cut a file to k rows, store alpha * sqrt(k / rank).
    """

    together = True

    def __init__(self, base: Layer, size: Size, config: DyLora, generator: torch.Generator) -> None:
        super().__init__(base, size, generator)
        self.unit = config.unit

    @property
    def rolls(self) -> bool:
        """Whether a training visit asks for dice at all."""
        return True

    def forward(self, x: Tensor, y: Tensor, base: nn.Module, dice: int | None = None) -> Tensor:
        if dice is None:
            return super().forward(x, y, base)
        assert isinstance(base, Layer)
        rank, kept = len(self.lora_down.weight), self.kept(dice)
        low = through(base, x, self.lora_down.weight[:kept])
        up = self.lora_up.weight[:, :kept]
        high = nn.functional.linear(low, up) if isinstance(base, nn.Linear) else nn.functional.conv2d(low, up)
        return torch.add(y, high, alpha=self.scale * math.sqrt(rank / kept))

    def kept(self, dice: int) -> int:
        """How many rows a visit with these dice trains."""
        share = torch.rand((), generator=torch.Generator().manual_seed(dice)).item()
        return self.unit * (1 + int(share * (len(self.lora_down.weight) // self.unit)))


def fresh(config: DyLora, seat: Seat, generator: torch.Generator) -> DyLoraLayer:
    """A layer at its start."""
    return DyLoraLayer(seat.target.layer, seat.sized, config, generator)
